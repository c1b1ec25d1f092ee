"""Pixel mean flows (Lu et al. 2026, arXiv 2601.22158): noise and class embedding -> ImageNet image of 256 or 512 px.

One pass of a transformer, no autoencoder. The first layer of the network is linear, and maps each patch of the noise to
a sixth of its numbers or fewer. By default the code is this projection, whitened: all that the network can see, in
coordinates in which noise is standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from gen_prior.errors import OptionError, UnknownNameError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.pmf.format import CLASSES, prepare, published_shapes, used_for_sampling
from gen_prior.generators.pmf.network import VARIANTS, PixelFlow, Variant
from gen_prior.generators.shared.checks import check_generates
from gen_prior.generators.shared.code_parts import check_choice, noise_and_class, reno_recipe
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen, rename_tensors
from gen_prior.hub.tensors import read_tensors

FORMAT = "gen-prior/pmf-1"
Code = Literal["projection", "noise"]


def load(variant: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load `pmf:VARIANT`, one of `VARIANTS`, from the Hub; `options` as of `from_files`."""
    if variant not in VARIANTS:
        raise UnknownNameError("pixel mean flow", variant, VARIANTS, fix="for example pmf:B-16")
    entry = registry.find(f"pmf:{variant}")
    return from_files(
        Files.of_entry(entry, revision), name=f"pmf:{variant}", variant=variant, file=entry.files, **options
    )


def from_files(
    files: Files,
    *,
    name: str,
    variant: str | None = None,
    file: tuple[str, ...] = ("model.safetensors",),
    class_label: int | str | None = None,
    optimise: str = "both",
    noise_seed: int = 0,
    code: Code = "projection",
    guidance: float | None = None,
    interval: Sequence[float] | None = None,
) -> Generator:
    """The generator in `file` (the first that exists) of `files`.

    Args:
        variant: one of `VARIANTS`; that of an exported `config.json` if None.
        class_label: number or ImageNet name of the class to start from, or to fix; if None, the start is near the mean
            of all classes.
        optimise: "both" (the code is noise and class embedding, which may leave the known classes), "noise" (the class
            is fixed) or "class" (the noise is fixed, drawn from `noise_seed`).
        code: "projection" (the whitened output of the first layer) or "noise" (the noise image itself, of unit
            variance).
        guidance: scale of the classifier-free guidance that the network imitates, at least 1; the authors' if None.
        interval: (start, end) in [0, 1] of the times that are guided; the authors' if None.

    Raises:
        OptionError: an option out of range. UnknownNameError: an unknown class or variant. WeightsError,
            DownloadError.
    """
    label = check_choice(class_label, optimise, noise_seed, CLASSES)
    if code not in get_args(Code):
        raise OptionError(f"code must be one of {', '.join(get_args(Code))}, got {code!r}")
    with files.loading():
        chosen = variant or str(files.json("config.json").get("variant"))
        if chosen not in VARIANTS:
            raise WeightsError(f"{files.source}/config.json names {chosen!r}; known: {', '.join(VARIANTS)}")
        sizes, projected = VARIANTS[chosen], code == "projection"
        scale, times = _guidance(sizes, guidance, interval)
        network, class_embeddings = _read(files, file, sizes, projected, scale, times)
        shape = (sizes.bottleneck, sizes.grid, sizes.grid) if projected else (3, sizes.side, sizes.side)
        conditional, code_part = noise_and_class(network, shape, class_embeddings, label, optimise, noise_seed)
        entry = registry.find_by_source(files.source)
        options = {"class_label": label, "optimise": optimise, "code": code, "guidance": scale, "interval": list(times)}
        generator = Generator(
            conditional,
            code_part.mean.shape,
            name=name,
            recipe=reno_recipe(0 if optimise == "class" else math.prod(shape)),
            provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.PMF_PAPER),
            options=options | ({"noise_seed": noise_seed} if optimise == "class" else {}),
            notes={"format": FORMAT, "variant": chosen},
            **code_part.prior(),
        )
        return check_generates(generator, files.source, size=(sizes.side, sizes.side))


def _guidance(
    sizes: Variant, guidance: float | None, interval: Sequence[float] | None
) -> tuple[float, tuple[float, float]]:
    """Scale and interval of the guidance. Raises `OptionError` for values out of range."""
    scale = sizes.guidance if guidance is None else guidance
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 1 <= scale < math.inf:
        raise OptionError(f"guidance must be a number of at least 1, got {guidance!r}")
    times = sizes.interval if interval is None else interval
    numbers = isinstance(times, list | tuple) and len(times) == 2 and all(isinstance(t, int | float) for t in times)
    if not numbers or not 0 <= times[0] <= times[1] <= 1:
        raise OptionError(f"interval must be (start, end) with 0 <= start <= end <= 1, got {interval!r}")
    return float(scale), (float(times[0]), float(times[1]))


def _read(
    files: Files, names: tuple[str, ...], sizes: Variant, projected: bool, scale: float, times: tuple[float, float]
) -> tuple[PixelFlow, Tensor]:
    """The network with its weights, and the class embeddings `[K, W]`."""
    path = files.weights(*names)
    file, what = f"{files.source}/{path.name}", "this pixel mean flow"
    tensors = {key: value for key, value in read_tensors(path).items() if used_for_sampling(key)}
    tensors = rename_tensors(tensors, lambda key: key.removeprefix("net."), file)
    check_shapes(published_shapes(sizes), {key: tuple(value.shape) for key, value in tensors.items()}, file, what)
    network = build_on_meta(lambda: PixelFlow(sizes, projected), file)
    assert isinstance(network, PixelFlow)
    tensors, class_embeddings = prepare(tensors, sizes, projected, scale, times, file)
    load_frozen(network, tensors, file, what)
    return network, class_embeddings


__all__ = ["FORMAT", "from_files", "load"]
