"""Results: images, codes, numbers and every setting; saved as folders that replay."""

from __future__ import annotations

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
from gen_prior.files import write_bytes, write_json, write_png
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
        """Write every image as PNG, every code with its numbers as safetensors, and `result.json`; returns the folder."""
        folder = Path(out)
        for t, slug in enumerate(self._slugs):
            for s, seed in enumerate(self.seeds):
                if self.status[t][s] != UNFINISHED:
                    write_item(
                        folder / f"{slug}-seed{seed}",
                        self.images[t, s],
                        {
                            "code": self.codes[t, s],
                            "activation": self.activations[t, s],
                            "start_activation": self.start_activations[t, s],
                            "history": self.history[t, s],
                        },
                    )
        write_json(folder / RECORD, self._record())
        return folder

    def replay(self, classifier: Classifier | None = None, generator: Generator | None = None) -> Result:
        """Run the same synthesis again: bit-identical on the same device and versions.

        The classifier and generator are loaded by the names in the settings unless given.
        """
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.synthesis import synthesize

        custom = self.settings["custom"]
        if any(custom.values()) or any(target["target"] is None for target in self.targets):
            raise OptionError("this result used functions of your own, which no file holds", fix="call synthesize again")
        if self.settings["started_from"] != "seeds":
            raise OptionError("this result started from given codes, which no file holds", fix="call synthesize again")
        device = self.settings["environment"]["device"]
        described = self.settings["generator"]
        classifier = classifier or self._classifier or load_classifier(self.settings["classifier"]["name"], device=device)
        generator = (
            generator or self._generator or load_generator(described["name"], device=device, **described["options"])
        )
        return synthesize(
            classifier,
            [target["target"] for target in self.targets],
            generator,
            seeds=self.seeds,
            recipe=self.recipe,
            batch=max(self.settings["batches"]),
            precision=self.settings["precision"],
            compile=self.settings["compile"],
        )

    def _record(self) -> dict[str, Any]:
        items = []
        for t, slug in enumerate(self._slugs):
            for s, seed in enumerate(self.seeds):
                name = f"{slug}-seed{seed}"
                values = {
                    "activation": finite(self.activations[t, s]),
                    "start_activation": finite(self.start_activations[t, s]),
                    "status": self.status[t][s],
                }
                items.append({"target": t, "seed": seed, "image": f"{name}.png", "data": f"{name}.safetensors", **values})
        return {
            "format": FORMAT,
            "targets": self.targets,
            "slugs": self._slugs,
            "seeds": self.seeds,
            "steps": self.evaluations,
            "image_shape": list(self.images.shape[2:]),
            "code_shape": list(self.codes.shape[2:]),
            "items": items,
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
        }


class ResultFolder:
    """Writes a result while it is being made: each batch's items at once, the record after every batch."""

    def __init__(self, out: str | Path, goals: Sequence[Goal], seeds: list[int], settings: dict[str, Any]) -> None:
        self.folder = Path(out)
        self.goals, self.seeds, self.settings = goals, seeds, settings
        self._outcomes: list[Outcome] = []
        self._seconds = 0.0
        probe = self.folder / ".gen-prior-probe"
        write_bytes(probe, b"")  # a folder that cannot be written to is found out before the work, not after
        probe.unlink()

    def write(self, first: int, outcome: Outcome, *, seconds: float, batches: list[int]) -> None:
        """Write the items of a finished batch, then the record of all that is finished."""
        self._outcomes.append(outcome)
        self._seconds += seconds
        left = len(self.goals) * len(self.seeds) - first - len(outcome.status)
        rest = [_unfinished(outcome)] * left
        settings = self.settings | {"batches": list(batches)}
        partial = Result.assemble(self.goals, self.seeds, [*self._outcomes, *rest], settings, self._seconds)
        partial.save(self.folder)

    def finish(self, result: Result) -> None:
        """Write the record of the whole."""
        write_json(self.folder / RECORD, result._record())


def write_item(stem: Path, image: Tensor, numbers: dict[str, Tensor]) -> None:
    """One item's picture (PNG) and its exact image, code and numbers (safetensors)."""
    tensors = {"image": image, **numbers}
    data = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(stem.with_name(stem.name + ".safetensors"), data)
    write_png(stem.with_name(stem.name + ".png"), image)


def load_result(folder: str | Path) -> Result:
    """The result saved in `folder`, exact to the bit. Raises `OutputError` where it is missing or damaged."""
    folder = Path(folder)
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise OutputError(f"{path} is not a result of format {FORMAT}")
        grid = (len(record["targets"]), len(record["seeds"]))
        shapes = {
            "image": record["image_shape"],
            "code": record["code_shape"],
            "activation": [],
            "start_activation": [],
            "history": [record["steps"]],
        }
        parts = {name: torch.zeros(*grid, *shape) for name, shape in shapes.items()}
        status = [[UNFINISHED] * grid[1] for _ in range(grid[0])]
        for place, item in enumerate(record["items"]):
            t, s = divmod(place, grid[1])
            status[t][s] = item["status"]
            if item["status"] == UNFINISHED:
                continue
            tensors = load_safetensors((folder / Path(item["data"]).name).read_bytes())
            for name, whole in parts.items():
                if list(tensors[name].shape) != list(shapes[name]):
                    raise OutputError(f"{item['data']}: {name} has shape {list(tensors[name].shape)}, not {shapes[name]}")
                whole[t, s] = tensors[name]
    except FileNotFoundError as error:
        raise OutputError(f"no result in {folder}: {Path(error.filename).name} is missing") from error
    except GenPriorError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise OutputError(f"the result in {folder} is damaged: {str(error).splitlines()[0]}") from error
    return Result(
        parts["image"],
        parts["code"],
        parts["activation"],
        parts["start_activation"],
        parts["history"],
        status,
        record["targets"],
        record["seeds"],
        record["settings"],
        record["seconds"],
        record["slugs"],
    )


def unique_slugs(goals: Sequence[Goal]) -> list[str]:
    """One file name per goal; goals of the same name are numbered."""
    slugs: list[str] = []
    for goal in goals:
        slug, count = goal.slug, 2
        while slug in slugs:
            slug, count = f"{goal.slug}-{count}", count + 1
        slugs.append(slug)
    return slugs


def finite(value: Tensor | float) -> float | None:
    """A number for JSON: None where it is not finite."""
    number = float(value)
    return number if abs(number) < float("inf") else None


def environment(device: torch.device) -> dict[str, str]:
    """Device and versions that bit-identity depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"torch": torch.__version__, "gen-prior": metadata.version("gen-prior"), "python": platform.python_version()}
    return {"device": str(device), "device_name": name, "threads": str(torch.get_num_threads()), **versions}


def _unfinished(like: Outcome) -> Outcome:
    blank = {
        name: torch.zeros_like(getattr(like, name)[:1])
        for name in ("codes", "images", "activations", "start_activations", "history")
    }
    return Outcome(**blank, status=[UNFINISHED])
