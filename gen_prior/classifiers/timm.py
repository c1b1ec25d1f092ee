"""Classifiers in timm's layout, from a repository or folder, built by timm (extra `timm`); `formats` loads them.

A repository holds a configuration, which names an architecture of timm, and a safetensors file. Nothing from it is
executed or unpickled, and timm itself downloads nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from gen_prior.classifiers.arguments import INTERPOLATIONS
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import Labels, imagenet
from gen_prior.errors import MissingExtraError, UnknownNameError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import check_size, without_prefix
from gen_prior.hub.tensors import read_tensors

LARGEST_SIDE, MOST_CHANNELS = 2048, 64
"""Largest height or width, and most channels, of a network's input."""
_RESERVED = ("pretrained", "checkpoint", "cache", "features", "script", "export")
"""Options that start so make timm load files or return another kind of network; a configuration may not set them."""


class Settings(NamedTuple):
    """Input and classes of a network, from its configuration; 0 classes for a network whose output is features."""

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    classes: int
    labels: Labels | None


def from_files(files: Files, config: Mapping[str, Any], weights: str, *, name: str, fold: bool = True) -> Classifier:
    """Build the classifier that `config` describes, with the tensors of the file called `weights`."""
    settings = read_settings(config, f"{files.source}/config.json")
    tensors = without_prefix(read_tensors(files.weights(weights)))
    network = build(config, settings, tensors, f"{files.source}/{weights}")
    licence = config.get("license") or _cfg(config).get("license")
    return make_classifier(network, settings, files, name=name, licence=str(licence) if licence else None, fold=fold)


def make_classifier(
    network: nn.Module, settings: Settings, files: Files, *, name: str, licence: str | None, fold: bool
) -> Classifier:
    """Wrap a loaded network with the settings of its configuration."""
    return Classifier(
        network,
        mean=settings.mean,
        std=settings.std,
        input_size=settings.size,
        labels=settings.labels,
        name=name,
        interpolation=settings.interpolation,
        provenance=files.provenance(licence=licence),
        fold=fold,
        in_place=True,
        has_classes=settings.classes > 0,
    )


def build(config: Mapping[str, Any], settings: Settings, tensors: Mapping[str, Tensor], file: str) -> nn.Module:
    """Build timm's network with these weights. Raises `WeightsError` unless they fit exactly."""
    timm = require_timm()
    architecture = str(config.get("architecture"))
    if not timm.is_model(architecture):
        unknown = UnknownNameError("timm architecture", architecture, timm.list_models())
        raise WeightsError(f"{file}: {unknown}", fix="pip install --upgrade timm, or check config.json")
    options = dict(config.get("model_args") or {})
    options.pop("num_classes", None)  # that of `settings`
    if forbidden := [option for option in options if option.startswith(_RESERVED)]:
        raise WeightsError(f"{file}: config.json may not set {', '.join(forbidden)}")
    if settings.channels != 3:
        options.setdefault("in_chans", settings.channels)
    if config.get("global_pool") is not None:
        options.setdefault("global_pool", config["global_pool"])
    allowed = {"input_size", "classifier", "first_conv", "label_offset", "pool_size", "fixed_input_size"}
    cfg = {key: value for key, value in _cfg(config).items() if key in allowed and value is not None}
    cfg |= {"num_classes": settings.classes, "state_dict": dict(tensors), "architecture": architecture}
    check_size(lambda: timm.create_model(architecture, num_classes=settings.classes, **options), tensors, file)
    try:
        network: nn.Module = timm.create_model(
            architecture, pretrained=True, pretrained_cfg=cfg, num_classes=settings.classes, **options
        )
    except Exception as error:  # foreign configurations and weights make timm fail in any way
        reason = " ".join(str(error).split())
        short = reason if len(reason) <= 300 else f"{reason[:300]}..."
        raise WeightsError(f"{file} does not fit {architecture}: {short or type(error).__name__}") from error
    return network.eval()


def read_settings(config: Mapping[str, Any], file: str) -> Settings:
    """Read input and classes from a configuration in timm's layout. Raises `WeightsError` for impossible values."""
    cfg = _cfg(config)
    try:
        channels, height, width = (int(size) for size in cfg.get("input_size", (3, 224, 224)))
        mean = _per_channel(cfg.get("mean", (0.485, 0.456, 0.406)), channels)
        std = _per_channel(cfg.get("std", (0.229, 0.224, 0.225)), channels)
        stated = (place.get("num_classes") for place in (config, config.get("model_args") or {}, cfg))
        classes = int(next((number for number in stated if number is not None), 1000))
        if min(channels, height, width) < 1 or classes < 0 or min(std) <= 0:
            raise ValueError("sizes and std must be positive, and num_classes at least 0")
        if max(height, width) > LARGEST_SIDE or channels > MOST_CHANNELS:
            limit = f"[{MOST_CHANNELS}, {LARGEST_SIDE}, {LARGEST_SIDE}]"
            raise ValueError(f"input_size is {[channels, height, width]}, the limit is {limit}")
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file}: {error}") from error
    interpolation = str(cfg.get("interpolation", "bicubic"))
    return Settings(
        channels,
        (height, width),
        mean,
        std,
        interpolation if interpolation in INTERPOLATIONS else "bicubic",
        classes,
        _labels(config, classes, file) if classes else None,
    )


def require_timm() -> ModuleType:
    """Import timm. Raises `MissingExtraError` with the command that installs it."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtraError("this classifier needs timm", fix="pip install 'gen-prior[timm]'") from error


def _labels(config: Mapping[str, Any], classes: int, file: str) -> Labels | None:
    """Class names: ImageNet's table where names or the tag match it, else those in the configuration, else None."""
    cfg = _cfg(config)
    listed = config.get("label_names") or cfg.get("label_names")
    if listed:
        names = [str(name) for name in listed]
        if len(names) != classes:
            raise WeightsError(f"{file} has {len(names)} label_names for {classes} classes")
        ids = [label.wordnet_id for label in imagenet().entries]
        return imagenet() if names in (ids, list(imagenet())) else Labels.plain(names)
    return imagenet() if classes == 1000 and str(cfg.get("tag", "")).endswith("in1k") else None


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) == channels:
        return numbers
    if channels == 1:
        return (sum(numbers) / len(numbers),)
    return tuple(numbers[index % len(numbers)] for index in range(channels))


def _cfg(config: Mapping[str, Any]) -> Mapping[str, Any]:
    cfg = config.get("pretrained_cfg")
    return cfg if isinstance(cfg, Mapping) else {}
