"""Results: images, codes, numbers and every setting; saved as folders that replay."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from gen_prior.errors import GenPriorError, OptionError, OutputError
from gen_prior.files import png_bytes, write_bytes, write_files
from gen_prior.loop import Outcome
from gen_prior.objectives import Objective
from gen_prior.recipes import Recipe
from gen_prior.targets import Target

if TYPE_CHECKING:
    from gen_prior.classifiers.base import Classifier
    from gen_prior.generators.base import Generator

RECORD = "result.json"
FORMAT = "gen-prior/result-1"
UNFINISHED = "not finished"
VERSION = metadata.version("gen-prior")


@dataclass(frozen=True)
class Goal:
    """What was maximised, and the target it came from (None for a user's own objective)."""

    objective: Objective
    target: Target | None

    @property
    def name(self) -> str:
        """As reports print it: the class name, `LAYER:UNIT`, or the objective's description."""
        if self.target is None:
            return self.objective.description
        return self.target.label or str(self.target)

    @property
    def slug(self) -> str:
        """As files are named."""
        return self.target.slug if self.target is not None else Target("objective", 0, None, "").slug

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        described = {"name": self.name, "objective": self.objective.description}
        return described | (self.target.to_dict() if self.target is not None else {"target": None})


class Result:
    """Of `synthesize`: one item per target and seed.

    Attributes:
        images: `[T, S, 3, H, W]`, RGB, in [0, 1].
        codes: `[T, S, *code_shape]`.
        activations: `[T, S]`, of the final images as they are.
        start_activations: `[T, S]`, of the images that the optimisation started from.
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
        record = _Record.of(self)
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
        """Run the same synthesis again: bit-identical on the same device and versions.

        The classifier and generator are loaded by the names in the settings unless given.
        """
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_described
        from gen_prior.synthesis import synthesize

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


class _Record:
    """What `result.json` holds while a result is being made: every item, finished or not."""

    def __init__(
        self,
        targets: list[dict[str, Any]],
        slugs: list[str],
        seeds: list[int],
        settings: dict[str, Any],
        steps: int,
        image_shape: list[int],
        code_shape: list[int],
    ) -> None:
        self.targets, self.slugs, self.seeds, self.settings = targets, slugs, seeds, settings
        self.steps, self.image_shape, self.code_shape = steps, image_shape, code_shape
        self.seconds = 0.0
        self.places = [(t, s) for t in range(len(targets)) for s in range(len(seeds))]
        self.items: list[dict[str, Any]] = [
            {"target": t, "seed": seeds[s], "status": UNFINISHED} for t, s in self.places
        ]

    @classmethod
    def of(cls, result: Result) -> _Record:
        """The record of `result`, no item finished yet."""
        shapes = list(result.images.shape[2:]), list(result.codes.shape[2:])
        return cls(result.targets, result._slugs, result.seeds, result.settings, result.evaluations, *shapes)

    def finish(self, place: int, tensors: dict[str, Tensor], status: str) -> dict[Path, bytes]:
        """Note item `place` as finished; its files: the picture, and the exact image, code and numbers."""
        t, s = self.places[place]
        name = f"{self.slugs[t]}-seed{self.seeds[s]}"
        data = save_safetensors({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        self.items[place] |= {
            "status": status,
            "activation": finite(tensors["activation"]),
            "start_activation": finite(tensors["start_activation"]),
            "image": f"{name}.png",
            "data": f"{name}.safetensors",
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        return {Path(f"{name}.png"): png_bytes(tensors["image"]), Path(f"{name}.safetensors"): data}

    def write(self, folder: Path, files: dict[Path, bytes]) -> None:
        """Write the files of finished items (names relative to `folder`), then the record of all."""
        write_files({folder / name: data for name, data in files.items()} | {folder / RECORD: self._bytes()})

    def _bytes(self) -> bytes:
        whole = {
            "format": FORMAT,
            "targets": self.targets,
            "slugs": self.slugs,
            "seeds": self.seeds,
            "steps": self.steps,
            "image_shape": self.image_shape,
            "code_shape": self.code_shape,
            "items": self.items,
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
        }
        return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


class ResultFolder:
    """Writes a result while it is being made: each batch's items at once, with the record of all that is finished.

    Raises `OutputError` for a folder that cannot be written to, `OptionError` for settings that JSON cannot hold:
    both before the work, not after.
    """

    def __init__(self, out: str | Path, goals: Sequence[Goal], seeds: list[int], settings: dict[str, Any]) -> None:
        self.folder = Path(out)
        self.goals, self.seeds, self.settings = goals, seeds, settings
        self._record: _Record | None = None
        try:
            json.dumps(settings, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"a result's settings must be plain finite values: {first_line(error)}") from error
        probe = self.folder / ".gen-prior-probe"
        write_bytes(probe, b"")
        probe.unlink()

    def write(self, first: int, outcome: Outcome, *, seconds: float, batches: list[int]) -> None:
        """Write the items of a finished batch, of which item `first` is the first, and the record."""
        if self._record is None:
            targets, slugs = [goal.to_dict() for goal in self.goals], unique_slugs(self.goals)
            steps, shapes = outcome.history.shape[1], (list(outcome.images.shape[1:]), list(outcome.codes.shape[1:]))
            self._record = _Record(targets, slugs, self.seeds, self.settings, steps, *shapes)
        files: dict[Path, bytes] = {}
        for index, status in enumerate(outcome.status):
            tensors = {
                "image": outcome.images[index],
                "code": outcome.codes[index],
                "activation": outcome.activations[index],
                "start_activation": outcome.start_activations[index],
                "history": outcome.history[index],
            }
            files |= self._record.finish(first + index, tensors, status)
        self._record.seconds += seconds
        self._record.settings = self.settings | {"batches": list(batches)}
        self._record.write(self.folder, files)


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


def unique_slugs(goals: Sequence[Goal]) -> list[str]:
    """One file name per goal; goals of the same name are numbered."""
    slugs: list[str] = []
    for goal in goals:
        name, count = goal.slug[:80].rstrip("-."), 2
        slug = name
        while slug in slugs:
            slug, count = f"{name}-{count}", count + 1
        slugs.append(slug)
    return slugs


def item_names(slugs: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """File names of the items without their endings, targets outermost."""
    return [f"{slug}-seed{seed}" for slug in slugs for seed in seeds]


def finite(value: Tensor | float) -> float | None:
    """A number for JSON: None where it is not finite."""
    number = float(value)
    return number if abs(number) < float("inf") else None


def environment(device: torch.device) -> dict[str, str]:
    """Device and versions that bit-identity depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {
        "torch": torch.__version__,
        "gen-prior": VERSION,
        "python": platform.python_version(),
    }
    return {"device": str(device), "device_name": name, "threads": str(torch.get_num_threads()), **versions}


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return kind if not lines else f"{kind}: {lines[0]}" if isinstance(error, LookupError) else lines[0]
