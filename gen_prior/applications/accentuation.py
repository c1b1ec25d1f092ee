"""`Accentuation`: the outcome of `accentuate`, and the folder that it is written to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.hub.tensors import save_safetensors
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import only_writer
from gen_prior.util.image_io import write_png
from gen_prior.util.mosaic import mosaic
from gen_prior.util.tables import Columns, write_tables

RECORD = "accentuation.json"
COLUMNS: Columns = {
    "image": str,
    "target": str,
    "seed": int,
    "activation": float,
    "start_activation": float,
    "distance": float,
    "pixel_distance": float,
}


@dataclass(frozen=True, eq=False)
class Accentuated:
    """A photograph altered towards one target.

    Attributes:
        name, slug: of the target, and for files.
        image: `[3, H, W]`, RGB, in [0, 1].
        code: its code `[*code_shape]`.
        start_activation, activation: of the target, on the photograph's copy and on the image.
        distance: of their features at the layer, relative to the norm of the copy's.
        pixel_distance: root mean square over pixels and colours.
    """

    name: str
    slug: str
    image: Tensor
    code: Tensor
    start_activation: float
    activation: float
    distance: float
    pixel_distance: float

    def gain(self, spread: float, nearness: float) -> float:
        """How much better the image is than the photograph, in what was maximised."""
        return (self.activation - self.start_activation) / spread - nearness * self.distance**2

    def unaltered(self, start: Tensor, code: Tensor) -> Accentuated:
        """The same for the photograph's copy as it is."""
        return replace(self, image=start, code=code, activation=self.start_activation, distance=0.0, pixel_distance=0.0)


@dataclass(frozen=True, eq=False)
class Accentuation:
    """The outcome of `accentuate`.

    Attributes:
        photograph: as the classifier sees it, `[3, H, W]`, RGB, in [0, 1].
        start: the generator's copy of it.
        images: one `Accentuated` for each target.
        settings: everything that they depend on besides the photograph, as plain values.
    """

    photograph: Tensor
    start: Tensor
    images: list[Accentuated]
    settings: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each image, as in `numbers.csv`."""
        return [
            {
                "image": f"{one.slug}.png", "target": one.name, "seed": self.settings["seed"],
                "activation": one.activation, "start_activation": one.start_activation, "distance": one.distance,
                "pixel_distance": one.pixel_distance,
            }
            for one in self.images
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Numbers and settings as plain values for JSON."""
        return {"images": self.rows(), "settings": self.settings}

    def sheet(self) -> Tensor:
        """One image `[3, H, W]`: a row for each target, with the copy, the altered image and the change, enlarged."""
        rows, captions = [], []
        for one in self.images:
            change = one.image - self.start
            rows.append([self.start, one.image, 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-6)])
            captions.append([f"{one.start_activation:.3g}", f"{one.activation:.3g}", f"distance {one.distance:.2f}"])
        names = [one.name for one in self.images]
        return mosaic(
            rows, captions=captions, row_names=names, column_names=["photograph", "accentuated", "change"], side=192
        )

    def save(self, out: str | Path) -> Path:
        """Write the images as PNG, a sheet, exact tensors, `numbers.csv` and `accentuation.json`; returns `out`."""
        with only_writer(out) as folder, as_output_errors(Path(out)):
            (folder / RECORD).unlink(missing_ok=True)
            write_png(folder / "photograph.png", self.photograph)
            tensors = {"photograph": self.photograph.contiguous(), "start": self.start.contiguous()}
            for one in self.images:
                write_png(folder / f"{one.slug}.png", one.image)
                tensors |= {f"{one.slug}.image": one.image.contiguous(), f"{one.slug}.code": one.code.contiguous()}
            save_safetensors(folder / "accentuation.safetensors", {k: v.clone() for k, v in tensors.items()}, {})
            write_png(folder / "accentuation-sheet.png", self.sheet())
            write_tables(folder, "numbers", self.rows(), COLUMNS)
            write_json(folder / RECORD, self.to_dict())
        return Path(out)


__all__ = ["COLUMNS", "RECORD", "Accentuated", "Accentuation"]
