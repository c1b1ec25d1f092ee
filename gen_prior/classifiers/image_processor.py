"""An image processor of transformers -> the input size, mean and std that a classifier needs, by probing it.

Processors differ in the names and meaning of their settings (sizes of edges, crops, second normalisations, offsets,
swapped channels). Fed with plain images, each shows what it does to a pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gen_prior.errors import WeightsError

_RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers; other filters are replaced by bicubic, the nearest in sharpness that has a gradient here."""


class Preprocessing(NamedTuple):
    """Preprocessing of an RGB image in [0, 1]: resize, (x - mean) / std, and perhaps a swap of R and B."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    swaps_red_and_blue: bool


def probe(processor: Any, file: str, side: int = 512) -> Preprocessing:
    """Find what `processor` does to a square photograph. Raises `WeightsError` where it is not `Preprocessing`."""
    black, *colours = (_processed(processor, channels, side, file) for channels in ((), (0,), (1,), (2,)))
    height, width = black.shape[1:]
    before = black[:, height // 2, width // 2]
    gains = torch.stack([colour[:, height // 2, width // 2] - before for colour in colours], 1)  # [out, in]
    swapped = bool(gains[0, 2].abs() > gains[0, 0].abs())
    gain = (gains.flip(1) if swapped else gains).diagonal()
    if not torch.allclose(gains.abs().sum(1), gain) or not (gain > 0).all():
        raise WeightsError(f"{file}: its image processor does not map R, G and B to one channel each")
    std = 1 / gain
    mean = -before * std
    interpolation = _RESAMPLE.get(int(getattr(processor, "resample", None) or 0), "bicubic")
    order = [2, 1, 0] if swapped else [0, 1, 2]
    return Preprocessing(
        (height, width), tuple(mean[order].tolist()), tuple(std[order].tolist()), interpolation, swapped
    )


def _processed(processor: Any, channels: tuple[int, ...], side: int, file: str) -> Tensor:
    """`[3, H, W]` that the processor makes of an image with 255 in `channels` and 0 in the others."""
    image = np.zeros((side, side, 3), np.uint8)
    image[..., list(channels)] = 255
    values = processor(images=image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    if values.ndim != 4 or values.shape[:2] != (1, 3):
        raise WeightsError(
            f"{file}: its image processor returns {list(values.shape)}, not one RGB image [1, 3, H, W]",
            fix="load the network yourself and pass it to gp.Classifier",
        )
    result: Tensor = values[0].double()
    return result
