"""Plan of a training: time, memory and disk of each stage, measured by a few steps of each."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.training.photographs import list_photographs
from gen_prior.training.pipeline import sources, with_steps
from gen_prior.training.recipe import TrainingRecipe
from gen_prior.training.stage import run_stage
from gen_prior.training.stages import STAGES
from gen_prior.training.trainer import LOG
from gen_prior.util.progress import Progress, ProgressCallback

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

STEPS = 4
"""Steps of each stage that are timed; the median counts."""
FIT_STEPS = 20


@dataclass(frozen=True)
class StagePlan:
    """Time, memory and disk that one stage will take."""

    name: str
    steps: int
    seconds_per_step: float
    preparing: float
    """Seconds that do not depend on the steps: reading photographs, encoding them, exporting."""
    fitting: float
    """Seconds of the steps that fit a part of the network to the encoded photographs."""
    memory: float
    """Largest memory of the process up to this stage, in GB (on a GPU: of the device)."""
    disk: float
    """Size of its folder and of what it adds to the cache, in GB."""

    @property
    def seconds(self) -> float:
        """Time of the whole stage."""
        return self.preparing + self.fitting + self.steps * self.seconds_per_step


@dataclass(frozen=True)
class TrainingPlan:
    """Time, memory and disk that all stages will take."""

    stages: tuple[StagePlan, ...]

    @property
    def hours(self) -> float:
        """Time of all stages, without the images that measure each."""
        return sum(stage.seconds for stage in self.stages) / 3600

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {"stages": [asdict(stage) for stage in self.stages], "hours": self.hours}

    def rows(self) -> list[list[str]]:
        """Cells of a table: stage, steps, seconds per step, hours, memory, disk; the last row sums them."""
        rows = []
        for s in self.stages:
            cells = [f"{s.seconds_per_step:.3f}", f"{s.seconds / 3600:.2f}", f"{s.memory:.1f} GB", f"{s.disk:.2f} GB"]
            rows.append([s.name, str(s.steps), *cells])
        memory, disk = max(s.memory for s in self.stages), sum(s.disk for s in self.stages)
        return [*rows, ["all", "", "", f"{self.hours:.2f}", f"{memory:.1f} GB", f"{disk:.2f} GB"]]


def measured_plan(
    recipe: TrainingRecipe, classifier: Classifier, progress: ProgressCallback | None = None
) -> TrainingPlan:
    """Run a few steps of each stage, critics included, on a few of the photographs, and say what all will take."""
    recipe.check()
    given = sources(recipe)
    counts = {"images": len(list_photographs(given["images"])[0])}
    counts["large"] = min(len(list_photographs(given["large"])[0]), recipe.most_large)
    plans = []
    prior: Path | None = None
    with tempfile.TemporaryDirectory() as folder:
        for name in recipe.stages:
            out = Path(folder, name)
            plans.append(_stage_plan(recipe, name, counts, out, progress, classifier=classifier, prior=prior, **given))
            prior = out
    return TrainingPlan(tuple(plans))


def _stage_plan(
    recipe: TrainingRecipe,
    name: str,
    counts: dict[str, int],
    out: Path,
    progress: ProgressCallback | None,
    **given: Any,
) -> StagePlan:
    """The plan of one stage from a few steps of it in `out`; `counts`: photographs of each kind that it would read."""
    whole: Any = recipe.settings[name]
    few: Any = with_steps(recipe, 0).settings[name]
    few = replace(few, steps=min(STEPS, whole.steps))
    if hasattr(few, "fit_steps"):
        few = replace(few, fit_steps=FIT_STEPS)
    limit = min(max(counts.values()), max(3 * whole.batch, 128))  # two batches, and some that cannot be read
    watch = _Watch(out / "cache", progress)
    run_stage(STAGES[name], out, few, limit=limit, cache=watch.cache, timing=watch.timing, progress=watch.progress,
              log_every=1, **given)  # fmt: skip
    read = counts["large" if STAGES[name].reads == "large" else "images"] if STAGES[name].reads else 0
    scales = {"reading": read, "reading larger": counts["large"], "preparing": read}
    scales = {part: count / max(1, min(limit, count)) for part, count in scales.items()}
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()] if few.steps else []
    seconds = [whole.batch / line["images_per_second"] for line in lines]
    # A stage that reads larger photographs beside the others encodes only those, for its fine code, at its export.
    encoded, fitted = watch.seconds("encoding"), watch.seconds("fitting")
    encoding = encoded * scales["reading larger" if "reading larger" in watch.parts else "preparing"]
    exporting = max(0.0, watch.parts["exporting"] - encoded - fitted)
    reading = sum(watch.parts[part] * scales[part] for part in ("reading", "reading larger"))
    cache = sum(watch.cached[part] * scale for part, scale in scales.items())
    return StagePlan(
        name,
        whole.steps,
        statistics.median(seconds) if seconds else 0.0,
        reading + encoding + exporting,
        fitted * getattr(whole, "fit_steps", 0) / FIT_STEPS,
        _memory(given["classifier"].device),
        (cache + folder_size(out) - folder_size(watch.cache)) / 1e9,
    )


def within(hours: float, recipe: TrainingRecipe, plan: TrainingPlan) -> tuple[TrainingRecipe, TrainingPlan]:
    """The recipe with all steps multiplied by one factor, so that it takes so many hours, and its plan.

    Raises `OptionError` if preparing alone takes longer.
    """
    fixed = sum(stage.preparing for stage in plan.stages) / 3600
    if hours <= fixed:
        raise OptionError(f"{hours:g} hours are too few: reading and encoding the photographs take {fixed:.2f}")
    factor = (hours - fixed) / max(plan.hours - fixed, 1e-9)
    changed = with_steps(recipe, factor)
    stages = tuple(
        replace(stage, steps=changed.settings[stage.name].steps, fitting=stage.fitting * factor)
        for stage in plan.stages
    )
    return changed, TrainingPlan(stages)


class _Watch:
    """Times the parts of a stage and the units of work that it reports, and measures what each part caches."""

    def __init__(self, cache: Path, progress: ProgressCallback | None) -> None:
        self.cache = cache
        self.parts: dict[str, float] = defaultdict(float)
        self.cached: dict[str, int] = defaultdict(int)
        self.seen: dict[str, list[tuple[float, Progress]]] = defaultdict(list)
        self.passed_on = progress

    def timing(self, part: str, seconds: float) -> None:
        self.parts[part] += seconds
        self.cached[part] += folder_size(self.cache) - sum(self.cached.values())

    def progress(self, done: Progress) -> None:
        self.seen[done.label.split()[0]].append((time.monotonic(), done))
        if self.passed_on is not None:
            self.passed_on(replace(done, label=f"measuring: {done.label}"))

    def seconds(self, word: str) -> float:
        """Seconds for all units of the work whose label begins with `word`, from the pace of those that were seen."""
        if len(seen := self.seen[word]) < 2:
            return 0.0
        (start, first), (end, last) = seen[0], seen[-1]
        return (end - start) / max(1, last.done - first.done) * last.total


def _memory(device: torch.device) -> float:
    """Largest memory so far in GB: of the GPU if there is one, else of the process; 0 where that is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9 if resource is not None else 0.0


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
