"""Train a prior by a recipe: run the stages that are missing, measure each, and gather the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.generator import FILE
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.report.training_page import training_page
from gen_prior.training.photographs import list_photographs, open_photographs
from gen_prior.training.prior_file import NETWORKS_FILE, open_prior
from gen_prior.training.quality import measure_prior
from gen_prior.training.recipe import TrainingRecipe, read_recipe, recipe_text
from gen_prior.training.stage import run_stage
from gen_prior.training.stages import STAGES
from gen_prior.training.trainer import LoopOptions
from gen_prior.util.files import write_bytes, write_files, write_json
from gen_prior.util.folders import only_writer
from gen_prior.util.image_io import write_png
from gen_prior.util.mosaic import mosaic
from gen_prior.util.progress import ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

RECIPE, NUMBERS, PAGE, CLASSES = "recipe.toml", "numbers.json", "index.html", "classes.png"
SAMPLE = 256
"""Photographs by which a prior is measured."""
MAY_DIFFER = ("steps =", "adversarial_from =")
"""Settings of which the stored ones count when a training goes on: a budget in hours may have chosen them."""
MEANINGS = {
    "reconstruction": "reconstruction, PSNR in dB",
    "judge": "judge names the class",
    "kernel_distance": "kernel distance",
    "hidden_reach": "hidden units beyond photographs",
}


def train_all(
    recipe: TrainingRecipe,
    out: str | Path,
    classifier: Classifier | None = None,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[LoopOptions],
) -> Path:
    """Train a prior by all stages of `recipe`, in subfolders of `out`, and write the result into `out`.

    Stages that `out` holds are kept, and one that was interrupted goes on along the same trajectory. `index.html` shows
    pictures and numbers of each finished stage.

    Args:
        classifier: instead of the recipe's, for one that has no name.
        resume: go on with what `out` holds. The recipe must be the same; an empty one (no images) means that of `out`.
        progress, options: as for `run_stage`.

    Returns the exported file; `load_generator("local-dir:OUT")` loads it. Raises as `run_stage` does; also
    `OptionError` for another recipe, or files whose names have another hash than the recipe's.
    """
    out = Path(out)
    recipe = _settled(recipe, out, resume)
    recipe.check()
    _check_listings(recipe)
    network = classifier if classifier is not None else load_classifier(recipe.classifier)
    with only_writer(out):
        write_bytes(out / RECIPE, recipe_text(recipe).encode(errors="surrogateescape"))
        done: list[dict[str, Any]] = []
        prior: Path | None = None
        for number, name in enumerate(recipe.stages, 1):
            folder = out / f"{number}-{name}"
            if not (folder / FILE).exists():
                prepared = {"resume": folder.exists(), "progress": progress, "cache": out / "cache"}
                run_stage(STAGES[name], folder, recipe.settings[name], classifier=network, prior=prior,
                          **sources(recipe), **prepared, **options)  # type: ignore[arg-type] # fmt: skip
            done.append({"name": name, "numbers": _measured(recipe, folder, out, network)})
            done[-1]["pictures"] = {
                "photographs, their reconstructions, initial codes, the same nearer to the mean": "sheet.png",
                "preferred inputs of classes": CLASSES,
            }
            done[-1]["pictures"] = {
                text: f"{folder.name}/{file}" for text, file in done[-1]["pictures"].items() if (folder / file).exists()
            }
            page = training_page(f"Training a prior for {network.name}", done, MEANINGS)
            write_files({out / PAGE: page.encode(), out / NUMBERS: json.dumps(done, indent=1).encode()})
            prior = folder
        assert prior is not None
        write_bytes(out / NETWORKS_FILE, (prior / NETWORKS_FILE).read_bytes())
        metadata = read_file_metadata(prior / FILE) | {"name": out.resolve().name}
        save_safetensors(out / FILE, read_tensors(prior / FILE), metadata)
    return out / FILE


def sources(recipe: TrainingRecipe) -> dict[str, Any]:
    """The photographs of a recipe as arguments of `run_stage`."""
    return {"images": recipe.images, "large": recipe.large or recipe.images, "most_large": recipe.most_large}


def _settled(recipe: TrainingRecipe, out: Path, resume: bool) -> TrainingRecipe:
    """The recipe to run: the one in `out` if there is one. Raises `OptionError` if it differs, or without `resume`."""
    path = out / RECIPE
    if not path.exists():
        return recipe
    if not resume:
        raise OptionError(f"{out} holds a training", fix="go on with --resume, or pass another --out")
    stored = read_recipe(path)
    both = zip(recipe_text(recipe).splitlines(), recipe_text(stored).splitlines(), strict=True)
    different = [(ours, theirs) for ours, theirs in both if ours != theirs and not theirs.startswith(MAY_DIFFER)]
    if recipe.images and different:
        raise OptionError(
            f"the training in {out} has {different[0][1]}, not {different[0][0]}",
            fix="pass --resume without other options, or another --out",
        )
    return stored


def _check_listings(recipe: TrainingRecipe) -> None:
    """Raises `OptionError` if the names of the photographs have other hashes than the recipe states."""
    for name, wanted in (("images", recipe.images_sha256), ("large", recipe.large_sha256)):
        if wanted and (found := list_photographs(getattr(recipe, name))[1]) != wanted:
            raise OptionError(f"the names of the {name} have the SHA-256 {found}, not {wanted} as in the recipe")


def _measured(recipe: TrainingRecipe, folder: Path, out: Path, classifier: Classifier) -> dict[str, float | None]:
    """Numbers of the prior in `folder`, kept there; made once."""
    path = folder / NUMBERS
    if path.exists():
        found: dict[str, float | None] = json.loads(path.read_text())
        return found
    prior = open_prior(folder, classifier)
    judge = load_classifier(recipe.judge, device=str(classifier.device)) if recipe.judge else None
    decoder = recipe.settings["decoder"]
    small = open_photographs(recipe.images, prior.network.config.size, out / "cache")
    held_out, rest = small.split(decoder.held_out, decoder.seed)
    seen = open_photographs(recipe.large or recipe.images, max(classifier.input_size), out / "cache", limit=SAMPLE)
    chosen = (held_out if len(held_out) else rest)[:SAMPLE]
    quality = measure_prior(
        prior,
        classifier,
        judge,
        small.batch(chosen, device=classifier.device),
        seen.batch(torch.arange(len(seen))),
        recipe.measured,
        recipe.measured_steps,
    )
    write_png(folder / CLASSES, _grid(quality.images))
    write_json(path, quality.numbers)
    return quality.numbers


def _grid(images: Tensor) -> Tensor:
    """Images in rows of eight."""
    return mosaic([list(part) for part in images.split(8)])


def with_steps(recipe: TrainingRecipe, factor: float) -> TrainingRecipe:
    """The recipe with all numbers of steps multiplied by `factor`, those before the critics and of fits included."""
    settings = {
        name: replace(
            own,
            **{
                part: max(1, round(getattr(own, part) * factor))
                for part in ("steps", "adversarial_from", "fit_steps")
                if getattr(own, part, 0) > 0
            },
        )
        for name, own in recipe.settings.items()
    }
    return replace(recipe, settings=settings)
