"""Classifiers, image -> logits, one file a source, their layers and class names; imports `hub` and below.

`load_classifier("efficientnet-lite0")` loads one by name. To add a source, write one file and one line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from gen_prior.classifiers import caffenet, efficientnet_lite
from gen_prior.classifiers import local as local_folder
from gen_prior.classifiers import timm as timm_family
from gen_prior.classifiers import torchvision as torchvision_family
from gen_prior.classifiers.base import Classifier
from gen_prior.util.devices import resolve_device
from gen_prior.util.registry import find_loader

Loader = Callable[..., Classifier]

NAMED: dict[str, Loader] = {
    "efficientnet-lite0": efficientnet_lite.load,
    "efficientnet-lite1": efficientnet_lite.load,
    "efficientnet-lite2": efficientnet_lite.load,
    "caffenet": caffenet.load,
}
"""Name -> `load(name, **options)`."""

PREFIXED: dict[str, Loader] = {
    "torchvision": torchvision_family.load,
    "hf-hub": timm_family.load,
    "local-dir": local_folder.load,
}
"""Source prefix -> `load(rest, **options)`, where the spec is `prefix:rest`."""


def load_classifier(spec: str, *, device: str | torch.device = "auto", **options: Any) -> Classifier:
    """The classifier called `spec`, frozen, on `device`.

    `spec` is a name (`efficientnet-lite0`) or `prefix:rest` (`torchvision:resnet50`, `hf-hub:timm/NAME@REVISION`,
    `local-dir:DIR`); a source is never guessed. Raises `UnknownNameError` for an unknown name, `OptionError` for
    an option that the family does not take, `WeightsError` or `DownloadError` for weights that cannot be had.
    """
    load = find_loader("classifier", spec, NAMED, PREFIXED, _fix)
    target = resolve_device(device)  # an absent device is found out before anything is loaded
    return load(**options).to(target)


def _fix(spec: str) -> str:
    """What to write instead of a name without its source."""
    if spec in torchvision_family.names():
        return f"name the source: torchvision:{spec} or hf-hub:timm/{spec}.TAG"
    if re.fullmatch(r"\w+\.\w+", spec):
        return f"name the source: hf-hub:timm/{spec}"
    return "name the source (torchvision:NAME, hf-hub:timm/NAME, local-dir:DIR), or list them: gen-prior models"


__all__ = ["NAMED", "PREFIXED", "Classifier", "load_classifier"]
