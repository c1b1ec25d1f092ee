"""Labelled synthetic images to train on (Arora et al. 2016): synthesised for one classifier, judged by another.

A dataset is a folder: `images/0001-goldfish/seed-00000.png` (ImageFolder layout; the number is the class index),
`images.jsonl` with a line for every image ever made, `classes.json`, and `shards/*.tar` (webdataset). An image
depends on its class and seed only, so a run that was stopped can be continued and ends with the same images.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_prior.applications.measurement import check_judge
from gen_prior.applications.samples import Sample, folder_of, read_samples, write_samples
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import GenPriorError, OptionError, OutputError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives.targets import Target
from gen_prior.optimise.presets import as_recipe
from gen_prior.optimise.stored_result import finite
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.metrics import verdict
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.folders import check_kind, only_writer
from gen_prior.util.image_io import write_png
from gen_prior.util.progress import Progress, ProgressOption, progress_callback
from gen_prior.util.reading import read_regular
from gen_prior.util.words import others

log = logging.getLogger(__name__)

SETTINGS = "settings.json"
FORMAT = "gen-prior/dataset-1"
MAX_BYTES = 2**28
"""Most bytes that are read of the settings, or of an image."""
MOST_PER_CLASS = 1_000_000
KEEP = ("all", "top1", "top5")


def make_dataset(
    classifier: Classifier | str,
    generator: Generator | str,
    out: str | Path,
    *,
    classes: Sequence[str | int] | None = None,
    per_class: int = 10,
    judge: Classifier | str | None = None,
    keep: str = "all",
    tries: int = 4,
    recipe: Recipe | str | None = None,
    batch: int = 8,
    shard_size: int = 1000,
    progress: ProgressOption = None,
    **options: Any,
) -> list[Sample]:
    """Synthesise `per_class` labelled images of each class into `out`; a stopped run is continued (Arora et al. 2016).

    Args:
        classes: names or indices; all of the classifier's if None.
        judge: another classifier of the same classes, which takes no part in the synthesis.
        keep: "all", or only images whose class is in the judge's "top1" or "top5".
        tries: with "top1" or "top5", at most `tries * per_class` images of a class are made.
        shard_size: images in a webdataset shard; 0 for no shards.
        progress: as `synthesize` takes it, after every batch, in kept images, labelled with the class.
        options: settings that replace those of the recipe.

    Returns:
        Every sample of the dataset, kept or not, ordered by class and seed.

    Raises:
        OptionError: a filter without a judge, a judge that is the classifier itself or has other classes, or a folder
            that holds a dataset of other settings. OutputError: a damaged or unwritable folder.
    """
    classifier, generator = as_classifier(classifier), as_generator(generator)
    judge = None if judge is None else as_classifier(judge)
    recipe = as_recipe(recipe)
    number = 0
    report = progress_callback(progress, lambda p: (p.label, p.done - number * per_class, per_class, None))
    _check_options(classifier, judge, keep, per_class, tries, batch, shard_size)
    count = classifier.classes
    chosen = range(count) if classes is None else classes
    indices = list(dict.fromkeys(classifier.class_index(name) for name in chosen))
    recipe = (recipe if recipe is not None else generator.recipe).with_options(**options)
    with only_writer(out) as folder:
        check_kind(folder, SETTINGS)
        for name in ("images", "shards"):
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise OutputError(f"{folder / name} leads out of {folder}", fix="pass another --out")
        _check_same_settings(folder, _settings(classifier, generator, judge, recipe, keep))
        samples = {(sample.class_index, sample.seed): sample for sample in read_samples(folder)}
        for number, index in enumerate(indices):
            target = Target(LOGITS, index, None, classifier.class_name(index))
            while True:
                mine = [sample for sample in samples.values() if sample.class_index == index]
                kept = sum(sample.kept for sample in mine)
                if report is not None:
                    report(Progress(number * per_class + kept, len(indices) * per_class, target.label))
                left = min(per_class - kept, (per_class * tries if keep != "all" else per_class) - len(mine))
                if left <= 0:
                    break
                used = {sample.seed for sample in mine}
                wanted = min(left, batch)
                seeds = [seed for seed in range(len(used) + wanted) if seed not in used][:wanted]
                result = synthesize(classifier, target, generator, seeds=seeds, recipe=recipe, batch=batch)
                made = _judged(classifier, judge, target, seeds, result.images[0], result.activations[0], keep)
                for sample, image in zip(made, result.images[0], strict=True):
                    if sample.kept:
                        write_png(folder / sample.file, image)
                samples |= {(sample.class_index, sample.seed): sample for sample in made}
                write_samples(folder, samples)
        ordered = [samples[key] for key in sorted(samples)]
        if shard_size:
            write_shards(folder, ordered, shard_size)
        return ordered


def _check_options(
    classifier: Classifier, judge: Classifier | None, keep: str, per_class: int, tries: int, batch: int, shard_size: int
) -> None:
    if keep not in KEEP:
        raise OptionError(f"keep must be one of {', '.join(KEEP)}, got {keep!r}")
    if per_class < 1 or tries < 1 or batch < 1 or shard_size < 0:
        raise OptionError("per_class, tries and batch must be at least 1, and shard_size at least 0")
    if per_class > MOST_PER_CLASS:
        raise OptionError(f"per_class must be at most {MOST_PER_CLASS}, got {per_class}")
    if keep != "all" and judge is None:
        raise OptionError(f"keep={keep!r} needs a judge", fix="--judge efficientnet-lite2")
    if judge is not None:
        check_judge(judge, classifier)
    if judge is not None and judge.classes != classifier.classes:
        raise OptionError(f"the judge {judge.name} has other classes than {classifier.name}")


def write_shards(out: str | Path, samples: Sequence[Sample], size: int) -> list[Path]:
    """Write the kept images as webdataset shards of `size` images (`KEY.png`, `KEY.cls`, `KEY.json`), shuffled.

    The same dataset gives the same bytes. Returns the paths.
    """
    folder = Path(out)
    kept = [sample for sample in samples if sample.kept]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0)).tolist()
    paths = []
    for number, first in enumerate(range(0, len(kept), size)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for index in order[first : first + size]:
                for name, data in _members(folder, kept[index]):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        paths.append(folder / "shards" / f"shard-{number:06d}.tar")
        write_bytes(paths[-1], buffer.getvalue())
    for stale in (folder / "shards").glob("shard-*.tar"):
        if stale not in paths:
            stale.unlink()
    return paths


def _members(folder: Path, sample: Sample) -> Iterator[tuple[str, bytes]]:
    key = f"{sample.class_index:04d}-{sample.seed:05d}"
    yield f"{key}.cls", str(sample.class_index).encode()
    yield f"{key}.json", json.dumps(asdict(sample)).encode()
    try:
        yield f"{key}.png", read_regular(folder / sample.file, limit=MAX_BYTES, within=folder / "images")
    except OSError as error:
        raise OutputError(f"{folder / sample.file} cannot be read: {error.strerror or error}") from error


def _judged(
    classifier: Classifier,
    judge: Classifier | None,
    target: Target,
    seeds: list[int],
    images: Tensor,
    activations: Tensor,
    keep: str,
) -> list[Sample]:
    """The samples of images `[S, 3, H, W]` of one class."""
    with torch.no_grad():
        own = verdict(classifier(images.to(classifier.device)), target.unit)
        votes = verdict(judge(images.to(judge.device)), target.unit) if judge is not None else None
    samples = []
    for s, seed in enumerate(seeds):
        score = finite(votes.probability[s]) if votes is not None else None
        rank = (int(votes.rank[s]) or None) if votes is not None else None
        activation = finite(activations[s])
        chosen = keep == "all" or (rank is not None and rank <= int(keep.removeprefix("top")))
        kept = activation is not None and chosen
        file = f"images/{folder_of(target.unit, target.label)}/seed-{seed:05d}.png"
        probability = finite(own.probability[s])
        samples.append(Sample(file, target.unit, target.label, seed, activation, probability, score, rank, kept))
    if votes is not None and not votes.rank.all():
        log.warning("the judge gives logits that are not finite for some images of %s", target.label)
    return samples


def _settings(
    classifier: Classifier, generator: Generator, judge: Classifier | None, recipe: Recipe, keep: str
) -> dict[str, Any]:
    settings = {
        "format": FORMAT,
        "classifier": classifier.describe(),
        "generator": generator.describe(),
        "judge": judge.describe() if judge is not None else None,
        "keep": keep,
        "recipe": recipe.to_dict(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _check_same_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings, or raise `OptionError` if the folder holds a dataset made with others."""
    path = folder / SETTINGS
    if path.exists():
        try:
            before = json.loads(read_regular(path, limit=MAX_BYTES, within=folder))
            before["recipe"] = Recipe.from_dict(before["recipe"]).to_dict()  # of an earlier version, perhaps
            before = json.loads(json.dumps(before))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, GenPriorError) as error:
            raise OutputError(f"{path} is damaged") from error
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            raise OptionError(f"{folder} holds a dataset made with {others(changed)}", fix="pass another --out")
        return
    write_json(path, settings)


__all__ = ["KEEP", "Sample", "make_dataset", "read_samples", "write_shards"]
