"""`Exemplar`: a photograph and a unit's response to it; `Exemplars`: those of one unit, the best first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.objectives.receptive_field import Box
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import mosaic
from gen_prior.util.words import counted

SHOWN = 12
"""Most photographs that a notebook shows."""


@dataclass(frozen=True, repr=False)
class Exemplar:
    """A natural image and a unit's response to it.

    Attributes:
        path: the image file.
        activation: the unit's activation.
        image: the centre crop that the classifier was given, `[3, H, W]`, RGB, in [0, 1].
        box: the unit's receptive field in `image`.
        field: the square of it that the unit sees most of, its effective receptive field.
        position: where in the layer the activation was read, (y, x) or (t, y, x); None for a target without such
            positions.
    """

    path: Path
    activation: float
    image: Tensor
    box: Box
    field: Box
    position: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return name, activation and position for JSON."""
        place = None if self.position is None else list(self.position)
        return {"file": self.path.name, "activation": self.activation, "position": place}

    def picture(self) -> Image.Image:
        """The unit's effective receptive field in the image, as a PIL picture."""
        return to_pil(self.patch)

    def __repr__(self) -> str:
        return f"<{self.path.name}: activation {self.activation:.4g}>"

    def _repr_html_(self) -> str:
        picture = picture_tag(self.patch, self.path.name)
        return f'<div style="display: inline-block">{cell(repr(self)[1:-1], image=picture)}</div>'

    @property
    def seen(self) -> Tensor:
        """The image cropped to the unit's receptive field."""
        return self.box.crop(self.image)

    @property
    def patch(self) -> Tensor:
        """The image cropped to the unit's effective receptive field."""
        return self.field.crop(self.image)


class Exemplars(list[Exemplar]):
    """The photographs that a unit responds to most, the best first: a list of `Exemplar`."""

    def sheet(self) -> Image.Image:
        """The effective receptive field in each photograph, side by side. Raises `OptionError` for none."""
        if not self:
            raise OptionError("there is no photograph to show")
        captions = [f"{one.activation:.3g} {one.path.name}" for one in self]
        return to_pil(mosaic([[one.patch for one in self]], captions=[captions]))

    def __repr__(self) -> str:
        if not self:
            return "<Exemplars: none>"
        span = f"{self[0].activation:.4g} to {self[-1].activation:.4g}"
        return f"<Exemplars: {counted(len(self), 'photograph')}, activation {span}>"

    def _repr_html_(self) -> str:
        cells = [
            cell(f"{one.activation:.4g}", one.path.name, image=picture_tag(one.patch, one.path.name))
            for one in self[:SHOWN]
        ]
        more = f"and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
        return table(repr(self)[1:-1], [], [("", cells)], more)
