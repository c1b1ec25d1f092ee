"""The deep generator network of the priors trained here: whitened code -> spatial code -> RGB image.

A spatial code (`[C, 4, 4]`) is decoded by residual blocks that double the side until half the image's,
then a pixel shuffle. After Dosovitskiy & Brox 2016 (arXiv 1602.02644): the decoder inverts a classifier's
features under pixel, feature and adversarial losses (see `gen_prior.training`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn.blocks import CODE_SIDE, SLOPE, ResidualBlock
from gen_prior.generators.dgn.config import NetworkConfig, widths
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.flow import CodeFlow, init_from_class
from gen_prior.generators.dgn.texture import Coring, Grain
from gen_prior.generators.dgn.texture import coring as cored_to
from gen_prior.generators.dgn.texture import grain as grained_by

DETAIL_STD = 4.0
"""Of details over photographs, in a code: an optimisation's steps, equal in all numbers, change details more slowly."""
INITIAL_DETAIL_SCALE = 0.3
"""How large details are at first, in parts of photographs'."""


class Decoder(nn.Module):
    """Spatial code `[B, C, 4, 4]` -> image `[B, 3, size, size]`, RGB, nominally in [0, 1] (not clamped)."""

    def __init__(self, code_channels: int = 64, size: int = 64, width: float = 1.0) -> None:
        super().__init__()
        self.size, self.width = size, width
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


class WhitenedCodes(nn.Module):
    """Codes `[B, numbers]` -> spatial codes, by the principal directions of photographs' codes.

    The spatial code is `mean + basis @ white`, where white codes `[B, D]` are a standard normal over photographs: their
    full covariance gives the code a global structure that independent units do not have. A code is white; behind a
    flow it holds features and noise `[B, K + D]`; and before details these follow, `DETAIL_STD` times as large.
    """

    mean: Tensor
    basis: Tensor

    def __init__(
        self, mean: Tensor, basis: Tensor, flow: CodeFlow | None = None, details: FineCode | None = None
    ) -> None:
        """`mean`: `[C, 4, 4]`; `basis`: `[C * 16, D]`, columns scaled by their standard deviations."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.flow = flow
        self.details = details

    @property
    def coarse_dims(self) -> int:
        """Numbers of one code before its details."""
        return self.basis.shape[1] if self.flow is None else self.flow.dims

    @property
    def dims(self) -> int:
        """Numbers of one code."""
        return self.coarse_dims + (0 if self.details is None else self.details.dims)

    @property
    def std(self) -> Tensor:
        """Of each number of a code over photographs, `[numbers]`."""
        details = [] if self.details is None else [torch.full((self.details.dims,), DETAIL_STD)]
        return torch.cat([torch.ones(self.coarse_dims), *details])

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[..., numbers]` without their details, and the details: of no number where there are none."""
        coarse, details = codes.split([self.coarse_dims, self.dims - self.coarse_dims], -1)
        return coarse, details

    def sample(self, classes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Both parts of codes for class numbers `[B]`: begun as by `start`, their details as large as photographs'."""
        return self.split(self.start(classes, noise))[0], self.split(noise * self.std.to(noise))[1]

    def init_from_class(
        self, direction: Tensor, noise: Tensor, exemplar: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Codes to begin with, aimed at `direction` `[..., K]` (see `code_flow.init_from_class`), from standard normal noise."""
        coarse, rest = self.split(noise)
        return torch.cat(
            [init_from_class(direction, coarse, exemplar, share), INITIAL_DETAIL_SCALE * DETAIL_STD * rest], -1
        )

    def start(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Codes to begin with for class numbers `[B]`, from noise `[B, numbers]`, which they are without a flow."""
        flow = self.flow
        if flow is None:
            return noise * self.std.to(noise)
        return self.init_from_class(flow.classes[classes], noise, flow.exemplar(classes, noise))

    def spatial(self, code: Tensor) -> Tensor:
        """Codes `[B, numbers]` -> spatial codes `[B, C, 4, 4]`, with details `[B, C, 8, 8]`."""
        coarse, details = self.split(code)
        white = coarse if self.flow is None else self.flow(coarse)
        spatial: Tensor = self.mean + (white @ self.basis.T).view(-1, *self.mean.shape)
        return spatial if self.details is None else self.details(spatial, details / DETAIL_STD)


class WhitenedDecoder(WhitenedCodes):
    """Codes `[B, numbers]` -> images `[B, 3, S, S]`, RGB, nominally in [0, 1] (not clamped)."""

    def __init__(
        self,
        decoder: Decoder,
        mean: Tensor,
        basis: Tensor,
        *,
        refiner: Refiner | None = None,
        flow: CodeFlow | None = None,
        details: FineCode | None = None,
        coring: float = 0.0,
        grain: float = 0.0,
    ) -> None:
        """The network of these parts; see `NetworkConfig` for `coring` and `grain`."""
        super().__init__(mean, basis, flow, details)
        self.decoder = decoder
        self.refiner = refiner if refiner is not None else nn.Identity()
        self.coring = cored_to(coring)
        self.grain = grained_by(grain)

    @classmethod
    def from_config(cls, config: NetworkConfig) -> WhitenedDecoder:
        """An untrained network of these sizes."""
        channels, directions = config.code_channels, config.directions
        return cls(
            Decoder(channels, config.size, config.width),
            torch.empty(channels, CODE_SIDE, CODE_SIDE),
            torch.empty(channels * CODE_SIDE**2, directions),
            refiner=Refiner(config.refiner) if config.refiner else None,
            flow=CodeFlow(directions, config.flow) if config.flow else None,
            details=FineCode(channels, config.details, config.detail_width) if config.details else None,
            coring=config.coring,
            grain=config.grain,
        )

    @property
    def config(self) -> NetworkConfig:
        """Sizes of the parts."""
        return NetworkConfig(
            size=self.decoder.size,
            code_channels=len(self.mean),
            width=self.decoder.width,
            directions=self.basis.shape[1],
            refiner=self.refiner.entry.out_channels if isinstance(self.refiner, Refiner) else 0,
            flow=self.flow.config if self.flow else None,
            coring=self.coring.limit if isinstance(self.coring, Coring) else 0.0,
            details=self.details.dims if self.details else 0,
            detail_width=self.details.entry.out_channels if self.details else 0,
            grain=self.grain.strength if isinstance(self.grain, Grain) else 0.0,
        )

    def with_parts(self, **parts: Any) -> WhitenedDecoder:
        """A network with some of the constructor's arguments replaced; the other parts are shared with this one."""
        config = self.config
        own: dict[str, Any] = {
            "decoder": self.decoder,
            "mean": self.mean,
            "basis": self.basis,
            "refiner": self.refiner if config.refiner else None,
            "flow": self.flow,
            "details": self.details,
            "coring": config.coring,
            "grain": config.grain,
        }
        return WhitenedDecoder(**(own | parts))

    def draw(self, spatial: Tensor) -> Tensor:
        """Spatial codes `[B, C, 4, 4]`, with details `[B, C, 8, 8]`, -> images."""
        images: Tensor = self.grain(self.coring(self.refiner(self.decoder(spatial))))
        return images

    def forward(self, code: Tensor) -> Tensor:
        return self.draw(self.spatial(code))
