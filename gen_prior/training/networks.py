"""The networks of training beside the decoder: frozen feature extractor, encoder and critics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.hooks import record_layers
from gen_prior.classifiers.layouts import Layout, find_layouts
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.blocks import CODE_SIDE, ResidualBlock

Network = TypeVar("Network", bound=nn.Module)
STRIDES = (4, 8, 16)
"""Pixels for each position of the features that are read."""


def to_channels_last(network: Network, device: torch.device) -> Network:
    """Move `network` to the device, its weights in the channels-last memory format."""
    return network.to(device).to(memory_format=torch.channels_last)


class FeatureExtractor(nn.Module):
    """A frozen classifier read at three layers: RGB images in [0, 1] -> maps of features; the pass ends at the last.

    Maps have one position for each 4, 8 and 16 pixels of the images, whatever the layers give: tokens are put in
    their places, and other sides are pooled or interpolated. A network that does not take images of `size` pixels, as
    many vision transformers, sees them at its own input size.
    """

    def __init__(self, classifier: Classifier, size: int) -> None:
        """`size`: side of the smallest images that will be read. Raises `OptionError` for a network without places."""
        super().__init__()
        self.classifier = classifier
        self.network = classifier.network.requires_grad_(False)
        blank = torch.zeros(1, 3, size, size, device=classifier.device)
        try:
            layouts = find_layouts(self.network, classifier.normalise(blank))
            self.any_size = True
        except (RuntimeError, AssertionError, ValueError):
            layouts = classifier.layouts()
            self.any_size = False
        self.hook_layers = tuple(_choose_layers(layouts, [size // stride for stride in STRIDES], classifier.name))
        self.axes = [layouts[layer].unit_axis or 1 for layer in self.hook_layers]
        self._runs: Counter[str] | None = None
        self.channels = [feature.shape[1] for feature in self(blank)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `[B, 3, S, S]` -> features `[B, C, S / 4, S / 4]` and those of half and a quarter of that side."""
        inputs = images if self.any_size else self.classifier.resize(images)
        with record_layers(self.network, self.hook_layers) as reader:
            reader.runs_per_pass = self._runs
            features = reader(self.classifier.normalise(inputs))
            self._runs = reader.runs_per_pass
        return [
            _as_map(features[layer].movedim(axis, 1), images.shape[-1] // stride)
            for layer, axis, stride in zip(self.hook_layers, self.axes, STRIDES, strict=True)
        ]

    def stds(self, images: Tensor) -> list[Tensor]:
        """Standard deviation over `images` of each channel of each layer, `[C]`."""
        with torch.no_grad():
            return [feature.float().std((0, 2, 3)).clamp_min(1e-3) for feature in self(images)]

    def scaled(self, images: Tensor, stds: Sequence[Tensor]) -> list[Tensor]:
        """Features divided by `stds`."""
        return [feature.float() / std[:, None, None] for feature, std in zip(self(images), stds, strict=True)]


def _choose_layers(layouts: Mapping[str, Layout], sides: Sequence[int], name: str) -> list[str]:
    """The deepest layers whose outputs have these sides; else, of the layers with places, those at each third.

    `layouts`: of all layers, in order of running. Of layers with places, those of the commonest kind count.
    """
    placed = {}
    for layer, layout in layouts.items():
        found = layout.sides if layout.unit_axis is not None else layout.shape[1:]
        if layer != LOGITS and "#" not in layer and len(found) in (1, 2) and math.prod(found) > 1:
            placed[layer] = found
    deepest = {found[0]: layer for layer, found in placed.items() if len(found) == 2 and found[0] == found[1]}
    if all(side in deepest for side in sides):
        return [deepest[side] for side in sides]
    if not placed:
        raise OptionError(
            f"{name} has no layer whose output has places, so a code of it could not say where things are",
            fix="choose a convolutional network or a transformer",
        )
    axes = Counter(map(len, placed.values())).most_common(1)[0][0]
    shapes = Counter(layouts[layer].shape for layer, found in placed.items() if len(found) == axes)
    tokens = shapes.most_common(1)[0][0] if axes == 1 else None  # not those inside attention and wider ones
    alike = [layer for layer, found in placed.items() if len(found) == axes and tokens in (None, layouts[layer].shape)]
    return [alike[max(0, round(len(alike) * third / 3) - 1)] for third in (1, 2, 3)]


def _as_map(values: Tensor, side: int) -> Tensor:
    """A layer's output as a map `[B, C, side, side]`, pooled or interpolated.

    `values`: `[B, C, H, W]`, or tokens `[B, C, T]`, of which the first that make no square have no place.
    """
    if values.ndim == 3:
        own = math.isqrt(values.shape[2])
        values = values[..., values.shape[2] - own**2 :].unflatten(2, (own, own))
    if values.shape[-2:] == (side, side):
        return values
    if min(values.shape[-2:]) >= side:
        return F.adaptive_avg_pool2d(values, side)
    return F.interpolate(values.float(), (side, side), mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """Features at three depths -> mean and log-variance of the spatial code, each `[B, C, 4, 4]`."""

    def __init__(self, channels: Sequence[int], code_channels: int = 64, hidden: int = 192) -> None:
        """`channels`: of the three features, finest first."""
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(count)) for count in channels)
        fine, middle, coarse = channels
        self.down = nn.Conv2d(fine, 64, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(64 + middle, 128, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(128 + coarse, hidden, 3, padding=1)
        self.block = ResidualBlock(hidden, hidden)
        self.exit = nn.Conv2d(hidden, 2 * code_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fine, middle, coarse = (f * s[:, None, None] for f, s in zip(features, self.scales, strict=True))
        x = F.leaky_relu(self.down(fine), 0.2)
        x = F.leaky_relu(self.middle(torch.cat([x, middle], 1)), 0.2)
        x = self.block(self.coarse(torch.cat([x, coarse], 1)))
        mean, log_variance = self.exit(F.leaky_relu(x, 0.2)).chunk(2, 1)
        return mean, log_variance.clamp(-10, 4)


class Critic(nn.Module):
    """Discriminators with spectral normalisation (Miyato et al. 2018): real photograph or generated image?

    One patch head sees pixels; one head on each layer of the frozen classifier's features (Sauer et al. 2021,
    "Projected GANs") costs little, since the feature loss computes these anyway; the last head sees the whole image.
    """

    def __init__(self, channels: Sequence[int], size: int = 64, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        strided: list[nn.Module] = []
        inputs = 3
        for level in range(int(math.log2(size // 16)) + 1):
            outputs = width * min(2**level, 4)
            strided += [spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.patch = nn.Sequential(*strided, spectral_norm(nn.Conv2d(inputs, 1, 3, padding=1)))
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(count, hidden, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(hidden, hidden, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(hidden, 1, 1)),
            )
            for count in channels
        )
        self.whole = nn.Sequential(
            spectral_norm(nn.Conv2d(channels[-1], 2 * hidden, CODE_SIDE)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * hidden, 1, 1),
        )

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        """Scores of each head, `[B, K]` each; higher is more real. `features` are scaled to unit std."""
        scores = [self.patch(image * 4 - 2)]
        scores += [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        return [score.flatten(1) for score in [*scores, self.whole(features[-1])]]
