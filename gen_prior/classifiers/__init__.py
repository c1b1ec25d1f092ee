"""Classifiers, image -> logits, one file a source, their layers and class names; imports `hub` and below.

`load_classifier("efficientnet-lite0")` loads one by name. To add a source, write one file and one line in `NAMED` or
`PREFIXED` here. Each name of `NAMED` also needs an entry in `hub/registry.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gen_prior.classifiers import caffenet, efficientnet_lite, formats, own_code
from gen_prior.classifiers import torchvision as torchvision_family
from gen_prior.classifiers import torchvision_classification as classification
from gen_prior.classifiers import transformers as transformers_family
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub.provenance import IN_PYTHON
from gen_prior.util.devices import resolve_device
from gen_prior.util.lookup import find_loader

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
    "hf-hub": formats.load_hub,
    "transformers": transformers_family.load,
    "local-dir": formats.load,
}
"""Prefix -> `load(rest, **options)`, for names written as `prefix:rest`."""


def load_classifier(
    spec: str,
    *,
    device: str | torch.device = "auto",
    unit_axis: Mapping[str, int] | None = None,
    **options: Any,
) -> Classifier:
    """Load an image classifier by name, frozen and in evaluation mode.

    Args:
        spec: a name (`efficientnet-lite0`) or `prefix:rest` (`torchvision:resnet50`, `hf-hub:timm/NAME@REVISION`,
            `transformers:org/NAME`, `local-dir:DIR`); the source is never guessed. `my_package.my_module:build` is
            code of your own, which is imported and run, see `gen_prior.classifiers.own_code`.
        device: "auto" (CUDA, then MPS, then CPU) or a device.
        unit_axis: `{layer: axis}` as `Classifier` takes it.
        options: of the source, such as `revision` for the Hub, `weights` for torchvision, or `mean`, `std`,
            `input_size` and `labels` for code of your own; `fold=False` keeps batch norms as they are.

    Raises:
        UnknownNameError: unknown name or source.
        OptionError: an option that the source does not take.
        WeightsError, DownloadError: weights that are damaged, do not fit, or cannot be downloaded.
        MissingExtraError: a package that this source needs is not installed.
        DeviceError: the device does not exist.
    """
    is_code = is_own_code(spec)
    try:
        load = find_loader("classifier", spec, NAMED | ({spec: own_code.load} if is_code else {}), PREFIXED, _fix)
    except UnknownNameError as error:
        meant = own_code.mistaken(spec) if not error.matches else None
        if meant is None:
            raise
        raise meant from error
    target = resolve_device(device)  # fails before anything is loaded
    classifier = load(**options)
    classifier.unit_axis = {**classifier.unit_axis, **(unit_axis or {})}
    if not is_code:
        classifier.load_options = options | ({"unit_axis": dict(unit_axis)} if unit_axis else {})
    return classifier.to(target)


def is_own_code(spec: str) -> bool:
    """True for `MODULE:NAME`, code of the user's own, which runs when it is loaded: only the user may name it."""
    return spec not in NAMED and spec.partition(":")[0] not in PREFIXED and own_code.is_code(spec)


def load_described(description: Mapping[str, Any], *, device: str | torch.device = "auto") -> Classifier:
    """Load the classifier that `Classifier.describe` described, with the options that it was loaded with.

    Raises as `load_classifier`, and `OptionError` for code of the user's own: a file must not choose what is run.
    """
    name = str(description["name"])
    if is_own_code(name):
        raise OptionError(
            f"{name} is code of your own, which is not run because a file names it",
            fix=f"name it yourself: --classifier {name}, or replay(classifier)",
        )
    try:
        return load_classifier(name, device=device, **description.get("options", {}))
    except UnknownNameError as error:
        if description.get("source") != IN_PYTHON:
            raise
        raise OptionError(
            f"this result is of a network of your own, {name!r}, which no name loads",
            fix="gen-prior replay FOLDER --classifier my_module:build, or in Python replay(classifier)",
        ) from error


def as_classifier(given: Classifier | str) -> Classifier:
    """Return `given`, or the classifier of that name, loaded. Raises as that, and `OptionError` for a module."""
    if isinstance(given, nn.Module):
        raise OptionError(
            f"a classifier is a gp.Classifier or its name, got a {type(given).__name__}",
            fix="wrap it: gp.Classifier(module, mean=..., std=..., input_size=...)",
        )
    return load_classifier(given) if isinstance(given, str) else given


def _fix(spec: str) -> str:
    """Correct spelling of `spec`, a name without its source."""
    if spec in classification.names():
        return f"name the source: torchvision:{spec} or hf-hub:timm/{spec}.TAG"
    if re.fullmatch(r"\w+\.\w+", spec):
        if own_code.is_code(code := spec.replace(".", ":")):
            return f"write {code}, if it is code of your own"
        return f"name the source: hf-hub:timm/{spec}"
    sources = "torchvision:NAME, hf-hub:timm/NAME, transformers:ORG/NAME, local-dir:DIR, or MODULE:NAME of your own"
    return f"name the source ({sources}), or list them: gen-prior models"


__all__ = ["NAMED", "PREFIXED", "Classifier", "as_classifier", "is_own_code", "load_classifier", "load_described"]
