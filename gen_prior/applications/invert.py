"""Feature inversion: images with the same features at a layer as a given one (Mahendran & Vedaldi 2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.applications.encode import encode
from gen_prior.applications.photographs import as_seen
from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators import as_generator
from gen_prior.generators.base import Generator
from gen_prior.objectives import Objective, match_image, style
from gen_prior.optimise.synthesize import synthesize
from gen_prior.recipe import Recipe
from gen_prior.report.grid import mosaic
from gen_prior.util.files import write_json
from gen_prior.util.image_io import write_png
from gen_prior.util.progress import Progress, ProgressCallback, progress_callback

WEIGHT = 100.0
"""Weight of the relative feature error against the regularisers of the generators' own recipes."""


@dataclass(frozen=True)
class Reconstruction:
    """An image `[3, H, W]` whose features at `layer` are near those of the original, and its code.

    `error` is the squared distance of the features over the squared norm of the original's: 0 for equal features,
    1 for features of zero. `style_error` is the same for the Gram matrices at the style layers, None without any.
    """

    layer: str
    method: str
    image: Tensor
    code: Tensor
    error: float
    style_error: float | None = None


@dataclass(frozen=True)
class Inversion:
    """The outcome of `invert`.

    Attributes:
        original: the image that was inverted, `[3, H, W]`, RGB, in [0, 1].
        layers: from shallow to deep.
        methods: names of the generators.
        reconstructions: `reconstructions[method][layer]`.
        settings: everything that the reconstructions depend on, as plain values.
    """

    original: Tensor
    layers: list[str]
    methods: list[str]
    reconstructions: dict[str, dict[str, Reconstruction]]
    settings: dict[str, Any]

    def sheet(self) -> Tensor:
        """One image `[3, H, W]`: the original, a row for each method, a column for each layer, errors below."""
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
        """Errors and settings as plain values for JSON."""
        rows = self.reconstructions.items()
        errors = {method: {layer: found.error for layer, found in row.items()} for method, row in rows}
        styles = {method: {layer: found.style_error for layer, found in row.items()} for method, row in rows}
        plain = {"layers": self.layers, "methods": self.methods, "feature_error": errors, "settings": self.settings}
        return plain | ({"style_error": styles} if self.settings["style_layers"] else {})

    def save(self, out: str | Path) -> Path:
        """Write the sheet, every reconstruction as PNG, and `inversion.json`; returns `out`."""
        folder = Path(out)
        write_png(folder / "original.png", self.original)
        for method, row in self.reconstructions.items():
            for layer, found in row.items():
                write_png(folder / f"{_slug(method)}-{_slug(layer)}.png", found.image)
        write_png(folder / "inversion.png", self.sheet())
        write_json(folder / "inversion.json", self.to_dict())
        return folder


