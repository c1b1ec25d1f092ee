"""Generators, code -> image, one file a family, and their formats; imports `objectives` and below.

`load_generator("dgn-lite0")` loads one by name. To add a family, write one file and one line in `NAMED` or `PREFIXED`
here. Each name of `NAMED` also needs an entry in `hub/registry.py`, each published one a line in `SEVERAL_SIDES` or
`ONE_SIDE`, and a family that `local-dir:` and `hf-hub:` should recognise a branch in `formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gen_prior.errors import OptionError
from gen_prior.generators import dcgan, formats, fourier, maco, pixel
from gen_prior.generators.afm import generator as afm
from gen_prior.generators.afm.network import VARIANTS as AFM
from gen_prior.generators.base import CodePrior, Generator, Provenance
from gen_prior.generators.biggan import generator as biggan
from gen_prior.generators.deepsim import generator as deepsim
from gen_prior.generators.deepsim.network import VARIANTS as DEEPSIM
from gen_prior.generators.dgn import generator as dgn
from gen_prior.generators.diffusers import autoencoder as diffusers_family
from gen_prior.generators.diffusers import consistency, one_step
from gen_prior.generators.pmf import generator as pmf
from gen_prior.generators.pmf.network import VARIANTS as PMF
from gen_prior.generators.titok import generator as titok
from gen_prior.hub import registry
from gen_prior.util.devices import resolve_device
from gen_prior.util.lookup import find_loader

Loader = Callable[..., Generator]

NAMED: dict[str, Loader] = {
    "dgn-lite0": dgn.load_embedded,
    "dgn-lite0-gaussian": dgn.load_gaussian,
    "pixel": pixel.load,
    "pixel-raw": pixel.load,
    "fourier": fourier.load,
    "maco": maco.load,
    **dict.fromkeys(DEEPSIM, deepsim.load),
    **dict.fromkeys(("biggan-deep-128", *biggan.UNPUBLISHED), biggan.load),
}
"""Name -> function that loads it, called as `load(name, **options)`."""

PREFIXED: dict[str, Loader] = {
    "local-dir": formats.load_folder,
    "hf-hub": formats.load_hub,
    "dcgan": dcgan.load,
    "diffusers": diffusers_family.load,
    "consistency": consistency.load,
    "one-step": one_step.load,
    "titok": titok.load,
    "afm": afm.load,
    "pmf": pmf.load,
}
"""Prefix -> function that loads `prefix:rest`, called as `load(rest, **options)`."""

SEVERAL_SIDES = (
    "dgn-lite0", "dgn-lite0-gaussian", "pixel", "pixel-raw", "fourier", "maco", "diffusers:...", "one-step:...",
)  # fmt: skip
"""Generators that take `image_size`."""
ONE_SIDE: dict[str, int] = {
    **{name: variant.side for name, variant in DEEPSIM.items()},
    "biggan-deep-128": 128,
    **{f"titok:{size}": 256 for size in ("ll32", "bl64", "bl128")},
    **{f"afm:{name}": 256 for name in AFM},
    **{f"pmf:{name}": variant.side for name, variant in PMF.items()},
    **{entry.name: 64 for entry in registry.ENTRIES if entry.name.startswith("consistency:")},
}
"""Other generators by name -> the only side of their images in pixels, known before they are downloaded."""


def load_generator(spec: str, *, device: str | torch.device = "auto", **options: Any) -> Generator:
    """Load the generator `spec`, with frozen weights, on `device`.

    Args:
        spec: a name (`dgn-lite0`, `biggan-deep-128`) or a prefix and a source (`local-dir:DIR`,
            `hf-hub:org/name@revision`, `diffusers:org/name`).
        device: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps".
        options: options of the family, such as `class_label`, or the side of the images in pixels, `image_size`, of
            those that draw several.

    Raises:
        UnknownNameError: an unknown name. OptionError: an option that the family does not take, or a wrong value.
        WeightsError, DownloadError: weights that are damaged, of another format, or not to be downloaded.
        DeviceError: an absent device.
    """
    load = find_loader("generator", spec, NAMED, PREFIXED, lambda name: "list them: gen-prior models")
    target = resolve_device(device)  # raises for an absent device before anything is loaded
    if "image_size" in options and spec in ONE_SIDE:
        raise _one_size(spec, ONE_SIDE[spec], ONE_SIDE[spec], options["image_size"])
    try:
        return load(**options).to(target)
    except OptionError as error:
        if not (size := options.pop("image_size", None)) or "'image_size'" not in str(error):
            raise
        raise _one_size(spec, *load(**options).image_shape(), size) from error


def _one_size(spec: str, height: int, width: int, given: Any) -> OptionError:
    return OptionError(
        f"{spec} draws {height} x {width} px only, got image_size={given!r}",
        fix=f"leave it out, or take one that draws several sizes: {', '.join(SEVERAL_SIDES)}",
    )


def as_generator(given: Generator | str) -> Generator:
    """Return `given`, or the generator of that name, loaded. Raises as `load_generator`."""
    return load_generator(given) if isinstance(given, str) else given


def load_described(described: Mapping[str, Any], *, device: str | torch.device = "auto") -> Generator:
    """Load the generator that `Generator.describe()` described, at the same commit. Raises as `load_generator`."""
    from_hub = str(described["source"]).startswith("hf-hub:")
    pinned = {"revision": described["revision"]} if from_hub and described["revision"] else {}
    return load_generator(described["name"], device=device, **described["options"], **pinned)


__all__ = [
    "NAMED",
    "PREFIXED",
    "CodePrior",
    "Generator",
    "Provenance",
    "as_generator",
    "load_described",
    "load_generator",
]
