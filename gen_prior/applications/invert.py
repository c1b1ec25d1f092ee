"""What a layer still knows of an image: images with the same features there (Mahendran & Vedaldi 2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.applications.encode import encode
from gen_prior.applications.exemplars import as_seen
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, match_image, style
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.grid import mosaic
from gen_prior.util.files import write_json
from gen_prior.util.image_io import write_png

WEIGHT = 100.0
"""Of the relative feature error against the regularisers of the generators' own recipes."""


@dataclass(frozen=True)
class Reconstruction:
    """An image whose features at `layer` come near the original's.

    `error` is the squared distance of the features over the squared norm of the original's: 0 is perfect, 1 as
    bad as silence. `style_error` is the same of the Gram matrices at the style layers; None without such.
    """

    layer: str
    method: str
    image: Tensor
    code: Tensor
    error: float
    style_error: float | None = None


@dataclass(frozen=True)
class Inversion:
    """Reconstructions of one image, `reconstructions[method][layer]`, shallow to deep."""

    original: Tensor
    layers: list[str]
    methods: list[str]
    reconstructions: dict[str, dict[str, Reconstruction]]
    settings: dict[str, Any]

    def sheet(self) -> Tensor:
        """Rows are methods, columns layers, the feature error below each; the original comes first."""
        rows = [
            [self.original if r == 0 else None, *(self.reconstructions[method][layer].image for layer in self.layers)]
            for r, method in enumerate(self.methods)
        ]
        captions = [
            ["", *(f"error {self.reconstructions[method][layer].error:.3f}" for layer in self.layers)]
            for method in self.methods
        ]
        return mosaic(rows, captions=captions, row_names=self.methods, column_names=["original", *self.layers])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = self.reconstructions.items()
        errors = {method: {layer: found.error for layer, found in row.items()} for method, row in rows}
        styles = {method: {layer: found.style_error for layer, found in row.items()} for method, row in rows}
        plain = {"layers": self.layers, "methods": self.methods, "feature_error": errors, "settings": self.settings}
        return plain | ({"style_error": styles} if self.settings["style_layers"] else {})

    def save(self, out: str | Path) -> Path:
        """Write the sheet, every reconstruction as PNG, and `inversion.json`; returns the folder."""
        folder = Path(out)
        write_png(folder / "original.png", self.original)
        for method, row in self.reconstructions.items():
            for layer, found in row.items():
                write_png(folder / f"{_slug(method)}-{_slug(layer)}.png", found.image)
        write_png(folder / "inversion.png", self.sheet())
        write_json(folder / "inversion.json", self.to_dict())
        return folder


