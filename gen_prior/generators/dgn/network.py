"""The network of the priors trained here: code -> whitened code -> spatial code -> RGB image.

Residual blocks decode a spatial code (`[C, 4, 4]`) and double the side up to half the image's; a pixel shuffle does the
last step. After Dosovitskiy & Brox 2016 (arXiv 1602.02644), the decoder is trained to invert a classifier's features
under pixel, feature and adversarial losses (see `gen_prior.training`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.generators.dgn import texture
from gen_prior.generators.dgn.blocks import CODE_SIDE, SLOPE, ResidualBlock
from gen_prior.generators.dgn.config import NetworkConfig, widths
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.flow import CodeFlow, init_from_class

DETAIL_STD = 4.0
"""Standard deviation of details in a code: optimisation steps, equal in all dimensions, change details more slowly."""
INITIAL_DETAIL_SCALE = 0.3
"""Size of initial details, relative to those of photographs."""


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
            x = block.enlarge(x) if index else block(x)  # type: ignore[operator]
        return F.pixel_shuffle(self.exit(F.leaky_relu(x, SLOPE)), 2) * 0.5 + 0.5


class Refiner(nn.Module):
    """Image `[B, 3, S, S]` -> `[B, 3, 2S, 2S]`: its bilinear enlargement and a learned correction, at first zero.

    Most layers work at half the side of the input.
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
        x = self.rise.enlarge(x)
        correction = F.pixel_shuffle(self.exit(F.leaky_relu(x, SLOPE)), 2) * 0.5
        return F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False) + correction


class WhitenedCodes(nn.Module):
    """Codes `[B, dims]` -> spatial codes, along the principal directions of photographs' spatial codes.

    The spatial code is `mean + basis @ white`: whitened codes `[B, D]` are standard normal over photographs, and the
    full covariance gives them a global structure that independent units lack. A code is a whitened code or, with a
    flow, features and noise `[B, K + D]`; with a fine code, details follow, `DETAIL_STD` times as large.
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
        """Dimensions of a code without its details."""
        return self.basis.shape[1] if self.flow is None else self.flow.dims

    @property
    def dims(self) -> int:
        """Dimensions of a code."""
        return self.coarse_dims + (0 if self.details is None else self.details.dims)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension of a code over photographs, `[dims]`."""
        details = [] if self.details is None else [torch.full((self.details.dims,), DETAIL_STD)]
        return torch.cat([torch.ones(self.coarse_dims), *details])

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[..., dims]` -> coarse codes `[..., coarse_dims]` and details (of length 0 without a fine code)."""
        coarse, details = codes.split([self.coarse_dims, self.dims - self.coarse_dims], -1)
        return coarse, details

    def sample(self, classes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Random coarse codes and details for class numbers `[B]`: coarse as by `start`, details as photographs'."""
        return self.split(self.start(classes, noise))[0], self.split(noise * self.std.to(noise))[1]

    def init_from_class(
        self, direction: Tensor, noise: Tensor, exemplar: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Initial codes `[..., dims]` by `flow.init_from_class`, with small random details; noise is `[..., dims]`."""
        coarse, rest = self.split(noise)
        code = init_from_class(direction, coarse, exemplar, share)
        return torch.cat([code, INITIAL_DETAIL_SCALE * DETAIL_STD * rest], -1)

    def init_without_flow(self, noise: Tensor) -> Tensor:
        """Initial codes `[..., dims]` from as much standard normal noise that bypass the flow: their features are 0."""
        assert self.flow is not None
        count = self.flow.config.features
        return torch.cat([torch.zeros_like(noise[..., :count]), (noise * self.std.to(noise))[..., count:]], -1)

    def start(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Initial codes `[B, dims]` for class numbers `[B]` from standard normal noise `[B, dims]`.

        Without a flow, classes make no difference: a code is the noise, scaled by `std`.
        """
        flow = self.flow
        if flow is None:
            return noise * self.std.to(noise)
        return self.init_from_class(flow.classes[classes], noise, flow.exemplar(classes, noise))

    def spatial(self, code: Tensor) -> Tensor:
        """Codes `[B, dims]` -> spatial codes `[B, C, 4, 4]`, or `[B, C, 8, 8]` with a fine code."""
        coarse, details = self.split(code)
        white = coarse if self.flow is None else self.flow(coarse)
        spatial: Tensor = self.mean + (white @ self.basis.T).view(-1, *self.mean.shape)
        return spatial if self.details is None else self.details(spatial, details / DETAIL_STD)


class WhitenedDecoder(WhitenedCodes):
    """Codes `[B, dims]` -> images `[B, 3, S, S]`, RGB, nominally in [0, 1] (not clamped)."""

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
        self.coring = texture.coring(coring)
        self.grain = texture.grain(grain)

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
            coring=self.coring.limit if isinstance(self.coring, texture.Coring) else 0.0,
            details=self.details.dims if self.details else 0,
            detail_width=self.details.entry.out_channels if self.details else 0,
            grain=self.grain.strength if isinstance(self.grain, texture.Grain) else 0.0,
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

    def decode(self, spatial: Tensor) -> Tensor:
        """Spatial codes `[B, C, 4, 4]`, or fine ones `[B, C, 8, 8]`, -> images."""
        images: Tensor = self.grain(self.coring(self.refiner(self.decoder(spatial))))
        return images

    def forward(self, code: Tensor) -> Tensor:
        return self.decode(self.spatial(code))
