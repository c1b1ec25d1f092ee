"""A learned map from noise and wanted features to a code: what photographs with such features have for a code.

Independent normal codes look like no photograph, however they are scaled. Here a small network learns the velocity of a
flow from noise to the codes of photographs (Lipman et al. 2023, arXiv 2210.02747, on the circular path of Salimans &
Ho 2022, arXiv 2202.00512), given the classifier's penultimate features of the photograph; features are withheld now and
then, so that their influence can be amplified (Ho & Salimans 2022, arXiv 2207.12598). Codes are optimised through the
whole flow (Ben-Hamu et al. 2024, arXiv 2402.14017), features and noise together. The class that is wanted gives the
features to begin with: those that its row of the classifier's last layer asks for. It may also give the noise: the
codes of a few photographs in which the classifier saw most of it, so that the image begins with a form (Nguyen et al.
2016, arXiv 1602.03616, begin at means of such photographs). The flow leaves of a photograph's form most, and gives it
the colours that the features ask for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.config import FlowConfig

CONDITION = 256
FREQUENCIES = 16
FEATURE_SCALE = 10.0
"""How far the first features lie along what a class asks for; photographs that are named rightly lie at 6."""
FEATURE_STD = 0.5
"""Deviation of the first features around that: seeds differ in them, not only in the noise."""
EXEMPLAR_STEPS = 24
"""Whole numbers that a layout holds for each deviation of a code."""
EXEMPLAR_GAIN = 1.3
"""How much larger than the code of a photograph the noise is that the flow turns into about that code."""


class _Block(nn.Module):
    """A residual block whose scale, shift and gate come of the time and the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.modulation = nn.Linear(CONDITION, 3 * width)
        with torch.no_grad():
            self.second.weight *= 0.3
            self.modulation.weight.zero_()
            self.modulation.bias.zero_()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(condition).chunk(3, -1)
        y = self.second(F.silu(self.first(self.norm(x) * (1 + scale) + shift)))
        moved: Tensor = x + (1 + gate) * y
        return moved


class CodeFlow(nn.Module):
    """Features and noise `[B, K + D]`, standard normal over photographs -> white codes `[B, D]`.

    `classes` (`[N, K]`, rows of length 1) are the features that each class asks for; `layouts` (`[N, layouts, D]`,
    whole numbers, see `quantise_exemplars`) the codes of photographs that it may begin with.
    """

    classes: Tensor
    layouts: Tensor

    def __init__(self, directions: int, config: FlowConfig) -> None:
        super().__init__()
        self.config, self.directions = config, directions
        self.entry = nn.Linear(directions, config.width)
        self.wanted = nn.Linear(config.features, CONDITION)
        self.unknown = nn.Parameter(torch.zeros(CONDITION))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, CONDITION), nn.SiLU(), nn.Linear(CONDITION, CONDITION))
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.exit = nn.Linear(config.width, directions)
        self.register_buffer("classes", torch.zeros(config.classes, config.features))
        if config.exemplars:
            self.register_buffer("layouts", torch.zeros(config.classes, config.exemplars, directions, dtype=torch.int8))
        with torch.no_grad():
            self.exit.weight.zero_()
            self.exit.bias.zero_()

    @property
    def exemplars(self) -> Tensor:
        """Codes of photographs to start from, `[classes, exemplars, D]`, int8; files call the buffer `layouts`."""
        return self.layouts

    @property
    def dims(self) -> int:
        """Numbers of a code: features, then noise."""
        return self.config.features + self.directions

    def velocity(self, x: Tensor, angle: Tensor, features: Tensor | None, withheld: Tensor | None = None) -> Tensor:
        """Of points `[B, D]` at angles `[B]` between 0 (noise) and pi / 2 (codes), by features `[B, K]`.

        No features where they are None, or where `withheld` (`[B]`, bool) says so.
        """
        waves = angle[:, None] * torch.arange(1, FREQUENCIES + 1, device=x.device)
        condition = self.unknown.expand(len(x), -1) if features is None else self.wanted(features)
        if withheld is not None:
            condition = torch.where(withheld[:, None], self.unknown, condition)
        condition = F.silu(self.time(torch.cat([waves.sin(), waves.cos()], 1)) + condition)
        y = self.entry(x)
        for block in self.blocks:
            y = block(y, condition)
        out: Tensor = self.exit(self.norm(y))
        return out

    def forward(self, code: Tensor) -> Tensor:
        """`[B, K + D]` -> `[B, D]`: each step is a turn by a part of the right angle."""
        features, x = code.split([self.config.features, self.directions], 1)
        turn = math.pi / 2 / self.config.steps
        for step in range(self.config.steps):
            angle = torch.full((len(x),), step * turn, device=x.device)
            plain = self.velocity(x, angle, None)
            velocity = plain + self.config.guidance * (self.velocity(x, angle, features) - plain)
            x = math.cos(turn) * x + math.sin(turn) * velocity
        return x

    def start(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Codes `[B, K + D]` to begin with for class numbers `[B]`, from as much standard normal noise."""
        return init_from_class(self.classes[classes], noise, self.exemplar(classes, noise))

    def exemplar(self, classes: Tensor, noise: Tensor) -> Tensor | None:
        """Of the layouts of classes `[B]` those that the first number of the noise proper chooses, `[B, D]`."""
        count = self.config.exemplars
        if not count:
            return None
        return self.exemplars[classes, exemplar_index(noise[:, self.config.features], count)]


def init_from_class(direction: Tensor, noise: Tensor, exemplar: Tensor | None = None, share: float = 1.0) -> Tensor:
    """Codes `[..., K + D]` to begin with, aimed at `direction` (`[..., K]`), from as much standard normal noise.

    With a `layout` (`[..., D]`) that stands for the noise proper, or for `share` of it; the squares of both
    shares, the layout's and the noise's, add up to 1.
    """
    code, count = init_features(direction, noise), direction.shape[-1]
    if exemplar is None:
        return code
    mixed = share * (EXEMPLAR_GAIN / EXEMPLAR_STEPS) * exemplar.to(noise) + (1 - share**2) ** 0.5 * noise[..., count:]
    return torch.cat([code[..., :count], mixed], -1)


def exemplar_index(number: Tensor, count: int) -> Tensor:
    """One of `count` layouts by a standard normal number, each as often."""
    return (torch.special.ndtr(number.float()) * count).long().clamp(max=count - 1)


def quantise_exemplars(codes: Tensor) -> Tensor:
    """White codes as layouts hold them: int8."""
    return (codes.float() * EXEMPLAR_STEPS).round().clamp(-127, 127).to(torch.int8)


def init_features(direction: Tensor, noise: Tensor) -> Tensor:
    """Codes `[..., K + D]` from as much noise, their features near `direction` (`[..., K]`, of length 1)."""
    count = direction.shape[-1]
    return torch.cat([FEATURE_SCALE * direction + FEATURE_STD * noise[..., :count], noise[..., count:]], -1)
