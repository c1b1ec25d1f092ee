"""`torchvision:NAME[@WEIGHTS]` of any network of torchvision: of its classifiers, or for detection and segmentation.

The latter have no classes to be targets, only hidden units. They are loaded as the classifiers are.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from gen_prior.classifiers import torchvision_classification as classification
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.tensors import file_sha256

EXACT_NORMS = tuple(f"{kind}_resnet50_fpn" for kind in ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet"))
"""Networks whose weights COCO_V1 were trained without an epsilon in the batch norms."""


def names() -> dict[str, Any]:
    """Return `{name: module}` of torchvision's networks for detection and segmentation."""
    models = classification.models()
    modules = (models.detection, models.segmentation)
    return {name: module for module in modules for name in models.list_models(module=module)}


def load(spec: str, *, weights: str | None = "DEFAULT", input_size: int | None = None, fold: bool = True) -> Classifier:
    """Load the network `NAME` or `NAME@WEIGHTS` of torchvision.

    Args:
        weights: as of `gen_prior.classifiers.torchvision_classification.load`.
        input_size: side in pixels, of networks for detection and segmentation only, which take any; by default the one
            that the weights were trained for, 800 for most of those for detection, which is slow.

    Raises as `gen_prior.classifiers.torchvision_classification.load`.
    """
    name, at, chosen = spec.partition("@")
    kinds = names()
    if name in classification.names():
        if input_size is not None:
            raise OptionError(f"torchvision:{name} has a fixed input size", fix="leave input_size out")
        return classification.load(spec, weights=weights, fold=fold)
    if name not in kinds:
        known = [*classification.names(), *kinds]
        raise UnknownNameError("torchvision network", name, known, fix="list them: gen-prior models")
    entry, is_random = classification.find_weights(name, chosen if at else weights)
    network = build(name, len(entry.meta["categories"]))
    sha256: dict[str, str] = {}
    if not is_random:
        path = classification.download(entry.url)
        sha256[path.name] = file_sha256(path)
        classification.load_weights(network, classification.read(path, sha256[path.name]), str(path), name)
        if name in EXACT_NORMS and entry.name == "COCO_V1":
            _set_epsilon(network, 0.0)
    detects = kinds[name] is classification.models().detection
    transforms = entry.transforms()
    side = input_size or (min(network.transform.min_size) if detects else transforms.resize_size[0])
    if detects:
        _set_side(network.transform, side)
    return Classifier(
        network,  # one for detection normalises for itself
        mean=(0.0, 0.0, 0.0) if detects else transforms.mean,
        std=(1.0, 1.0, 1.0) if detects else transforms.std,
        input_size=side,
        name=f"torchvision:{name}",
        provenance=Provenance(
            source=f"torchvision:{name}",
            revision="random weights" if is_random else entry.name,
            sha256=sha256,
            licence=entry.meta.get("license", classification.LICENCE),
        ),
        fold=fold,
        in_place=True,
        has_classes=False,
    )


def build(name: str, classes: int) -> Any:
    """Build network `name` with random weights, as published weights need it."""
    options: dict[str, Any] = {"num_classes": classes}
    if name.startswith(("fcn_", "deeplabv3_")):
        options["aux_loss"] = True
    return classification.models().get_model(name, weights=None, weights_backbone=None, **options).eval()


def _set_side(transform: Any, side: int) -> None:
    """Set the side in pixels to which a network for detection, which resizes for itself, resizes its input."""
    transform.min_size, transform.max_size = (side,), max(side, transform.max_size)
    if transform.fixed_size is not None:
        transform.fixed_size = (side, side)


def _set_epsilon(network: nn.Module, epsilon: float) -> None:
    from torchvision.ops import FrozenBatchNorm2d  # slow to import

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.eps = epsilon
