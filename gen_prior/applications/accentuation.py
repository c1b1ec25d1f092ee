"""`Accentuation`: the outcome of `accentuate`, how it is looked at, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub.tensors import save_safetensors
from gen_prior.optimise.saved_run import check_saved
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import remove_run, run_writer
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import png_bytes, to_pil, write_png
from gen_prior.util.mosaic import mosaic, pages, write_pages
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
NUMBERS = ("start_activation", "activation", "distance", "pixel_distance")
SHOWN = 8
"""Most targets in a notebook."""
SIDE = 192
"""Pixels: side of an image in the sheet."""


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


@dataclass(frozen=True, eq=False, repr=False)
class Accentuation:
    """The outcome of `accentuate`.

    Attributes:
        photograph: as the classifier sees it, `[3, H, W]`, RGB, in [0, 1].
        start: the generator's copy of it.
        images: one `Accentuated` for each target that is finished; `accentuation["tabby"]` is that of a target.
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
        finished = len(self.images) == len(self.settings["targets"])
        return {"images": self.rows(), "settings": self.settings, "finished": finished}

    def __getitem__(self, target: str) -> Accentuated:
        """The image of a target, by its name or its file name. Raises `UnknownNameError` with close matches."""
        for one in self.images:
            if target in (one.name, one.slug):
                return one
        raise UnknownNameError("target of this accentuation", target, [one.name for one in self.images])

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.images[:4]) or "nothing yet"
        more = f", ... ({len(self.images)} targets)" if len(self.images) > 4 else ""
        made_by = f"{self.settings['generator']['name']} for {self.settings['classifier']['name']}"
        return f"<Accentuation: photograph towards {names}{more}; {made_by}, near at {self.settings['layer']}>"

    def _repr_html_(self) -> str:
        """View in a notebook: the photograph's copy and each altered image, with the activations."""
        rows = [
            (one.name, [
                cell(f"{one.start_activation:.4g}", image=picture_tag(self.start, "photograph")),
                cell(f"{one.activation:.4g}", f"distance {one.distance:.2f}", image=picture_tag(one.image, one.name)),
            ])
            for one in self.images[:SHOWN]
        ]  # fmt: skip
        hidden = len(self.images) - len(rows)
        more = f"and {hidden} more: accentuation.sheet(), accentuation[TARGET]" if hidden else ""
        return table(repr(self)[1:-1], ["photograph", "accentuated"], rows, more)

    def sheet(self, page: int = 1) -> Image.Image:
        """A row for each target as a PIL picture: copy, altered image, the change enlarged; many on several pages.

        Raises `OptionError` for an unknown page.
        """
        known = sheet_pages(len(self.images))
        if not 1 <= page <= len(known):
            raise OptionError(f"this accentuation has pages 1 to {len(known)}, got {page}")
        return to_pil(self.sheet_of(known[page - 1]))

    def sheet_of(self, targets: range) -> Tensor:
        """One page of the sheet, `[3, H, W]`: a row for each of these targets."""
        rows, captions, shown = [], [], [self.images[number] for number in targets]
        for one in shown:
            change = one.image - self.start
            rows.append([self.start, one.image, 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-6)])
            captions.append([f"{one.start_activation:.3g}", f"{one.activation:.3g}", f"distance {one.distance:.2f}"])
        return mosaic(
            rows, captions=captions, row_names=[one.name for one in shown],
            column_names=["photograph", "accentuated", "change"], side=SIDE,
        )  # fmt: skip

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the images as PNG and, exact, as safetensors, sheets, numbers, `accentuation.json`; returns `out`.

        Raises `OptionError` for a folder that holds another run, unless `overwrite` is given, which replaces it, and
        `OutputError` for one that cannot be written to.
        """
        with run_writer(out) as folder, as_output_errors(Path(out)):
            check_saved(folder, RECORD, self.settings, overwrite=overwrite)
            if overwrite:
                remove_run(folder)
            for one in self.images:
                write_item(folder, one, {})
            write_record(folder, self)
            write_sheets(folder, self)
        return Path(out)


def sheet_pages(count: int) -> list[range]:
    """The targets on each page of the sheet."""
    return pages(count, SIDE + 30, header=30)


def write_item(folder: Path, one: Accentuated, made_of: Mapping[str, Any]) -> None:
    """Write one image as `SLUG.png`, then as `SLUG.safetensors` with its code, its numbers and what it is `made_of`."""
    write_png(folder / f"{one.slug}.png", one.image)
    tensors = {name: getattr(one, name).detach().cpu().clone().contiguous() for name in ("image", "code")}
    numbers = {name: getattr(one, name) for name in NUMBERS}
    metadata = {"made_of": json.dumps(made_of, sort_keys=True), "numbers": json.dumps(numbers)}
    save_safetensors(folder / f"{one.slug}.safetensors", tensors, metadata)


def write_record(folder: Path, made: Accentuation) -> None:
    """Write `numbers.csv`, then `accentuation.json`, which tells what is finished."""
    write_png(folder / "photograph.png", made.photograph)
    write_tables(folder, "numbers", made.rows(), COLUMNS)
    write_json(folder / RECORD, made.to_dict())


def write_sheets(folder: Path, made: Accentuation) -> None:
    """Write `accentuation-sheet.png`, and for many targets `accentuation-sheet-2.png`, ..."""
    sheets = (png_bytes(made.sheet_of(page)) for page in sheet_pages(len(made.images)))
    write_pages(folder, "accentuation-sheet", sheets)


__all__ = ["COLUMNS", "RECORD", "Accentuated", "Accentuation"]
