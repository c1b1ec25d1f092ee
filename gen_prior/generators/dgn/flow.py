"""A conditional flow from noise to whitened codes: it samples the codes of photographs with given classifier features.

Independent normal codes do not look like photographs at any scale. A small network predicts the velocity of a flow from
noise to the codes of photographs (flow matching: Lipman et al. 2023, arXiv 2210.02747), along the circular path and
with the v-prediction of Salimans & Ho 2022 (arXiv 2202.00512):

    x(t) = cos(t) noise + sin(t) code,    v(t) = dx/dt = cos(t) code - sin(t) noise,    0 <= t <= pi / 2

The condition is the classifier's whitened penultimate features; training drops it at random, so that sampling can
amplify it (classifier-free guidance: Ho & Salimans 2022, arXiv 2207.12598). Synthesis optimises features and noise
together, through all steps of the flow (D-Flow: Ben-Hamu et al. 2024, arXiv 2402.14017).

An optimisation for a class starts at features along the class's row of the classifier's last layer and, instead of pure
noise, at the code of one of a few photographs that the classifier is surest about, the class's exemplars (Nguyen et al.
2016, arXiv 1602.03616, start at means of such photographs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.config import FlowConfig

CONDITION = 256
"""Channels of the embedding of time and features."""
FREQUENCIES = 16
"""Number of sine and cosine frequencies that encode the time."""
FEATURE_SCALE = 10.0
"""Length of the initial features, along a class's direction; features of correctly named photographs have about 6."""
FEATURE_STD = 0.5
"""Standard deviation of the initial features around that, so that seeds differ in features too."""
EXEMPLAR_STEPS = 24
"""Quantisation of exemplars: int8 steps in one standard deviation of a code."""
EXEMPLAR_GAIN = 1.3
"""Factor on an exemplar's code that makes it the noise from which the flow returns to about that code."""


class _Block(nn.Module):
    """A residual block whose norm is modulated by the condition (adaLN: Peebles & Xie 2023, arXiv 2212.09748)."""

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

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """`[..., width]` -> the same, by `modulation` `[..., 3 * width]`, the condition's through that layer."""
        scale, shift, gate = modulation.chunk(3, -1)
        y = self.second(F.silu(self.first(self.norm(x) * (1 + scale) + shift)))
        moved: Tensor = x + (1 + gate) * y
        return moved


