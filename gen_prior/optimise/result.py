"""Results: images, codes, numbers and every setting; saved as folders that replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import Generator, load_described
from gen_prior.optimise.batch import BatchResult
from gen_prior.optimise.resolve import ResolvedObjective, item_names, unique_slugs
from gen_prior.optimise.result_folder import Record, beside_photographs
from gen_prior.optimise.stored_result import UNFINISHED, item_shapes, read_item, read_record
from gen_prior.optimise.unit_scale import Field, Placement
from gen_prior.recipe import Recipe
from gen_prior.util.folders import only_writer
from gen_prior.util.reading import first_line

T = TypeVar("T")
Rerun = Callable[["Result", Classifier, Generator], "Result"]
"""`gen_prior.optimise.synthesize.rerun`, which lies above this module."""


@dataclass(eq=False, repr=False)
class Result:
    """Images, codes and numbers of `synthesize`: one item per target and seed.

    The images and codes of a result that is in a folder (`synthesize(..., out=...)`, `load_result`) are not kept in
    memory: they are read from it whenever asked for, all by `images` and `codes`, those of a target by `images_of` and
    `codes_of`.

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
            return torch.stack([self._stored(t, name.removesuffix("s")) for t in range(len(self.targets))])

    def images_of(self, t: int) -> Tensor:
        """Images `[S, 3, H, W]` of target `t`; those that are not finished are black."""
        return self.images[t] if "images" in self.__dict__ else self._stored(t, "image")

    def codes_of(self, t: int) -> Tensor:
        """Codes `[S, *code_shape]` of target `t`; those that are not finished are zero."""
        return self.codes[t] if "codes" in self.__dict__ else self._stored(t, "code")

    def _stored(self, t: int, name: str) -> Tensor:
        """The images or codes of target `t` in the folder, `[S, ...]`."""
        assert self._folder is not None
        record, columns = self._record, len(self.seeds)
        blank = torch.zeros(record[f"{name}_shape"])
        items = record["items"][t * columns : (t + 1) * columns]
        return torch.stack(
            [
                blank if item["status"] == UNFINISHED else read_item(self._folder, item, item_shapes(record))[name]
                for item in items
            ]
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

    def inputs(self, t: int, classifier: Classifier | None = None) -> Tensor:
        """The classifier's inputs for target `t`: `[S, 3, H, W]` in [0, 1], a unit's image at its place in them.

        `classifier`: the one of the result where None.
        """
        classifier = classifier or self._loaded_classifier()
        field = self.targets[t].get("field")
        place = Placement(
            [Field(*field) if field else None] * len(self.seeds), classifier.input_size, classifier.device
        )
        return classifier.as_seen(place(classifier.resize(self.images_of(t).to(classifier.device)))).cpu()

    @property
    def photograph_ratios(self) -> Tensor:
        """`[T, S]`: activations divided by the best photograph's; NaN where no table says what that is."""
        ratios = [
            [beside_photographs(value, target).get("photograph_ratio") for value in row]
            for row, target in zip(self.activations, self.targets, strict=True)
        ]
        return torch.tensor([[torch.nan if ratio is None else ratio for ratio in row] for row in ratios])

    def names(self) -> list[str]:
        """File names of the items without their endings, targets outermost."""
        return item_names(self.slugs, self.seeds)

    @property
    def evaluations(self) -> int:
        """Length of the history: steps of the final optimisation, each a forward and a backward pass per image.

        Scored candidates and trial steps are left out; `recipe.evaluations` includes them.
        """
        return int(self.history.shape[-1])

    @property
    def recipe(self) -> Recipe:
        """The recipe that was followed."""
        return Recipe.from_dict({"scale": "image"} | self.settings["recipe"])  # 0.1 knew no other scale

    @property
    def unit_recipe(self) -> Recipe:
        """The recipe that hidden units followed."""
        recipe = self.settings.get("unit_recipe")  # 0.1 had one recipe for all
        return self.recipe if recipe is None else Recipe.from_dict(recipe)

    def _loaded_classifier(self) -> Classifier:
        """The classifier of this result; loaded by its name if it was read from a folder."""
        if self._classifier is None:
            device = self.settings["environment"]["device"]
            self._classifier = load_classifier(self.settings["classifier"]["name"], device=device)
        return self._classifier

    def attach(self, classifier: Classifier | None, generator: Generator | None, rerun: Rerun) -> None:
        """Remember what made this result, for `replay`: networks (None: loaded by name) and how to run it again."""
        self._classifier, self._generator, self._rerun = classifier, generator, rerun

    def save(self, out: str | Path) -> Path:
        """Write each item as PNG and, exact, as safetensors with code and numbers, and `result.json`; returns `out`."""
        folder = Path(out)
        if self._folder is not None and folder.resolve() == self._folder.resolve():
            return folder  # it is there
        record = Record(
            self.targets,
            self.slugs,
            self.seeds,
            self.settings,
            self.evaluations,
            list(self.images.shape[2:]),
            list(self.codes.shape[2:]),
        )
        files: dict[Path, bytes] = {}
        images, codes = self.images, self.codes
        for index, (t, s) in enumerate(record.pairs):
            if self.status[t][s] != UNFINISHED:
                tensors = {
                    "image": images[t, s],
                    "code": codes[t, s],
                    "activation": self.activations[t, s],
                    "start_activation": self.start_activations[t, s],
                    "history": self.history[t, s],
                }
                files |= record.finish(index, tensors, self.status[t][s], self.terms[t][s])
        record.seconds, record.settings = self.seconds, self.settings
        with only_writer(folder):
            record.write(folder, files, replace=True)
        return folder

    def replay(self, classifier: Classifier | None = None, generator: Generator | None = None) -> Result:
        """Run the same synthesis again: bit-identical on a CPU of the same kind, with the same versions.

        The classifier and generator are loaded by the names in the settings unless given. Raises `OutputError` for
        settings of a folder that are damaged.
        """
        if self._folder is None:
            return self._replay(classifier, generator)
        try:
            return self._replay(classifier, generator)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise OutputError(f"the result in {self._folder} cannot be replayed: {first_line(error)}") from error

    def _replay(self, classifier: Classifier | None, generator: Generator | None) -> Result:
        custom = self.settings["custom"]
        if any(custom.values()) or any(target["target"] is None for target in self.targets):
            raise OptionError(
                "this result used functions of your own, which no file holds", fix="call synthesize again"
            )
        if self.settings["started_from"] != "seeds":
            raise OptionError("this result started from given codes, which no file holds", fix="call synthesize again")
        device = self.settings["environment"]["device"]
        classifier = classifier or self._loaded_classifier()
        generator = generator or self._generator or load_described(self.settings["generator"], device=device)
        if self._rerun is None:
            raise OptionError("this result was not made by synthesize", fix="call synthesize, or load_result")
        return self._rerun(self, classifier, generator)


def _terms(item: dict[str, Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in item.get("terms", [])]


def _rows(flat: list[T], columns: int) -> list[list[T]]:
    return [flat[start : start + columns] for start in range(0, len(flat), columns)]
