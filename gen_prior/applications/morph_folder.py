"""`Morph`: the outcome of `morph`, and the folder that holds it, possibly untrusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.hub.tensors import read_tensors, save_safetensors
from gen_prior.optimise.saved_run import check_saved
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES
from gen_prior.report.film import FrameFolder, strip, write_animation
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import remove_run, run_writer
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.image_io import to_pil, write_png
from gen_prior.util.mosaic import mosaic
from gen_prior.util.reading import read_regular, reading
from gen_prior.util.tables import Columns, write_tables

RECORD = "morph.json"
SHOWN = 9
"""Most frames in the strip, the sheet and a notebook."""
TENSORS = ("images", "codes", "positions", "activations")
COLUMNS: Columns = {"image": str, "position": float, "target": str, "activation": float}
"""Columns of `numbers.csv`, which has a row for each unit of each frame.

Position 1.5 is half way from the second end to the third.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Morph:
    """The outcome of `morph`: N frames.

    Attributes:
        images: `[N, 3, H, W]`, RGB, in [0, 1].
        codes: `[N, *code_shape]`.
        positions: `[N]`: 0 at the first end, 1 at the second, and so on.
        activations: `[N, U]`, of `units` on each frame.
        units: names of the units that are measured.
        names: names of the ends.
        settings: everything that the frames depend on, as plain values.
    """

    images: Tensor
    codes: Tensor
    positions: Tensor
    activations: Tensor
    units: list[str]
    names: list[str]
    settings: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each unit of each frame, as in `numbers.csv`."""
        return [
            {
                "image": frame_name(frame), "position": round(float(self.positions[frame]), 6), "target": unit,
                "activation": float(self.activations[frame, number]),
            }
            for frame in range(len(self.images))
            for number, unit in enumerate(self.units)
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Ends, units and settings as plain values for JSON."""
        return {"names": self.names, "units": self.units, "frames": len(self.images), "settings": self.settings}

    def __repr__(self) -> str:
        ways = " to ".join(self.names)
        made_by = f"{self.settings['generator']['name']} for {self.settings['classifier']['name']}"
        return f"<Morph: {len(self.images)} frames from {ways}; {made_by}>"

    def _repr_html_(self) -> str:
        """View in a notebook: up to nine frames, and how strongly each unit responds to them."""
        shown = self._shown()
        head = [f"{float(self.positions[frame]):.2f}" for frame in shown]
        rows = [("", [picture_tag(self.images[frame], f"frame {frame}") for frame in shown])]
        rows += [
            (unit, [cell(f"{float(self.activations[frame, number]):.4g}") for frame in shown])
            for number, unit in enumerate(self.units)
        ]
        return table(repr(self)[1:-1], head, rows)

    def sheet(self) -> Image.Image:
        """Up to nine frames side by side as a PIL picture, each with its position and, below, its activations."""
        shown = self._shown()
        frames = [self.images[frame] for frame in shown]
        values = [self._values()[frame] for frame in shown]
        names = [f"{float(self.positions[frame]):.2f}" for frame in shown]
        return to_pil(mosaic([frames], captions=[values], column_names=names, row_names=[" / ".join(self.units)]))

    def _values(self) -> list[str]:
        """The activations of each frame, as "12.3 / 4.56"."""
        return [" / ".join(f"{value:.3g}" for value in row) for row in self.activations.tolist()]

    def _shown(self) -> list[int]:
        """Numbers of up to `SHOWN` frames, evenly spaced."""
        last = len(self.images) - 1
        count = min(SHOWN, last + 1)
        return [round(last * number / (count - 1)) for number in range(count)]

    def film(self, path: str | Path, *, fps: float = 12.0) -> Path:
        """Write a film (.gif, .webp or .mp4) that goes to the last end and back, and return its path.

        It ends at the first end, held for a second as the last frame of other films is.
        """
        return write_animation(path, [*self.images, *self.images[:-1].flip(0)], fps=fps)

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the frames, exact tensors, `numbers.csv`, `morph.json`, and a strip with activations; returns `out`.

        Raises `OptionError` for a folder that holds another run, unless `overwrite` is given, which replaces it, and
        `OutputError` for one that cannot be written to.
        """
        with run_writer(out) as folder, as_output_errors(Path(out)):
            if check_saved(folder, RECORD, self.settings, overwrite=overwrite) and overwrite:
                remove_run(folder)
            frames = FrameFolder(folder)
            frames.clear()
            for number, image in enumerate(self.images):
                frames.write(number, image)
            write_png(folder / "morph-strip.png", strip(list(self.images), count=SHOWN, labels=self._values()))
            save_safetensors(
                folder / "morph.safetensors", {name: getattr(self, name).contiguous() for name in TENSORS}, {}
            )
            write_tables(folder, "numbers", self.rows(), COLUMNS)
            write_json(folder / RECORD, self.to_dict())  # last: a folder with it is finished
        return Path(out)


def frame_name(number: int) -> str:
    """File name of frame `number`, from 0."""
    return f"frame-{number:04d}.png"


def read_morph(folder: Path) -> Morph:
    """The finished morph in `folder`. Raises `OutputError` if it is missing or damaged."""
    with reading("morph", folder):
        record = json.loads(read_regular(folder / RECORD, limit=MAX_RECORD_BYTES, within=folder))
        tensors = read_tensors(folder / "morph.safetensors")
        frames, units = int(record["frames"]), [str(name) for name in record["units"]]
        names, settings = [str(name) for name in record["names"]], dict(record["settings"])
        parts = [tensors[name] for name in TENSORS]
        if any(len(part) != frames for part in parts) or parts[3].shape != (frames, len(units)):
            raise ValueError("its tensors are not of its frames")
    return Morph(parts[0], parts[1], parts[2], parts[3], units, names, settings)


__all__ = ["COLUMNS", "RECORD", "Morph", "frame_name", "read_morph"]
