"""An experiment in a folder: searches without gradients whose scores are measured elsewhere, generation by generation.

experiment.json                 neurons, reference images, and all scores
evolution.npz                   the search; with named neurons one in each NEURON/
gen-0003/image-00.png, ...      the images of a generation, reference images with them, and scores.csv to fill in
responses.csv                   all scores of finished generations
codes.safetensors               the codes of all images
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_prior.applications.evolution import Evolution
from gen_prior.applications.evolution_resume import load_or_create
from gen_prior.applications.evolution_view import ExperimentView
from gen_prior.applications.experiment_record import (
    RECORD,
    SCORE,
    Record,
    Table,
    check_neurons,
    check_references,
    copy_references,
    generation_name,
    show_references,
)
from gen_prior.applications.responses import COLUMNS, NO_CODE
from gen_prior.applications.scores_file import IMAGE
from gen_prior.applications.scores_table import Waiting, check_measured, read_table
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.hub.tensors import save_safetensors
from gen_prior.util.files import as_output_errors, is_folder
from gen_prior.util.folders import only_writer
from gen_prior.util.image_io import write_png
from gen_prior.util.random import check_seed
from gen_prior.util.tables import Columns, write_csv, write_tables

EVOLUTION, SCORES = "evolution.npz", "scores.csv"


@dataclass(frozen=True)
class Told:
    """Scores that `Experiment.tell` received: the generation, and images of each search without a score."""

    generation: int
    missing: dict[str, int]


class Experiment(ExperimentView):
    """Searches for one or more neurons whose scores an experiment measures, in a folder.

        experiment = Experiment("cell", "dgn-lite0", population=24)
        folder = experiment.ask()               # cell/gen-0000: show its images, fill in its scores.csv
        experiment.tell(folder / "scores.csv")  # ... hours later, in another process

    Every search has images of its own in each generation, which alternate in the order of their names, and all
    searches are told together.

    Args:
        folder: of this experiment, which goes on there if it was begun.
        generator: the prior.
        neurons: names of several neurons, or of the only one.
        references: image files, or folders of them, that are shown with every generation and have rows of their own in
            `scores.csv`; they take no part in the search. They are copied when the experiment begins.
        seed: of the first neuron's search; the next ones have the next seeds, so that they begin with other images.
        options: those of `Evolution`.

    Raises:
        OptionError: other neurons or options than those of the experiment in the folder, or names that cannot be those
            of files. OutputError: the folder is damaged, or cannot be written to.
    """

    def __init__(
        self,
        folder: str | Path,
        generator: Generator | str,
        *,
        neurons: Sequence[str] = (),
        references: Sequence[str | Path] = (),
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.folder, self.generator = Path(folder), as_generator(generator)
        names, self._references = check_neurons(neurons), [Path(path) for path in references]
        self.record = Record.read(self.folder)
        if self.record is None and list(self.folder.glob("gen-[0-9]*")):
            raise OutputError(f"{self.folder} holds generations, but {RECORD} is missing", fix="pass another --out")
        if self.record is not None and names not in ([], self.record.neurons):
            raise OptionError(
                f"{self.folder} holds an experiment with {', '.join(self.record.neurons)}, not {', '.join(names)}",
                fix="leave the names out, or pass another --out",
            )
        self.neurons: list[str] = self.record.neurons if self.record is not None else names or [SCORE]
        self.searches = {name: self._search(name, options, seed) for name in self.neurons}
        self._tell_searches()

    @property
    def views(self) -> Mapping[str, Evolution]:
        """Name of each neuron -> its search."""
        return self.searches

    @property
    def generation(self) -> int:
        """Number of the generation that waits for scores, or of the next one; from 0."""
        return min(len(search.scores) for search in self.searches.values())

    @property
    def waits(self) -> bool:
        """True from `ask` to `tell`."""
        return all(search.waits for search in self.searches.values())

    def ask(self) -> Path:
        """Write the generation that waits for scores, and return its folder. What is there already is left as it is.

        Raises `OptionError` for other references than those of the experiment, `OutputError` if it cannot be written.
        """
        with only_writer(self.folder):
            record = self._record()
            codes = {name: search.ask().codes for name, search in self.searches.items()}
            for name in self.searches:
                self._save(name)
            folder = self.folder / generation_name(self.generation)
            for file, name, place in self._images():
                if not (folder / file).exists():
                    write_png(folder / file, self._image(codes[name][place]))
            show_references(record, self.folder, folder)
            if not (folder / SCORES).exists():
                self._write_scores(self.generation, {})
        return folder

    def tell(self, path: str | Path) -> Told:
        """Receive the scores of the generation that waits: its `scores.csv`, filled in, or numbers alone in order.

        `path` may also be the generation's folder. Several rows of one image count as their mean. Images without a row
        or a number are missing, see `Evolution.tell`. Raises `OptionError` for scores of another generation or of
        unknown images, and as `Evolution.tell` does; then nothing has changed.
        """
        if not isinstance(path, str | PathLike):
            raise OptionError(
                f"scores are told by a file that names their images, got {type(path).__name__}",
                fix="fill in scores.csv of the folder that ask() returned, and pass its path; a list: gp.Evolution",
            )
        path = Path(path) / SCORES if is_folder(path) else Path(path)
        number = self.generation
        if not self.waits:
            done = f": {generation_name(number - 1)} was told before" if number else ""
            raise OptionError(f"no generation waits for scores{done}", fix="gen-prior evolve --ask")
        with only_writer(self.folder):
            if not (self.folder / generation_name(number)).is_dir():
                self.ask()  # of a search of version 0.1, which wrote no such folders
            record, rows = self._record(), self._rows(number)
            first = self.searches[self.neurons[0]].scores
            own, before = rows[: len(self._images())], [float(score) for score in first[-1]] if first else None
            table = read_table(path, Waiting(self.folder, number, self.neurons, own, rows, before))
            scores = {name: self._own_scores(table, name, number) for name in self.neurons}
            check_measured(path, scores)
            for name, values in scores.items():
                self.searches[name].checked_scores(values)
            self._write_scores(number, table)
            record.generations.append(table)
            record.write(self.folder)  # before the searches, which can be told again from it
            self._tell_searches()
        return Told(number, {name: int(values.isnan().sum()) for name, values in scores.items()})

    def export(self) -> list[Path]:
        """Write `responses.csv` and `codes.safetensors`: all images of the searches with their codes, and all scores.

        Returns their paths. Raises `OutputError` if they cannot be written.
        """
        codes = self.folder / "codes.safetensors"
        tensors = {"codes" if name == SCORE else name: one.codes() for name, one in self.searches.items()}
        with only_writer(self.folder), as_output_errors(codes):
            save_safetensors(codes, tensors, {})
            return [*write_tables(self.folder, "responses", self._responses(), COLUMNS), codes]

    def best_image(self, neuron: str) -> Tensor | None:
        """The image `[3, H, W]` of a neuron's highest score so far; None before the first."""
        code = self.searches[neuron].best_code
        return None if code is None else self._image(code)

    def _image(self, code: Tensor) -> Tensor:
        with torch.no_grad():
            return self.generator.final_images(code[None].to(self.generator.device))[0].cpu()

    def _search(self, name: str, options: Mapping[str, Any], seed: int | None) -> Evolution:
        """The search of a neuron: the one in the folder, or a new one."""
        place = self.neurons.index(name)
        given = dict(options) | ({} if seed is None else {"seed": check_seed(seed) + place})
        path = self._path(name)
        return load_or_create(path, self.generator, None, given if path.is_file() else {"seed": place} | given)

    def _path(self, name: str) -> Path:
        return self.folder / EVOLUTION if name == SCORE else self.folder / name / EVOLUTION

    def _save(self, name: str) -> None:
        self.searches[name].save(self._path(name))

    def _record(self) -> Record:
        """The record, begun if there is none. Raises `OptionError` for other references than those it has."""
        if self.record is None:
            references = copy_references(self._references, self.folder) if self._references else []
            told = [self._table_of(number) for number in range(self.generation)]
            self.record = Record(self.neurons, references, told)
            self.record.write(self.folder)
        elif self._references:
            check_references(self._references, self.record, self.folder)
        return self.record

    def _table_of(self, number: int) -> Table:
        """The scores of a generation from the only search itself, where version 0.1 kept them."""
        name = self.neurons[0]
        scores = zip(self._images(), self.searches[name].scores[number], strict=True)
        return {f"{generation_name(number)}/{file}": {name: float(score)} for (file, _, _), score in scores}

    def _tell_searches(self) -> None:
        """Tell the searches what the record holds and they do not know: after `tell`, and after a crash inside it."""
        generations = self.record.generations if self.record is not None else []
        for name, search in self.searches.items():
            for number in range(len(search.scores), len(generations)):
                search.ask()
                search.tell(self._own_scores(generations[number], name, number))
                self._save(name)

    def _images(self) -> list[tuple[str, str, int]]:
        """(file, neuron, place in its search) of each image of a generation, in the order in which they are named."""
        population = self.searches[self.neurons[0]].settings["population"]
        return [
            (f"image-{place:02d}.png" if name == SCORE else f"image-{place:02d}-{name}.png", name, place)
            for place in range(population)
            for name in self.neurons
        ]

    def _rows(self, number: int) -> list[str]:
        """Names of the rows of a generation's `scores.csv`: its images, then the references."""
        references = [one["name"] for one in self.record.references] if self.record is not None else []
        return [f"{generation_name(number)}/{file}" for file in [*(one[0] for one in self._images()), *references]]

    def _write_scores(self, number: int, table: Table) -> None:
        """Write `scores.csv` of a generation with the scores in `table`, empty where there is none."""
        rows = [{IMAGE: name, **table.get(name, {})} for name in self._rows(number)]
        columns: Columns = {IMAGE: str, **dict.fromkeys(self.neurons, float)}
        write_csv(self.folder / generation_name(number) / SCORES, rows, columns)

    def _own_scores(self, table: Table, name: str, number: int) -> Tensor:
        """Scores `[N]` of the images of a neuron's own search, NaN where there is none."""
        images = [f"{generation_name(number)}/{file}" for file, neuron, _ in self._images() if neuron == name]
        return torch.tensor([table.get(image, {}).get(name, math.nan) for image in images], dtype=torch.float64)

    def _responses(self) -> list[dict[str, Any]]:
        """Rows of `responses.csv`: images of a search have a row also where their score is missing."""
        rows: list[dict[str, Any]] = []
        images, population = self._images(), self.searches[self.neurons[0]].settings["population"]
        for number, table in enumerate(self.record.generations if self.record is not None else []):
            for index, image in enumerate(self._rows(number)):
                search, place = images[index][1:] if index < len(images) else (None, 0)
                row: dict[str, Any] = {"generation": number, "image": image, "kind": "evolved"}
                row |= {"search": search, "code": number * population + place}
                if search is None:
                    row |= {"kind": "reference", "code": NO_CODE}
                measured = table.get(image, {})
                rows += [
                    row | {"neuron": neuron, "score": measured.get(neuron)}
                    for neuron in self.neurons
                    if neuron in measured or neuron == search
                ]
        return rows


__all__ = ["Experiment", "Told"]