def invert(
    classifier: Classifier | str,
    image: Tensor,
    layers: Sequence[str],
    generators: Mapping[str, Generator | str] | Sequence[Generator | str],
    *,
    recipes: Mapping[str, Recipe] | None = None,
    distance: str = "l2",
    style_layers: Sequence[str] = (),
    style_weight: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: ProgressCallback | None = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Inversion:
    """Reconstruct `image` from its features at each layer, through each generator (Mahendran & Vedaldi 2015).

    A prior with an encoder starts from the code of the image, all others from `seed`. The objective is `WEIGHT` times
    minus the relative squared feature error.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1]; its centre is cropped and resized to the classifier's input size first.
        layers: sorted into the network's own order.
        generators: name -> a prior or an image parameterisation (pixel, fourier, maco); or these in order.
        recipes: name of the generator -> recipe; `inversion_recipe` for those without.
        distance: "l2" or "cosine" (independent of the features' norm; suits logits).
        style_layers: layers whose Gram matrices are matched too (Gatys et al. 2015): texture, wherever it is.
        style_weight: weight of their relative error against that of the features.
        steps: replaces the recipes' number of steps.
        batch: as `synthesize` takes it.
        progress: called with a `Progress` in classifier evaluations, labelled with the generator.
        record: as `synthesize` takes it; items are the layers of the first generator, then those of the next.

    Raises:
        UnknownNameError: no such layer. OptionError: no layers or generators, or a negative style weight.
    """
    classifier = as_classifier(classifier)
    loaded = _loaded(generators)
    methods = list(loaded)
    report = progress_callback(progress, lambda p: _generator_progress(p, methods))
    if not loaded or not 0 <= style_weight < math.inf:
        raise OptionError(
            f"at least one generator and a style_weight of at least 0 are needed, got {methods}, {style_weight}"
        )
    names = _in_order(classifier, layers, style_layers)
    original = as_seen(classifier, image, crop=1.0)
    objectives = [WEIGHT * match_image(classifier, original, layer, distance) for layer in names]
    texture = style(classifier, original, style_layers) if style_layers else None
    if texture is not None:
        objectives = [objective + WEIGHT * style_weight * texture for objective in objectives]
    features = classifier.activations(original[None].to(classifier.device), names)
    found: dict[str, dict[str, Reconstruction]] = {}
    settings: dict[str, Any] = {"classifier": classifier.describe(), "distance": distance, "seed": seed}
    settings |= {"style_layers": list(style_layers), "style_weight": style_weight, "recipes": {}, "started_from": {}}
    for index, (method, generator) in enumerate(loaded.items()):
        recipe = (recipes or {}).get(method) or inversion_recipe(generator)
        if steps is not None:
            recipe = recipe.with_options(steps=steps)
        start = _start(classifier, generator, original)
        result = synthesize(
            classifier, objectives, generator, seeds=[seed], start=start, recipe=recipe, batch=batch, precision="fp32",
            progress=_part(report, method, index, len(methods)), record=_shifted_items(record, index * len(names)),
        )  # fmt: skip
        settings["started_from"][method] = "seed" if start is None else "the encoder's code of the image"
        settings["recipes"][method] = result.settings["recipe"]
        found[method] = {
            layer: _reconstruction(classifier, layer, method, image, code, features[layer], texture)
            for layer, image, code in zip(names, result.images[:, 0], result.codes[:, 0], strict=True)
        }
    return Inversion(original, names, methods, found, settings)


def _loaded(generators: Mapping[str, Generator | str] | Sequence[Generator | str]) -> dict[str, Generator]:
    """Generators by name."""
    if isinstance(generators, Mapping):
        return {name: as_generator(generator) for name, generator in generators.items()}
    return {generator.name: generator for generator in map(as_generator, generators)}


def _in_order(classifier: Classifier, layers: Sequence[str], style_layers: Sequence[str]) -> list[str]:
    """`layers` in the network's order, without repeats. Raises if there is none, or one does not exist."""
    if not layers:
        raise OptionError("inversion needs at least one layer")
    for layer in (*layers, *style_layers):
        classifier.layer_shape(layer)
    order = list(classifier.layers())
    return sorted(dict.fromkeys(layers), key=lambda name: (name == LOGITS, order.index(name)))


def _start(classifier: Classifier, generator: Generator, image: Tensor) -> Tensor | None:
    """The encoder's code of the image; None without an encoder, and for pixels, whose code would be the answer."""
    if not generator.can_encode or generator.domain == "image":
        return None
    return encode(generator.to(classifier.device).fitted_to(classifier.input_size), image)


def _part(report: ProgressCallback | None, method: str, index: int, count: int) -> ProgressCallback | None:
    """Progress of one generator of `count`, all of which count as equally long."""
    if report is None:
        return None
    return lambda step: report(step.within(index * step.total, count * step.total, method))


def _generator_progress(progress: Progress, methods: Sequence[str]) -> tuple[str, int, int, Tensor | None]:
    """The arguments of a 0.1 callback: generator, its evaluations done, all of its evaluations, activations."""
    total = progress.total // len(methods)
    return progress.label, progress.done - methods.index(progress.label) * total, total, progress.activations


def _shifted_items(
    record: Callable[[int, int, Tensor], None] | None, before: int
) -> Callable[[int, int, Tensor], None] | None:
    return None if record is None else lambda first, step, images: record(before + first, step, images)


def inversion_recipe(generator: Generator) -> Recipe:
    """Recipe without transforms, since features are matched position by position.

    For pixels: alpha-norm and total variation (Mahendran & Vedaldi 2015) with Adam. For others: their own
    recipe with a `prior_weight` of at most 0.01.
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


def _reconstruction(
    classifier: Classifier,
    layer: str,
    method: str,
    image: Tensor,
    code: Tensor,
    features: Tensor,
    texture: Objective | None,
) -> Reconstruction:
    """`image` with its errors against the original's `features` and textures."""
    batch = image[None].to(classifier.device)
    values = classifier.activations(batch, [layer])[layer]
    error = float((values - features).square().sum() / features.square().sum().clamp_min(1e-30))
    if texture is None:
        return Reconstruction(layer, method, image, code, error)
    style_error = -float(texture(classifier.activations(batch, texture.layers), batch, batch))
    return Reconstruction(layer, method, image, code, error, style_error)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)
