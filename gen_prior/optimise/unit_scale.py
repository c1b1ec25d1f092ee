"""Drawing at a unit's scale: the generated image fills the part of the input that the unit sees.

A hidden unit sees a part of the classifier's input, its receptive field, and reacts mostly to the middle of that, its
effective receptive field (Luo et al. 2016, arXiv 1701.04128). A prior that draws over the whole input can spend only
the few dimensions there on what the unit sees. So its image is drawn as large as the effective field, put there, and
mirrored around it. Transforms act on the image before it is put in place, and so scale with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.generators.shared.image_spectrum import colour_root, magnitude
from gen_prior.objectives import Objective
from gen_prior.objectives.targets import Position
from gen_prior.objectives.units import CENTRE, units_at
from gen_prior.util.devices import one_thread
from gen_prior.util.resample import resize_matrix

SHARE = 0.85
"""Share of the squared gradient that an effective field holds."""
SMALLEST = 16
"""Side in pixels of the smallest field: below it there is nothing to draw."""
WHOLE = 0.9
"""A field of more than this share of the input is the whole input."""
PROBES = 8


@dataclass(frozen=True)
class Field:
    """A square of the classifier's input, in pixels; it may reach beyond the input's edge."""

    top: int
    left: int
    side: int

    def to_list(self) -> list[int]:
        """Plain values for JSON."""
        return [self.top, self.left, self.side]

    def matrices(self, drawn: tuple[int, int], size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """`[H, h]` and `[W, w]`: they place a drawn image of h x w in an input of H x W, mirrored around the field."""
        return (
            _placing_matrix(self.top, self.side, drawn[0], size[0], device),
            _placing_matrix(self.left, self.side, drawn[1], size[1], device),
        )


class Placement:
    """Images `[B, C, h, w]` -> inputs `[B, C, H, W]`: each drawn into its item's field (None: the whole input)."""

    def __init__(self, fields: Sequence[Field | None], size: tuple[int, int], device: torch.device) -> None:
        whole = torch.eye(size[0], device=device), torch.eye(size[1], device=device)
        self.needed = any(field is not None for field in fields)
        if self.needed:
            pairs = [whole if field is None else field.matrices(size, size, device) for field in fields]
            rows, columns = zip(*pairs, strict=True)
            self.rows, self.columns = torch.stack(rows)[:, None], torch.stack(columns)[:, None].mT

    def __call__(self, images: Tensor) -> Tensor:
        if not self.needed:
            return images
        with torch.autocast(images.device.type, enabled=False):
            return self.rows @ images @ self.columns


def field_of(classifier: Classifier, objective: Objective, scale: str | int) -> Field | None:
    """The field to draw for `objective`; None for the whole input.

    `scale`: "unit" (the effective receptive field), "image" (the whole input), or the side of the field in pixels,
    centred where the objective looks. What reads classes, or tells the positions of a layer apart, sees everything.
    """
    read = objective.read_positions
    if scale == "image" or not read or LOGITS in objective.layers or any(position == "all" for _, position in read):
        return None
    energies = torch.stack([gradient_energy(classifier, layer, position) for layer, position in read])
    total = energies.sum(0)
    if total.sum() <= 0:
        return None
    height, width = total.shape
    row = float((total.sum(1) * torch.arange(height)).sum() / total.sum())
    column = float((total.sum(0) * torch.arange(width)).sum() / total.sum())
    # Of several positions, the field holds what each of them sees.
    holding = max(_side_holding(energy, row, column, SHARE) for energy in energies)
    side = int(scale) if not isinstance(scale, str) else max(SMALLEST, holding)
    if side > WHOLE * min(height, width):
        return None
    return Field(round(row + 0.5 - side / 2), round(column + 0.5 - side / 2), side)


def gradient_energy(classifier: Classifier, layer: str, position: object) -> Tensor:
    """`[H, W]`: mean squared gradient of a layer at a position, over noise with a natural spectrum; its sum is 1 or 0.

    All units of the layer share it: the gradient is that of random signed sums of the units. "mean" stands for the
    central position.
    """
    position = CENTRE if position == "mean" else position
    known = classifier.__dict__.setdefault("_gradient_energies", {})
    if (layer, position) not in known:
        with one_thread(classifier.device):
            known[layer, position] = _gradient_energy(classifier, layer, position)  # type: ignore[arg-type]
    return known[layer, position]


def _gradient_energy(classifier: Classifier, layer: str, position: Position) -> Tensor:
    images = classifier.resize(natural_noise(PROBES).to(classifier.device)).requires_grad_()
    units = classifier.layout(layer).units(layer)
    signs = torch.randint(0, 2, (units,), generator=torch.Generator().manual_seed(1)) * 2 - 1
    gradient = torch.zeros_like(images)
    with classifier.record_layers([layer]) as hooks:
        for part in images.split(1 if classifier.one_image else PROBES):
            values = units_at(hooks(classifier.normalise(part)), position, layer)
            gradient += torch.autograd.grad((values @ signs.to(values)).sum(), images)[0]
    energy = gradient.square().sum(1).mean(0).double().cpu()
    return energy / energy.sum().clamp_min(1e-300)


def natural_noise(count: int, side: int = 224) -> Tensor:
    """`[count, 3, side, side]`: noise in [0, 1] with the spectrum and colours of photographs, always the same."""
    source = torch.Generator().manual_seed(0)
    white = torch.randn(count, 3, side, side, generator=source)
    spectrum = torch.fft.rfft2(white, norm="ortho") * magnitude(side)
    planes = torch.fft.irfft2(spectrum, s=(side, side), norm="ortho")
    return (torch.einsum("ij,bjhw->bihw", colour_root(), planes) + 0.5).clamp(0, 1)


def _side_holding(energy: Tensor, row: float, column: float, share: float) -> int:
    """Side of the smallest square about (row, column) that holds `share` of the energy."""
    height, width = energy.shape
    away = torch.maximum((torch.arange(height) - row).abs()[:, None], (torch.arange(width) - column).abs()[None])
    order = away.flatten().argsort()
    held = energy.flatten()[order].cumsum(0) / energy.sum()
    reach = away.flatten()[order][int((held < share).sum())]
    return 2 * math.ceil(float(reach)) + 1


@cache
def _placing_matrix(first: int, side: int, drawn: int, size: int, device: torch.device) -> Tensor:
    """`[size, drawn]`: shrink `drawn` pixels to `side`, which start at `first`, and mirror them beyond both ends."""
    small = resize_matrix(drawn, side, "bilinear", side < drawn, device, torch.float32)
    offset = (torch.arange(size) - first) % (2 * side)
    return small[torch.minimum(offset, 2 * side - 1 - offset).to(device)]
