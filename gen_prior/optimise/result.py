"""Results: images, codes, numbers and every setting; saved as folders that replay."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gen_prior.errors import GenPriorError, OptionError, OutputError
from gen_prior.optimise.batch import Goal, item_names, unique_slugs
from gen_prior.optimise.loop import Outcome
from gen_prior.optimise.result_folder import FORMAT, RECORD, UNFINISHED, Record, first_line
from gen_prior.recipe import Recipe

if TYPE_CHECKING:
    from gen_prior.classifiers.base import Classifier
    from gen_prior.generators.base import Generator

VERSION = metadata.version("gen-prior")


class Result:
    """Of `synthesize`: one item per target and seed.

    Attributes:
        images: `[T, S, 3, H, W]`, RGB, in [0, 1].
        codes: `[T, S, *code_shape]`.
        activations: `[T, S]`, of the final images as they are.
        start_activations: `[T, S]`, of the images that the optimisation started from, after its trials if any.
        history: `[T, S, steps]`, the activation seen at each step, under that step's transforms.
        status: `status[t][s]`: "ok", or what went wrong with that item.
        targets: one dict per target: name, layer, unit, objective.
        seeds: the seeds.
        settings: classifier, generator, recipe, batches, versions: all that the result is a function of.
        seconds: of the optimisation.
    """

    def __init__(
        self,
        images: Tensor,
        codes: Tensor,
        activations: Tensor,
        start_activations: Tensor,
        history: Tensor,
        status: list[list[str]],
        targets: list[dict[str, Any]],
        seeds: list[int],
        settings: dict[str, Any],
        seconds: float,
        slugs: list[str],
    ) -> None:
        self.images, self.codes, self.activations = images, codes, activations
        self.start_activations, self.history, self.status = start_activations, history, status
        self.targets, self.seeds, self.settings, self.seconds = targets, seeds, settings, seconds
        self._slugs = slugs
        self._classifier: Classifier | None = None
        self._generator: Generator | None = None

    @classmethod
    def assemble(
        cls,
        goals: Sequence[Goal],
        seeds: list[int],
        outcomes: Sequence[Outcome],
        settings: dict[str, Any],
        seconds: float,
    ) -> Result:
        """The result of batches that follow each other, targets outermost."""
        grid = (len(goals), len(seeds))

        def joined(name: str) -> Tensor:
            whole = torch.cat([getattr(outcome, name) for outcome in outcomes])
            return whole.view(*grid, *whole.shape[1:])

        flat = [status for outcome in outcomes for status in outcome.status]
        return cls(
            joined("images"),
            joined("codes"),
            joined("activations"),
            joined("start_activations"),
            joined("history"),
            [flat[t * grid[1] : (t + 1) * grid[1]] for t in range(grid[0])],
            [goal.to_dict() for goal in goals],
            seeds,
            settings,
            seconds,
            unique_slugs(goals),
        )

    def names(self) -> list[str]:
        """File names of the items without their endings, targets outermost."""
        return item_names(self._slugs, self.seeds)

    @property
    def evaluations(self) -> int:
        """Classifier evaluations (a forward and a backward pass) that each image took."""
        return int(self.history.shape[-1])

    @property
    def recipe(self) -> Recipe:
        """The recipe that was followed."""
        return Recipe.from_dict(self.settings["recipe"])

    def attach(self, classifier: Classifier, generator: Generator) -> None:
        """Remember what made this result, for `replay`."""
        self._classifier, self._generator = classifier, generator

    def save(self, out: str | Path) -> Path:
        """Write each item as PNG and, exact, as safetensors with code and numbers, and `result.json`; returns `out`."""
        record = Record(
            self.targets,
            self._slugs,
            self.seeds,
            self.settings,
            self.evaluations,
            list(self.images.shape[2:]),
            list(self.codes.shape[2:]),
        )
        files: dict[Path, bytes] = {}
        for place, (t, s) in enumerate(record.places):
            if self.status[t][s] != UNFINISHED:
                tensors = {
                    "image": self.images[t, s],
                    "code": self.codes[t, s],
                    "activation": self.activations[t, s],
                    "start_activation": self.start_activations[t, s],
                    "history": self.history[t, s],
                }
                files |= record.finish(place, tensors, self.status[t][s])
        record.seconds, record.settings = self.seconds, self.settings
        record.write(Path(out), files)
        return Path(out)

    def replay(self, classifier: Classifier | None = None, generator: Generator | None = None) -> Result:
        """Run the same synthesis again: bit-identical on a CPU, with the same versions and threads.

        The classifier and generator are loaded by the names in the settings unless given.
        """
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_described
        from gen_prior.optimise.synthesize import synthesize

        custom = self.settings["custom"]
        if any(custom.values()) or any(target["target"] is None for target in self.targets):
            raise OptionError(
                "this result used functions of your own, which no file holds", fix="call synthesize again"
            )
        if self.settings["started_from"] != "seeds":
            raise OptionError("this result started from given codes, which no file holds", fix="call synthesize again")
        device = self.settings["environment"]["device"]
        classifier = (
            classifier or self._classifier or load_classifier(self.settings["classifier"]["name"], device=device)
        )
        generator = generator or self._generator or load_described(self.settings["generator"], device=device)
        return synthesize(
            classifier,
            [target["target"] for target in self.targets],
            generator,
            seeds=self.seeds,
            recipe=self.recipe,
            batch=self.settings["batches"],
            precision=self.settings["precision"],
            compile=self.settings["compile"],
        )


def load_result(folder: str | Path) -> Result:
    """The result saved in `folder`, exact to the bit. Raises `OutputError` where it is missing or damaged."""
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise OutputError(f"{folder / RECORD} is not a result of format {FORMAT}")
        grid = (len(record["targets"]), len(record["seeds"]))
        shapes = {
            "image": record["image_shape"],
            "code": record["code_shape"],
            "activation": [],
            "start_activation": [],
            "history": [record["steps"]],
        }
        if len(record["items"]) != grid[0] * grid[1] or len(record["slugs"]) != grid[0]:
            raise OutputError(f"the result in {folder} is damaged: its items are not targets x seeds")
        status = [[UNFINISHED] * grid[1] for _ in range(grid[0])]
        loaded: dict[tuple[int, int], dict[str, Tensor]] = {}
        for place, item in enumerate(record["items"]):
            t, s = divmod(place, grid[1])
            status[t][s] = str(item["status"])
            if item["status"] != UNFINISHED:
                loaded[t, s] = _read_item(folder / Path(item["data"]).name, item["sha256"], shapes)
        if not loaded:
            raise OutputError(f"the result in {folder} holds no finished item")
        blank = {name: torch.zeros_like(tensor) for name, tensor in next(iter(loaded.values())).items()}
        parts = {
            name: torch.stack(
                [torch.stack([loaded.get((t, s), blank)[name] for s in range(grid[1])]) for t in range(grid[0])]
            )
            for name in shapes
        }
        seeds, seconds = [int(seed) for seed in record["seeds"]], float(record["seconds"])
        targets, settings, slugs = list(record["targets"]), dict(record["settings"]), list(record["slugs"])
    except FileNotFoundError as error:
        raise OutputError(f"no result in {folder}: {Path(error.filename).name} is missing") from error
    except GenPriorError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"the result in {folder} is damaged: {first_line(error)}") from error
    return Result(
        parts["image"],
        parts["code"],
        parts["activation"],
        parts["start_activation"],
        parts["history"],
        status,
        targets,
        seeds,
        settings,
        seconds,
        slugs,
    )


def _read_item(path: Path, digest: str, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """An item's tensors, held against the record. Raises `OutputError` where they do not match it."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise OutputError(f"{path} is damaged or of another result: its SHA-256 is not the recorded one")
    tensors = load_safetensors(data)
    for name, shape in shapes.items():
        if list(tensors[name].shape) != list(shape):
            raise OutputError(f"{path}: {name} has shape {list(tensors[name].shape)}, not {shape}")
    return {name: tensors[name] for name in shapes}


def environment(device: torch.device) -> dict[str, str]:
    """Device and versions that bit-identity depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {
        "torch": torch.__version__,
        "gen-prior": VERSION,
        "python": platform.python_version(),
    }
    return {"device": str(device), "device_name": name, "threads": str(torch.get_num_threads()), **versions}
