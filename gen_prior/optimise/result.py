"""Results: images, codes, numbers and every setting; saved as folders that replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier, as_classifier
from gen_prior.classifiers import load_described as load_described_classifier
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import Generator, as_generator, load_described
from gen_prior.objectives import Objective
from gen_prior.objectives.rebuild import rebuild
from gen_prior.optimise.batch import BatchResult
from gen_prior.optimise.contact_sheet import write_contact_sheets
from gen_prior.optimise.replay_checks import check_input, check_objectives, is_own
from gen_prior.optimise.resolve import ResolvedObjective, unique_slugs
from gen_prior.optimise.result_folder import Record, check_saved_result
from gen_prior.optimise.result_rows import write_result_numbers
from gen_prior.optimise.result_view import ResultView
from gen_prior.optimise.stored_result import UNFINISHED, item_shapes, read_item, read_record
from gen_prior.optimise.unit_scale import Field, Placement
from gen_prior.util.folders import run_writer
from gen_prior.util.reading import first_line

T = TypeVar("T")
Rerun = Callable[["Result", Classifier, Generator, list[str | Objective], Path | None], "Result"]
"""`gen_prior.optimise.synthesize.rerun`, which lies above this module."""


@dataclass(eq=False, repr=False)
class Result(ResultView):
    """Images, codes and numbers of `synthesize`: one item per target and seed.

    The images and codes of a result that is in a folder (`synthesize(..., out=...)`, `load_result`) are not kept in
    memory: they are read from it whenever asked for, all by `images` and `codes`, those of a target by `images_of` and
    `codes_of`, and a single one by `result["goldfish", 0]`, an item with image, code and numbers.

    Attributes:
        images: `[T, S, 3, H, W]`, RGB, in [0, 1].
        codes: `[T, S, *code_shape]`.
        activations: `[T, S]`, of the final images as they are.
        start_activations: `[T, S]`, of the images that the optimisation started from, after its trials if any.
        history: `[T, S, steps]`, the activation seen at each step, under that step's transforms; NaN at the end where
            hidden units take fewer steps than classes.
        status: `status[t][s]`: "ok", or what went wrong with that item.
        terms: `terms[t][s]`: the activation of each unit of a mix, as `targets[t]["terms"]` lists them; else empty.
        targets: one dict per target: name, layer, unit, objective.
        seeds: the seeds.
        settings: classifier, generator, recipe, batches, versions: all that the result is a function of.
        seconds: time of the optimisation.
        slugs: one file name per target.
    """

    images: Tensor
    codes: Tensor
    activations: Tensor
    start_activations: Tensor
    history: Tensor
    status: list[list[str]]
    targets: list[dict[str, Any]]
    seeds: list[int]
    settings: dict[str, Any]
    seconds: float
    slugs: list[str]
    terms: list[list[list[float]]]
    _classifier: Classifier | None = field(default=None, init=False)
    _generator: Generator | None = field(default=None, init=False)
    _rerun: Rerun | None = field(default=None, init=False)
    _folder: Path | None = field(default=None, init=False)
    _record: dict[str, Any] = field(default_factory=dict, init=False)

    @classmethod
    def from_folder(cls, folder: Path) -> Result:
        """The result in `folder`, every item checked against the record. Raises `OutputError`."""
        record = read_record(folder)
        items, shape = record["items"], (len(record["targets"]), len(record["seeds"]))
        names = ("activation", "start_activation", "history")
        numbers = [torch.zeros(*shape, *item_shapes(record)[name]) for name in names]
        for index, item in enumerate(items):
            if item["status"] != UNFINISHED:
                tensors = read_item(folder, item, item_shapes(record))
                for name, values in zip(names, numbers, strict=True):
                    values.view(len(items), *values.shape[2:])[index] = tensors[name]
        status = [str(item["status"]) for item in items]
        if all(one == UNFINISHED for one in status):
            raise OutputError(f"the result in {folder} holds no finished item")
        activations, start_activations, history = numbers
        made = cls(
            torch.empty(0), torch.empty(0), activations, start_activations, history, _rows(status, shape[1]),
            list(record["targets"]), list(record["seeds"]), dict(record["settings"]), float(record["seconds"]),
            list(record["slugs"]), _rows([_terms(item) for item in items], shape[1]),
        )  # fmt: skip
        del made.images, made.codes  # `__getattr__` reads them
        made._folder, made._record = folder, record
        return made

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor:
            if name not in ("images", "codes") or self.__dict__.get("_folder") is None:
                raise AttributeError(f"a result has no {name}")
            of = self.images_of if name == "images" else self.codes_of
            return torch.stack([of(t) for t in range(len(self.targets))])

    def tensor_of(self, name: str, t: int, s: int) -> Tensor:
        """The "image" or "code" of target `t` and seed number `s`; zero where it is not finished."""
        if f"{name}s" in self.__dict__:
            tensor: Tensor = self.__dict__[f"{name}s"][t, s]
            return tensor
        assert self._folder is not None
        item, shapes = self._record["items"][t * len(self.seeds) + s], item_shapes(self._record)
        return (
            torch.zeros(shapes[name]) if item["status"] == UNFINISHED else read_item(self._folder, item, shapes)[name]
        )

    @classmethod
    def assemble(
        cls,
        resolved: Sequence[ResolvedObjective],
        seeds: list[int],
        results: Sequence[BatchResult],
        settings: dict[str, Any],
        seconds: float,
    ) -> Result:
        """The result of batches that follow each other, targets outermost; items after the last are not finished."""
        grid = (len(resolved), len(seeds))
        flat = [status for result in results for status in result.status]
        missing = grid[0] * grid[1] - len(flat)
        flat += [UNFINISHED] * missing

        def joined(name: str) -> Tensor:
            parts = [getattr(result, name) for result in results]
            whole = torch.cat([*parts, parts[0].new_zeros(missing, *parts[0].shape[1:])])
            return whole.view(*grid, *whole.shape[1:])

        terms = [terms for result in results for terms in result.terms]
        terms += [[] for _ in range(missing)]
        return cls(
            joined("images"),
            joined("codes"),
            joined("activations"),
            joined("start_activations"),
            joined("history"),
            _rows(flat, grid[1]),
            [one.to_dict() for one in resolved],
            seeds,
            settings,
            seconds,
            unique_slugs(resolved),
            _rows(terms, grid[1]),
        )

    def inputs(self, t: int, classifier: Classifier | str | None = None) -> Tensor:
        """The classifier's inputs for target `t`: `[S, 3, H, W]` in [0, 1], a unit's image at its place in them.

        `classifier`: the one of the result where None.
        """
        classifier = self._loaded_classifier() if classifier is None else as_classifier(classifier)
        field = self.targets[t].get("field")
        place = Placement(
            [Field(*field) if field else None] * len(self.seeds), classifier.input_size, classifier.device
        )
        return classifier.as_seen(place(classifier.resize(self.images_of(t).to(classifier.device)))).cpu()

    def _loaded_classifier(self) -> Classifier:
        """The classifier of this result; loaded by its name if it was read from a folder."""
        if self._classifier is None:
            device = self.settings["environment"]["device"]
            self._classifier = load_described_classifier(self.settings["classifier"], device=device)
        return self._classifier

    def attach(self, classifier: Classifier | None, generator: Generator | None, rerun: Rerun) -> None:
        """Remember what made this result, for `replay`: networks (None: loaded by name) and how to run it again."""
        self._classifier, self._generator, self._rerun = classifier, generator, rerun

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write what `synthesize(..., out=out)` writes, and return `out`.

        Each item as PNG and, exact, as safetensors with code and numbers, `result.json`, and contact sheets. Of a
        result that is on disk, one image at a time is in memory. Raises `OptionError` for a folder that holds another
        run, unless `overwrite` is given, which replaces it, and `OutputError` for one that cannot be written to.
        """
        folder = Path(out)
        if self._folder is not None and folder.resolve() == self._folder.resolve():
            return folder  # it is there
        record = Record(
            self.targets, self.slugs, self.seeds, self.settings,
            self.evaluations, *(list(self.tensor_of(name, 0, 0).shape) for name in ("image", "code")),
        )  # fmt: skip
        record.seconds = self.seconds
        done = [index for index, (t, s) in enumerate(record.pairs) if self.status[t][s] != UNFINISHED]
        with run_writer(folder):
            check_saved_result(folder, record, self.activations, overwrite=overwrite)
            contents = (self._finished(record, index) for index in done)
            record.write(folder, done, contents, replace=overwrite)
            if done:
                self.write_reports(folder)
        return folder

    def _finished(self, record: Record, index: int) -> list[bytes]:
        """Mark an item as finished in `record`; its files, in the order of `Record.files_of`."""
        t, s = record.pairs[index]
        tensors = {name: self.tensor_of(name, t, s) for name in ("image", "code")}
        tensors |= {"activation": self.activations[t, s], "start_activation": self.start_activations[t, s]}
        tensors["history"] = self.history[t, s]
        return record.finish(index, tensors, self.status[t][s], self.terms[t][s])

    def write_reports(self, folder: Path) -> None:
        """Write into `folder` what is made of the items: contact sheets and `numbers.csv`."""
        write_contact_sheets(self, folder)
        write_result_numbers(self, folder)

    def replay(
        self,
        classifier: Classifier | str | None = None,
        generator: Generator | str | None = None,
        *,
        objective: Objective | Sequence[Objective] | None = None,
        out: str | Path | None = None,
    ) -> Result:
        """Run the same synthesis again: bit-identical on a CPU of the same kind, with the same versions.

        Args:
            classifier, generator: themselves or by name; those of the settings are loaded where None.
            objective: the objectives that no file holds, which are functions of your own or compare with photographs:
                one, or one for each of these targets in order. Those that `gen_prior.objectives` makes of numbers, and
                `match` of at most 16,384, are in the file.
            out: a new folder, where the images go as they are finished, so that memory does not grow with their number.

        Raises:
            OptionError: functions of your own that are not given, or another input size, mean or std.
            OutputError: settings of a folder that are damaged.
        """
        place = None if out is None else Path(out)
        classifier = None if classifier is None else as_classifier(classifier)
        generator = None if generator is None else as_generator(generator)
        given = [objective] if isinstance(objective, Objective) else list(objective or [])
        if self._folder is None:
            return self._replay(classifier, generator, given, place)
        try:
            return self._replay(classifier, generator, given, place)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise OutputError(f"the result in {self._folder} cannot be replayed: {first_line(error)}") from error

    def _replay(
        self, classifier: Classifier | None, generator: Generator | None, given: list[Objective], out: Path | None
    ) -> Result:
        custom = [name for name, count in self.settings["custom"].items() if count]
        if custom or self.settings["started_from"] != "seeds":
            what = f"{' and '.join(custom)} of your own" if custom else "given codes"
            raise OptionError(
                f"this result used {what}, which no file holds",
                fix="call synthesize again" if custom else "call synthesize(..., start=...) again",
            )
        check_objectives(self.targets, len(given))
        device, parts = self.settings["environment"]["device"], iter(given)
        classifier = classifier or self._loaded_classifier()
        check_input(self.settings, classifier)
        targets = [next(parts) if is_own(target) else _recorded(target, classifier) for target in self.targets]
        generator = generator or self._generator or load_described(self.settings["generator"], device=device)
        if self._rerun is None:
            raise OptionError("this result was not made by synthesize", fix="call synthesize, or load_result")
        return self._rerun(self, classifier, generator, targets, out)


def _recorded(target: dict[str, Any], classifier: Classifier) -> str | Objective:
    """The target that a record names, or the objective that it describes."""
    if target.get("origin") is None:
        return str(target["target"])
    return replace(rebuild(target["origin"], classifier), description=target["objective"])


def _terms(item: dict[str, Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in item.get("terms", [])]


def _rows(flat: list[T], columns: int) -> list[list[T]]:
    return [flat[start : start + columns] for start in range(0, len(flat), columns)]
