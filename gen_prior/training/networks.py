"""What training needs beside the decoder: the feature trunk, the encoder on it, and the critics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gen_prior.classifiers.hooks import layer_shapes, record_layers
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.blocks import CODE_SIDE, ResidualBlock


class Trunk(nn.Module):
    """A frozen classifier read at three depths: normalised image -> features, the pass ending at the deepest."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.names = tuple(names)
        self._runs: Counter[str] | None = None

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image `[B, 3, S, S]` as the network takes it -> features, finest first (`[B, C, S/4, S/4]`, ...)."""
        with record_layers(self.network, self.names) as reader:
            reader.runs_per_pass = self._runs
            features = reader(image)
            self._runs = reader.runs_per_pass
        return [features[name] for name in self.names]


def choose_taps(network: nn.Module, size: int, channels: int = 3) -> list[str]:
    """Names of the deepest layers whose output has side 16, 8 and 4 for an input `[1, channels, size, size]`.

    Raises `OptionError` for a network without such layers (a vision transformer, say).
    """
    device = next(network.parameters()).device
    sides = (CODE_SIDE * 4, CODE_SIDE * 2, CODE_SIDE)
    deepest: dict[int, str] = {}
    try:
        shapes = layer_shapes(network, torch.zeros(1, channels, size, size, device=device))
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"the classifier does not take images of {size} px: {str(error).splitlines()[0]}",
            fix="choose a convolutional classifier, or another --size",
        ) from error
    for name, shape in shapes.items():  # in order of running
        if len(shape) == 3 and shape[1] == shape[2]:
            deepest[shape[1]] = name
    if missing := [side for side in sides if side not in deepest]:
        raise OptionError(
            f"the classifier has no layer with a {missing[0]}x{missing[0]} output at {size} px",
            fix="choose a convolutional classifier, or another --size",
        )
    return [deepest[side] for side in sides]


class Encoder(nn.Module):
    """Trunk features at three depths -> mean and log-variance of the spatial code, each `[B, C, 4, 4]`."""

    def __init__(self, channels: Sequence[int], code_channels: int = 64, hidden: int = 192) -> None:
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
    """Real or generated? One patch head on pixels, one head on each depth of the frozen trunk's features.

    The heads on frozen features (Sauer et al. 2021, "Projected GANs") cost almost nothing here, since the
    feature loss computes those features anyway; the deepest one sees the whole image.
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
        """Scores of each head, `[B, K]` each; higher is more real. `features` are scaled to unit deviation."""
        scores = [self.patch(image * 4 - 2)]
        scores += [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        return [score.flatten(1) for score in [*scores, self.whole(features[-1])]]
