"""Feature inversion: images with the same features at a layer as a given one (Mahendran & Vedaldi 2015)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.applications.encode import encode
from gen_prior.applications.inversion import RECORD, Inversion, Reconstruction, finished_reconstructions
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
from gen_prior.util.folders import check_kind, remove_run, run_writer
from gen_prior.util.image_io import AnyImage, as_image
from gen_prior.util.progress import Progress, ProgressCallback, ProgressOption, progress_callback
from gen_prior.util.random import check_seed

WEIGHT = 100.0
"""Weight of the relative feature error against the regularisers of the generators' own recipes."""


def invert(
    classifier: Classifier | str,
    image: AnyImage,
    layers: str | Sequence[str],
    generators: Generator | str | Mapping[str, Generator | str] | Sequence[Generator | str],
    *,
    recipes: Mapping[str, Recipe] | None = None,
    distance: str = "l2",
    style_layers: str | Sequence[str] = (),
    style_weight: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressOption = None,
    record: Callable[[int, int, Tensor], None] | None = None,
) -> Inversion:
    """Reconstruct `image` from its features at each layer, through each generator (Mahendran & Vedaldi 2015).

    A prior with an encoder starts from the code of the image, all others from `seed`. The objective is `WEIGHT` times
    minus the relative squared feature error.

    Args:
        image: `[3, H, W]`, RGB, in [0, 1], a PIL picture or a file; its centre is cropped and resized to the
            classifier's input size first.
        layers: one or more, sorted into the network's own order.
        generators: name -> a prior or an image parameterisation (pixel, fourier, maco); or these in order, or one.
        recipes: name of the generator -> recipe; `inversion_recipe` for those without.
        distance: "l2" or "cosine" (independent of the features' norm; suits logits).
        style_layers: layers whose Gram matrices are matched too (Gatys et al. 2015): texture, wherever it is.
        style_weight: weight of their relative error against that of the features.
        steps: replaces the recipes' number of steps.
        batch: as `synthesize` takes it.
        out: a folder, as `Inversion.save` writes it, after each generator. A folder that holds a part of the same
            inversion is continued, with another run it is refused.
        overwrite: replace the run in `out` instead, whichever it is.
        progress: as `synthesize` takes it, in classifier evaluations, labelled with the generator.
        record: as `synthesize` takes it; items are the layers of the first generator, then those of the next.

    Raises:
        UnknownNameError: no such layer. OptionError: no layers or generators, or a negative style weight.
    """
    classifier = as_classifier(classifier)
    layers, style_layers = ([one] if isinstance(one, str) else one for one in (layers, style_layers))
    loaded = _loaded(generators)
    methods = list(loaded)
    report = progress_callback(progress, lambda p: _generator_progress(p, methods))
    if not loaded or not 0 <= style_weight < math.inf:
        raise OptionError(
            f"at least one generator and a style_weight of at least 0 are needed, got {methods}, {style_weight}"
        )
    names = _in_order(classifier, layers, style_layers)
    original = as_seen(classifier, as_image(image), crop=1.0)
    objectives = [WEIGHT * match_image(classifier, original, layer, distance) for layer in names]
    texture = style(classifier, original, style_layers) if style_layers else None
    if texture is not None:
        objectives = [objective + WEIGHT * style_weight * texture for objective in objectives]
    features = classifier.activations(original[None].to(classifier.device), names)
    chosen = _recipes(loaded, recipes or {}, steps)
    settings: dict[str, Any] = {"classifier": classifier.describe(), "distance": distance, "seed": check_seed(seed)}
    settings |= {"style_layers": list(style_layers), "style_weight": style_weight} | _made_of(original, loaded, chosen)
    inversion = Inversion(original, names, methods, {}, settings)
    with run_writer(out) if out is not None else nullcontext() as folder:
        if folder is not None:
            check_kind(folder, RECORD, overwrite=overwrite)
            if not overwrite and (folder / RECORD).exists():
                inversion.reconstructions.update(finished_reconstructions(folder, inversion))
        for index, (method, generator) in enumerate(loaded.items()):
            if method in inversion.reconstructions:
                continue
            start = _start(classifier, generator, original)
            result = synthesize(
                classifier, objectives, generator, seeds=[seed], start=start, recipe=chosen[method], batch=batch,
                precision="fp32", progress=_part(report, method, index, len(methods)),
                record=_shifted_items(record, index * len(names)),
            )  # fmt: skip
            inversion.reconstructions[method] = {
                layer: _reconstruction(classifier, layer, method, image, code, features[layer], texture)
                for layer, image, code in zip(names, result.images[:, 0], result.codes[:, 0], strict=True)
            }
            if folder is not None:
                if overwrite and len(inversion.reconstructions) == 1:
                    remove_run(folder)
                inversion.write(folder, [method])
    return inversion


def _loaded(
    generators: Generator | str | Mapping[str, Generator | str] | Sequence[Generator | str],
) -> dict[str, Generator]:
    """Generators by name."""
    if isinstance(generators, Generator | str):
        generators = [generators]
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


def _recipes(generators: Mapping[str, Generator], given: Mapping[str, Recipe], steps: int | None) -> dict[str, Recipe]:
    """Recipe of each generator, of `steps` steps where that is not None."""
    chosen = {method: given.get(method) or inversion_recipe(own) for method, own in generators.items()}
    return chosen if steps is None else {name: recipe.with_options(steps=steps) for name, recipe in chosen.items()}


def _made_of(image: Tensor, generators: Mapping[str, Generator], recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Settings that say what the image, the generators and their recipes are."""
    return {
        "recipes": {method: recipe.to_dict() for method, recipe in recipes.items()},
        "started_from": {method: _started_from(own) for method, own in generators.items()},
        "generators": {method: own.describe() for method, own in generators.items()},
        "image_sha256": hashlib.sha256(image.numpy().tobytes()).hexdigest(),
    }


def _started_from(generator: Generator) -> str:
    return "the encoder's code of the image" if generator.can_encode and generator.domain != "image" else "seed"


def _start(classifier: Classifier, generator: Generator, image: Tensor) -> Tensor | None:
    """The encoder's code of the image; None without an encoder, and for pixels, whose code would be the answer."""
    if not generator.can_encode or generator.domain == "image":
        return None
    return encode(generator.to(classifier.device).fitted_to(classifier.input_size, len(classifier.mean)), image)


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


__all__ = ["Inversion", "Reconstruction", "inversion_recipe", "invert"]