def invert(
    classifier: Classifier,
    image: Tensor,
    layers: Sequence[str],
    generators: Mapping[str, Generator],
    *,
    recipes: Mapping[str, Recipe] | None = None,
    distance: str = "l2",
    style_layers: Sequence[str] = (),
    style_weight: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[str, int, int, Tensor | None], None] | None = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Inversion:
    """Reconstruct `image` from its features at each of `layers`, through each of `generators`.

    A prior with an encoder starts from the code of the image itself, the others from `seed`.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1]; its centre square at the classifier's input size is inverted.
        layers: put in the network's own order.
        generators: name -> a prior or a pixel-space mode.
        recipes: settings by the generator's name; `inversion_recipe` where not given.
            Objectives are `WEIGHT` times minus the relative squared feature error.
        distance: "l2" or "cosine" (indifferent to strength; suits logits).
        style_layers: layers whose Gram matrices are matched too (Gatys et al. 2015): texture, wherever it is.
        style_weight: of the relative error of those, against that of the features.
        progress: called as (generator, steps done, steps, activations).
        record: as that of `synthesize`; items are the layers of the first generator, then those of the next.

    Raises:
        UnknownNameError: no such layer. OptionError: no layers or generators, or a style weight below 0.
    """
    if not layers or not generators:
        raise OptionError("inversion needs at least one layer and one generator")
    if not 0 <= style_weight < math.inf:
        raise OptionError(f"style_weight must be a number from 0 on, got {style_weight}")
    order = list(classifier.layers())
    for layer in (*layers, *style_layers):
        classifier.layer_shape(layer)
    names = sorted(dict.fromkeys(layers), key=lambda name: (name == LOGITS, order.index(name)))
    original = as_seen(classifier, image)
    goals = [WEIGHT * match_image(classifier, original, layer, distance) for layer in names]
    texture = style(classifier, original, style_layers) if style_layers else None
    if texture is not None:
        goals = [goal + WEIGHT * style_weight * texture for goal in goals]
    wanted = classifier.activations(original[None].to(classifier.device), names)
    found: dict[str, dict[str, Reconstruction]] = {}
    settings: dict[str, Any] = {"classifier": classifier.describe(), "distance": distance, "seed": seed}
    settings |= {"style_layers": list(style_layers), "style_weight": style_weight, "recipes": {}, "started_from": {}}
    for place, (method, generator) in enumerate(generators.items()):
        recipe = (recipes or {}).get(method) or inversion_recipe(generator)
        if steps is not None:
            recipe = recipe.with_options(steps=steps)
        told = _told(progress, method)
        start = _start(classifier, generator, original)
        result = synthesize(
            classifier,
            goals,
            generator,
            seeds=[seed],
            start=start,
            recipe=recipe,
            batch=batch,
            precision="fp32",
            progress=told,
            record=_placed(record, place * len(names)),
        )
        settings["started_from"][method] = "seed" if start is None else "the encoder's code of the image"
        settings["recipes"][method] = result.settings["recipe"]
        row = {}
        for layer, image, code in zip(names, result.images[:, 0], result.codes[:, 0], strict=True):
            error = _error(classifier, image, layer, wanted[layer])
            row[layer] = Reconstruction(layer, method, image, code, error, _style_error(classifier, image, texture))
        found[method] = row
    return Inversion(original, names, list(generators), found, settings)


def _start(classifier: Classifier, generator: Generator, image: Tensor) -> Tensor | None:
    """The code that a generator's encoder gives of the image; none for pixels, whose code would be the answer."""
    if not generator.can_encode or generator.domain == "image":
        return None
    return encode(generator.to(classifier.device).fitted_to(classifier.input_size), image)


def inversion_recipe(generator: Generator) -> Recipe:
    """Settings for a fixed view: features of one image are matched place by place, so nothing may be shifted.

    For pixels, alpha-norm and total variation after Mahendran & Vedaldi 2015, by Adam; for a prior its own
    recipe, with a weak penalty on the code.
    """
    steps = max(generator.recipe.evaluations, 200)
    own = generator.recipe.with_options(transforms=(), trials=1, steps=steps, score="activation")
    if generator.name.startswith("pixel"):
        penalties = (
            ("alpha_norm", {"weight": 2.0, "alpha": 6.0}),
            ("total_variation", {"weight": 1000.0, "beta": 2.0}),
        )
        return own.with_options(rate=0.02, regularisers=penalties)
    return own.with_options(prior_weight=min(own.prior_weight, 0.01))


def _error(classifier: Classifier, image: Tensor, layer: str, wanted: Tensor) -> float:
    values = classifier.activations(image[None].to(classifier.device), [layer])[layer]
    return float((values - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))


def _style_error(classifier: Classifier, image: Tensor, texture: Objective | None) -> float | None:
    if texture is None:
        return None
    batch = image[None].to(classifier.device)
    return -float(texture(classifier.activations(batch, texture.layers), batch, batch))


def _placed(
    record: Callable[[int, int, Tensor], None] | None, before: int
) -> Callable[[int, int, Tensor], None] | None:
    return None if record is None else lambda first, step, images: record(before + first, step, images)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)


def _told(
    progress: Callable[[str, int, int, Tensor | None], None] | None, method: str
) -> Callable[[int, int, int, int, Tensor], None] | None:
    if progress is None:
        return None

    def tell(item: int, items: int, step: int, steps: int, activations: Tensor) -> None:
        progress(method, item * steps + len(activations) * step, items * steps, activations)

    return tell


__all__ = ["Inversion", "Reconstruction", "inversion_recipe", "invert"]
