"""Larger images of a prior: its convolutional networks on a code with more places.

The network that predicts the fine code (8x8) from the coarse one (4x4) sees neighbourhoods only, and photographs look
alike at every scale. So it also predicts a code of 16x16 places from the fine one, and of 32x32 from that, and the
decoder makes images of twice and four times the side. What photographs have beyond the prediction are further details,
along the same directions, on every tile of 8x8 places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError
from gen_prior.generators.base import ClassInit
from gen_prior.generators.dgn import texture
from gen_prior.generators.dgn.fine_code import FINE_SIDE
from gen_prior.generators.dgn.network import DETAIL_STD, INITIAL_DETAIL_SCALE, WhitenedDecoder

FACTORS = (1, 2, 4)
"""Sides that a prior with a fine code can draw, in parts of its own."""


class LargerDecoder(nn.Module):
    """Codes `[B, dims]` -> images `[B, 3, S, S]`, RGB, of `factor` (2 or 4) times the side of `network`.

    A code is one of `network`, then the details of each level's tiles: 4 tiles at twice the side, then 16.
    """

    def __init__(self, network: WhitenedDecoder, factor: int) -> None:
        super().__init__()
        assert network.details is not None
        self.network, self.details = network, network.details
        self.splits = [side for side in FACTORS[1:] if side <= factor]
        config = network.config
        # Both are about pixels of the decoder, which mean the same in a larger image.
        side = config.image_side // (2 if config.grain else 1)
        self.coring, self.grain = texture.coring(config.coring, side), texture.grain(config.grain, side)

    @property
    def dims(self) -> int:
        """Dimensions of a code."""
        return self.network.dims + sum(side**2 for side in self.splits) * self.details.dims

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension of a code over photographs, `[dims]`."""
        own = self.network.std
        return torch.cat([own, own.new_full((self.dims - len(own),), DETAIL_STD)])

    def init_without_flow(self, noise: Tensor) -> Tensor:
        """Initial codes `[dims]` of hidden units from as much noise, as `WhitenedCodes.init_without_flow`."""
        own, further = self._split(noise)
        return torch.cat([self.network.init_without_flow(own), DETAIL_STD * further], -1)

    def class_init(self, init: ClassInit | None) -> ClassInit | None:
        """The `class_init` of codes with further details, from that of codes of `network`."""
        if init is None:
            return None

        def with_details(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
            own, further = self._split(noise)
            code = init(wanted, own, seed)
            return None if code is None else torch.cat([code, INITIAL_DETAIL_SCALE * DETAIL_STD * further], -1)

        return with_details

    def forward(self, code: Tensor) -> Tensor:
        own, further = self._split(code)
        spatial = self.network.spatial(own)
        sizes = [side**2 * self.details.dims for side in self.splits]
        for side, details in zip(self.splits, further.split(sizes, -1), strict=True):
            spatial = self.details.expected(spatial) + self._residual(details / DETAIL_STD, side)
        images = self.network.refiner(self.network.decoder(spatial))
        drawn: Tensor = self.grain(self.coring(images))
        return drawn

    def _split(self, code: Tensor) -> tuple[Tensor, Tensor]:
        own, further = code.split([self.network.dims, self.dims - self.network.dims], -1)
        return own, further

    def _residual(self, details: Tensor, side: int) -> Tensor:
        """Details `[B, side * side * D]` of tiles, row by row -> `[B, C, 8 * side, 8 * side]`."""
        basis = self.details.basis.T.to(details)
        tiles = details.view(len(details), side, side, -1) @ basis
        tiles = tiles.view(len(details), side, side, -1, FINE_SIDE, FINE_SIDE)
        return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def sized(network: WhitenedDecoder, image_size: Any, name: str) -> WhitenedDecoder | LargerDecoder:
    """`network`, or what draws its larger images. Raises `OptionError`, which lists the sides that are possible."""
    side = network.config.image_side
    possible = [factor * side for factor in FACTORS] if network.details is not None else [side]
    if image_size is None or image_size == side:
        return network
    if isinstance(image_size, bool) or image_size not in possible:
        sides = ", ".join(map(str, possible))
        raise OptionError(
            f"{name} draws square images of {sides} px{' only' * (len(possible) == 1)}, got image_size={image_size!r}"
        )
    return LargerDecoder(network, image_size // side)


__all__ = ["FACTORS", "LargerDecoder", "sized"]