class CodeFlow(nn.Module):
    """Features and noise `[B, K + D]`, standard normal over photographs -> whitened codes `[B, D]`.

    Parameters and buffers are called as in files: `wanted` embeds the features, `unknown` stands for dropped ones,
    `classes` (`[N, K]`, rows of length 1) are the feature directions of the classes, `layouts` the `exemplars`.
    """

    classes: Tensor
    layouts: Tensor

    def __init__(self, directions: int, config: FlowConfig) -> None:
        """`directions`: dimensions of a whitened code, D."""
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
        """Codes of the classes' photographs, `[N, exemplars, D]`, int8 (see `quantise_exemplars`)."""
        return self.layouts

    @property
    def dims(self) -> int:
        """Dimensions of a code: features, then noise."""
        return self.config.features + self.directions

    def velocity(self, x: Tensor, angle: Tensor, features: Tensor | None, withheld: Tensor | None = None) -> Tensor:
        """Velocity v(t) `[B, D]` at points `[B, D]` and times t = `angle` `[B]`, 0 (noise) to pi / 2 (codes).

        Conditional on `features` `[B, K]`; unconditional where they are None or `withheld` (`[B]`, bool) is true.
        """
        known = self.unknown.expand(len(x), -1) if features is None else self.wanted(features)
        if withheld is not None:
            known = torch.where(withheld[:, None], self.unknown, known)
        condition = self._condition(angle, known)
        out: Tensor = self.exit(self._hidden(self.entry(x), self._modulation(condition)))
        return out

    def forward(self, code: Tensor) -> Tensor:
        """Integrate the flow from noise to whitened codes: `[B, K + D]` -> `[B, D]`.

        Features that are all zero stand for "no flow": the rest of such a code is a whitened code as it is. Hidden
        units are optimised so, because they ask for patterns rather than for photographs of a class.
        """
        features, x = code.split([self.config.features, self.directions], 1)
        without_flow, given = (features == 0).all(1, keepdim=True), x
        if x.device.type == "cpu" and without_flow.all():  # elsewhere the host would wait for the answer
            return x
        turn = math.pi / 2 / self.config.steps
        for modulations in self._modulations(features, turn):
            # one step of DDIM: a rotation in the plane of x and v
            x = math.cos(turn) * x + math.sin(turn) * self._guided_velocity(x, modulations)
        return torch.where(without_flow, given, x)

    def _modulations(self, features: Tensor, turn: float) -> list[list[Tensor]]:
        """For each step and block, the modulation without and with the features, `[2, B, 3 * width]`.

        They do not depend on the point, so all steps' are products with the same weights, read once.
        """
        angles = turn * torch.arange(self.config.steps, device=features.device)[:, None, None]
        known = torch.stack([self.unknown.expand(len(features), -1), self.wanted(features)])
        condition = self._condition(angles, known)  # [steps, 2, B, CONDITION]
        return [list(step) for step in zip(*self._modulation(condition), strict=True)]

    def _modulation(self, condition: Tensor) -> list[Tensor]:
        """Each block's modulation `[..., 3 * width]` by conditions `[..., CONDITION]`."""
        return [block.modulation(condition) for block in self.blocks]  # type: ignore[operator]

    def _guided_velocity(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """Velocity at points `[B, D]` by classifier-free guidance, from the modulations without and with features.

        Both are one batch; they are mixed before the last layer, which is linear.
        """
        plain, told = self._hidden(self.entry(x).expand(2, -1, -1), modulations)
        out: Tensor = self.exit(plain + self.config.guidance * (told - plain))
        return out

    def _condition(self, angle: Tensor, known: Tensor) -> Tensor:
        """Embedding of times `[...]` and of features or their absence, `[..., CONDITION]`."""
        waves = angle[..., None] * torch.arange(1, FREQUENCIES + 1, device=angle.device)
        return F.silu(self.time(torch.cat([waves.sin(), waves.cos()], -1)) + known)

    def _hidden(self, y: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """The blocks' output, normed, `[..., width]`."""
        for block, modulation in zip(self.blocks, modulations, strict=True):
            y = block(y, modulation)
        out: Tensor = self.norm(y)
        return out

    def start(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Initial codes `[B, K + D]` for class numbers `[B]`, from standard normal noise `[B, K + D]`."""
        return init_from_class(self.classes[classes], noise, self.exemplar(classes, noise))

    def exemplar(self, classes: Tensor, noise: Tensor) -> Tensor | None:
        """One exemplar `[B, D]` for each class number `[B]`, chosen by noise `[B, K + D]`; None if there are none."""
        count = self.config.exemplars
        if not count:
            return None
        return self.exemplars[classes, exemplar_index(noise[:, self.config.features], count)]


def init_from_class(direction: Tensor, noise: Tensor, exemplar: Tensor | None = None, share: float = 1.0) -> Tensor:
    """Initial codes `[..., K + D]` for a class's feature direction `[..., K]`, from as much standard normal noise.

    With an `exemplar` `[..., D]`, the part that the flow starts at is `share` of that plus sqrt(1 - share^2) of noise.
    """
    code, count = init_features(direction, noise), direction.shape[-1]
    if exemplar is None:
        return code
    mixed = share * (EXEMPLAR_GAIN / EXEMPLAR_STEPS) * exemplar.to(noise) + (1 - share**2) ** 0.5 * noise[..., count:]
    return torch.cat([code[..., :count], mixed], -1)


def init_features(direction: Tensor, noise: Tensor) -> Tensor:
    """Noise `[..., K + D]` with its first K dimensions replaced by features near `direction` `[..., K]`."""
    count = direction.shape[-1]
    return torch.cat([FEATURE_SCALE * direction + FEATURE_STD * noise[..., :count], noise[..., count:]], -1)


def exemplar_index(normal: Tensor, count: int) -> Tensor:
    """Standard normal values of any shape -> indices of one of `count` exemplars, uniformly distributed."""
    return (torch.special.ndtr(normal.float()) * count).long().clamp(max=count - 1)


def quantise_exemplars(codes: Tensor) -> Tensor:
    """Whitened codes, quantised to int8 as files store exemplars."""
    return (codes.float() * EXEMPLAR_STEPS).round().clamp(-127, 127).to(torch.int8)
