"""`Chain`: the outcome of `sample_chain`."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from gen_prior.optimise.unit_scale import Field
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import mosaic
from gen_prior.util.words import counted

COLUMNS, SHOWN = 8, 12
"""Samples in a row of a sheet, and most that a notebook shows."""


@dataclass(frozen=True, repr=False)
class Chain:
    """The samples that `sample_chain` kept, in order, on the CPU."""

    codes: Tensor
    """`[N, *code_shape]`."""
    images: Tensor
    """`[N, 3, H, W]`, RGB, in [0, 1]."""
    scores: Tensor
    """`[N]`: probability of a class, activation of a hidden unit."""
    iterations: list[int]
    """Iterations done when each sample was taken."""
    visited: Tensor
    """`[M]`: the score at every check of the chain, kept or not."""
    field: Field | None = None
    """Part of the classifier's input that the images of a hidden unit are drawn into; None for all of it."""

    def sheet(self) -> Image.Image:
        """All samples with their scores, as a PIL picture. Raises `OptionError` for a chain that kept none."""
        rows = range(0, len(self.images), COLUMNS)
        captions = [f"{score:.3g} at {done}" for score, done in zip(self.scores.tolist(), self.iterations, strict=True)]
        return to_pil(
            mosaic(
                [list(self.images[row : row + COLUMNS]) for row in rows],
                captions=[captions[row : row + COLUMNS] for row in rows],
            )
        )

    def __repr__(self) -> str:
        return f"<Chain: {counted(len(self.images), 'sample')} kept of {counted(len(self.visited), 'check')}>"

    def _repr_html_(self) -> str:
        cells = [
            cell(f"{score:.4g}", f"iteration {done}", image=picture_tag(image))
            for image, score, done in zip(self.images[:SHOWN], self.scores.tolist(), self.iterations, strict=False)
        ]
        more = f"and {len(self.images) - SHOWN} more: chain.sheet()" if len(self.images) > SHOWN else ""
        return table(repr(self)[1:-1], [], [("", cells)], more)
