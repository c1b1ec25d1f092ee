"""`Exemplar`: a photograph and a unit's response to it; `Exemplars`: those of one unit; `ExemplarLists`: of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.objectives.receptive_field import Box
from gen_prior.util.html import SIDE, cell, picture_tag, table
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import fitted, mosaic
from gen_prior.util.words import counted, few

SHOWN = 12
"""Most photographs, and most targets, that a notebook shows."""


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
        return f'<div style="display: inline-block">{cell(repr(self)[1:-1], image=_shown(self))}</div>'

    @property
    def seen(self) -> Tensor:
        """The image cropped to the unit's receptive field."""
        return self.box.crop(self.image)

    @property
    def patch(self) -> Tensor:
        """The image cropped to the unit's effective receptive field."""
        return self.field.crop(self.image)


class Exemplars(list[Exemplar]):
    """The photographs that a unit responds to most, the best first: a list of `Exemplar`; `name` is the unit's."""

    def __init__(self, found: Iterable[Exemplar] = (), name: str = "") -> None:
        super().__init__(found)
        self.name = name

    def sheet(self) -> Image.Image:
        """The effective receptive field in each photograph, side by side. Raises `OptionError` for none."""
        return _sheet([self])

    def __repr__(self) -> str:
        of = f" of {self.name}" if self.name else ""
        if not self:
            return f"<Exemplars{of}: none>"
        span = f"{self[0].activation:.4g} to {self[-1].activation:.4g}"
        return f"<Exemplars{of}: {counted(len(self), 'photograph')}, activation {span}>"

    def _repr_html_(self) -> str:
        more = f"and {len(self) - SHOWN} more" if len(self) > SHOWN else ""
        return table(repr(self)[1:-1], [], [("", _cells(self))], more)


class ExemplarLists(list[Exemplars]):
    """The exemplars of several targets, which notebooks show as a table with a row for each."""

    def sheet(self) -> Image.Image:
        """The effective receptive field in each photograph, a row for each target. Raises `OptionError` for none."""
        return _sheet(self)

    def __repr__(self) -> str:
        return f"<Exemplars of {counted(len(self), 'target')}: {few([one.name for one in self], 4)}>"

    def _repr_html_(self) -> str:
        rows = [(one.name, _cells(one)) for one in self[:SHOWN]]
        more = f"and {counted(len(self) - SHOWN, 'target')} more" if len(self) > SHOWN else ""
        return table(repr(self)[1:-1], [], rows, more)


def _cells(found: Sequence[Exemplar]) -> list[str]:
    """A cell of a notebook's table for each photograph: the patch, its activation and the name of the file."""
    return [cell(f"{one.activation:.4g}", one.path.name, image=_shown(one)) for one in found[:SHOWN]]


def _shown(one: Exemplar) -> str:
    """The patch as an `img` element. The field of a unit of an early layer has few pixels: it is enlarged."""
    return picture_tag(fitted(one.picture(), SIDE), one.path.name)


def _sheet(rows: Sequence[Exemplars]) -> Image.Image:
    """A row of patches for each target, with activations and file names below."""
    if not any(rows):
        raise OptionError("there is no photograph to show")
    captions = [[f"{one.activation:.3g} {one.path.name}" for one in row] for row in rows]
    names = [row.name for row in rows]
    return to_pil(mosaic([[one.patch for one in row] for row in rows], captions=captions, row_names=names))
