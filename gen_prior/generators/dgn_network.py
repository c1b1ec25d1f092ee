"""The deep generator network of the priors trained here: whitened code -> spatial code -> RGB image.

A spatial code (`[C, 4, 4]`) is decoded by residual blocks that double the side until half the image's,
then a pixel shuffle. After Dosovitskiy & Brox 2016 (arXiv 1602.02644): the decoder inverts a classifier's
features under pixel, feature and adversarial losses (see `gen_prior.training`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.code_flow import CodeFlow
from gen_prior.generators.coring import Coring

CODE_SIDE = 4
SIZES = (64, 128, 256)
SLOPE = 0.2


def widths(size: int, width: float = 1.0) -> tuple[int, ...]:
    """Channels of each resolution from 4x4 up to half the image's side (64 px: 256, 160, 96, 64)."""
    plan = (256, 160, 96, 64, 48, 32)
    levels = int(math.log2(size // CODE_SIDE))
    return tuple(max(16, round(channels * width / 8) * 8) for channels in plan[:levels])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity; the branch starts small so that depth costs no stability."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        with torch.no_grad():
            self.second.weight *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        skipped: Tensor = self.skip(x)
        return skipped + y


class Decoder(nn.Module):
    """Spatial code `[B, C, 4, 4]` -> image `[B, 3, size, size]`, RGB, nominally in [0, 1] (not clamped)."""

    def __init__(self, code_channels: int = 64, size: int = 64, width: float = 1.0) -> None:
        super().__init__()
        plan = widths(size, width)
        self.entry = nn.Conv2d(code_channels, plan[0], 3, padding=1)
        self.levels = nn.ModuleList(
            ResidualBlock(inputs, outputs) for inputs, outputs in zip((plan[0], *plan[:-1]), plan, strict=True)
        )
        self.exit = nn.Conv2d(plan[-1], 12, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        x = self.entry(code)
        for index, block in enumerate(self.levels):
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest") if index else x)
        return F.pixel_shuffle(self.exit(F.leaky_relu(x, SLOPE)), 2) * 0.5 + 0.5


class Refiner(nn.Module):
    """Image `[B, 3, S, S]` -> `[B, 3, 2S, 2S]`: its bilinear enlargement and a learned correction.

    Most of the work is done at half the side of the input. It begins as the enlargement alone.
    """

    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.entry = nn.Conv2d(12, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, width) for _ in range(depth)))
        self.rise = ResidualBlock(width, width // 2)
        self.exit = nn.Conv2d(width // 2, 12, 3, padding=1)
        with torch.no_grad():
            self.exit.weight.zero_()
            self.exit.bias.zero_()  # type: ignore[union-attr]

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(self.entry(F.pixel_unshuffle(image * 4 - 2, 2)))
        x = self.rise(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        correction = F.pixel_shuffle(self.exit(F.leaky_relu(x, SLOPE)), 2) * 0.5
        return F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False) + correction


class WhiteCodes(nn.Module):
    """White codes `[B, D]`, a standard normal over photographs -> spatial codes, by their principal directions.

    The spatial code is `mean + basis @ code`: its full covariance over real photographs gives the code a
    global structure that independent units do not have. Behind a flow, codes are features and noise `[B, K + D]`.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, basis: Tensor, flow: CodeFlow | None = None) -> None:
        """`mean`: `[C, 4, 4]`; `basis`: `[C * 16, D]`, columns scaled by their standard deviations."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.flow = flow

    @property
    def numbers(self) -> int:
        """Numbers of one code."""
        return self.basis.shape[1] if self.flow is None else self.flow.numbers

    def start(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Codes to begin with for class numbers `[B]`, from noise `[B, numbers]`, which they are without a flow."""
        return noise if self.flow is None else self.flow.start(classes, noise)

    def spatial(self, code: Tensor) -> Tensor:
        """Codes `[B, numbers]` -> spatial codes `[B, C, 4, 4]`."""
        white = code if self.flow is None else self.flow(code)
        return self.mean + (white @ self.basis.T).view(-1, *self.mean.shape)


class WhitenedDecoder(WhiteCodes):
    """Codes `[B, numbers]` -> image."""

    def __init__(
        self,
        decoder: Decoder,
        mean: Tensor,
        basis: Tensor,
        refiner: Refiner | None = None,
        flow: CodeFlow | None = None,
        coring: float = 0.0,
    ) -> None:
        """`coring`: limit of the fine contrast; at 0 it is left as the decoder draws it."""
        super().__init__(mean, basis, flow)
        self.decoder = decoder
        self.refiner = refiner if refiner is not None else nn.Identity()
        self.coring = Coring(coring) if coring else nn.Identity()

    def draw(self, spatial: Tensor) -> Tensor:
        """Spatial codes `[B, C, 4, 4]` -> images."""
        images: Tensor = self.coring(self.refiner(self.decoder(spatial)))
        return images

    def forward(self, code: Tensor) -> Tensor:
        return self.draw(self.spatial(code))
