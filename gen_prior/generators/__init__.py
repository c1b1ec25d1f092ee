"""Generators, code -> image, one file a family, and their formats; imports `objectives` and below.

`load_generator("dgn-lite0")` loads one by name. To add a family, write one file and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gen_prior.generators import dcgan, formats, fourier, maco, pixel
from gen_prior.generators.base import CodePrior, Generator, Provenance
from gen_prior.generators.biggan import generator as biggan
from gen_prior.generators.deepsim import generator as deepsim
from gen_prior.generators.dgn import generator as dgn
from gen_prior.generators.diffusers import autoencoder as diffusers_family
from gen_prior.generators.diffusers import consistency
from gen_prior.util.devices import resolve_device
from gen_prior.util.registry import find_loader

Loader = Callable[..., Generator]

NAMED: dict[str, Loader] = {
    "dgn-lite0": dgn.load_embedded,
    "dgn-lite0-gaussian": dgn.load_gaussian,
    "pixel": pixel.load,
    "pixel-raw": pixel.load,
    "fourier": fourier.load,
    "maco": maco.load,
    "deepsim-fc6": deepsim.load,
    "deepsim-fc6-eucl": deepsim.load,
    "deepsim-fc7": deepsim.load,
    "deepsim-fc8": deepsim.load,
    "deepsim-pool5": deepsim.load,
    "deepsim-conv4": deepsim.load,
    "deepsim-conv3": deepsim.load,
    "deepsim-norm2": deepsim.load,
    "deepsim-norm1": deepsim.load,
    "biggan-deep-128": biggan.load,
    "biggan-deep-256": biggan.load,
    "biggan-deep-512": biggan.load,
}
"""Name -> `load(name, **options)`."""

PREFIXED: dict[str, Loader] = {
    "local-dir": formats.load_folder,
    "hf-hub": formats.load_hub,
    "dcgan": dcgan.load,
    "diffusers": diffusers_family.load,
    "consistency": consistency.load,
}
"""Source prefix -> `load(rest, **options)`, where the spec is `prefix:rest`."""


def load_generator(spec: str, *, device: str | torch.device = "auto", **options: Any) -> Generator:
    """The generator called `spec`, frozen, on `device`.

    `spec` is a name (`dgn-lite0`, `biggan-deep-128`) or `prefix:rest` (`local-dir:DIR`, `hf-hub:org/name@revision`,
    `diffusers:org/name`); a source is never guessed. Raises `UnknownNameError` for an unknown name, `OptionError` for
    an option that the family does not take, `WeightsError` or `DownloadError` for weights that cannot be had.
    """
    load = find_loader("generator", spec, NAMED, PREFIXED, lambda name: "list them: gen-prior models")
    target = resolve_device(device)  # an absent device is found out before anything is loaded
    return load(**options).to(target)


def load_described(described: Mapping[str, Any], *, device: str | torch.device = "auto") -> Generator:
    """The generator of `Generator.describe()`, with its options; from the Hub, at its commit. Raises as above."""
    from_hub = str(described["source"]).startswith("hf-hub:")
    pinned = {"revision": described["revision"]} if from_hub and described["revision"] else {}
    return load_generator(described["name"], device=device, **described["options"], **pinned)


__all__ = ["NAMED", "PREFIXED", "CodePrior", "Generator", "Provenance", "load_described", "load_generator"]
