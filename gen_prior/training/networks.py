"""The networks of training beside the decoder: frozen feature extractor, encoder and critics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.hooks import record_layers
from gen_prior.classifiers.layouts import find_layouts
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.blocks import CODE_SIDE, ResidualBlock

Network = TypeVar("Network", bound=nn.Module)


def to_channels_last(network: Network, device: torch.device) -> Network:
    """Move `network` to the device, its weights in the channels-last memory format."""
    return network.to(device).to(memory_format=torch.channels_last)


class FeatureExtractor(nn.Module):
    """A frozen classifier read at some layers: RGB images in [0, 1] -> features; the pass ends at the last layer."""

    def __init__(self, classifier: Classifier, hook_layers: Sequence[str]) -> None:
        super().__init__()
        self.classifier, self.hook_layers = classifier, tuple(hook_layers)
        self.network = classifier.network.requires_grad_(False)
        self._runs: Counter[str] | None = None

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `[B, 3, S, S]` -> the layers' outputs `[B, C, H, W]`, in the order of `hook_layers`."""
        with record_layers(self.network, self.hook_layers) as reader:
            reader.runs_per_pass = self._runs
            features = reader(self.classifier.normalise(images))
            self._runs = reader.runs_per_pass
        return [features[layer] for layer in self.hook_layers]

    def stds(self, images: Tensor) -> list[Tensor]:
        """Standard deviation over `images` of each channel of each layer, `[C]`."""
        with torch.no_grad():
            return [feature.float().std((0, 2, 3)).clamp_min(1e-3) for feature in self(images)]

    def scaled(self, images: Tensor, stds: Sequence[Tensor]) -> list[Tensor]:
        """Features divided by `stds`."""
        return [feature.float() / std[:, None, None] for feature, std in zip(self(images), stds, strict=True)]


def choose_hook_layers(classifier: Classifier, size: int) -> list[str]:
    """Names of the deepest layers whose outputs have side 16, 8 and 4 for images of `size` pixels.

    Raises `OptionError` for a network without such layers (a vision transformer, say).
    """
    sides = (CODE_SIDE * 4, CODE_SIDE * 2, CODE_SIDE)
    deepest: dict[int, str] = {}
    inputs = torch.zeros(1, len(classifier.mean), size, size, device=next(classifier.network.parameters()).device)
    try:
        layouts = find_layouts(classifier.network, inputs)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"the classifier does not take images of {size} px: {str(error).splitlines()[0]}",
            fix="choose a convolutional classifier, or another --size",
        ) from error
    for name, layout in layouts.items():  # in order of running
        shape = layout.shape
        if "#" not in name and len(shape) == 3 and shape[1] == shape[2]:
            deepest[shape[1]] = name
    if missing := [side for side in sides if side not in deepest]:
        raise OptionError(
            f"the classifier has no layer with a {missing[0]}x{missing[0]} output at {size} px",
            fix="choose a convolutional classifier, or another --size",
        )
    return [deepest[side] for side in sides]


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
