"""`Inversion`: the outcome of `invert`, and the folder that holds it, possibly untrusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gen_prior.errors import UnknownNameError
from gen_prior.hub.tensors import read_tensors, save_safetensors
from gen_prior.optimise.saved_run import check_saved
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES
from gen_prior.report.numbers import INVERSION, NUMBERS
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import remove_run, run_writer
from gen_prior.util.html import SIDE, cell, picture_tag, table
from gen_prior.util.image_io import to_pil, write_png
from gen_prior.util.mosaic import mosaic
from gen_prior.util.reading import read_regular, reading
from gen_prior.util.tables import Row, write_tables

RECORD = "inversion.json"


@dataclass(frozen=True, repr=False)
class Reconstruction:
    """An image `[3, H, W]` whose features at `layer` are near those of the original, and its code.

    `error` is the squared distance of the features over the squared norm of the original's: 0 for equal features,
    1 for features of zero. `style_error` is the same for the Gram matrices at the style layers, None without any.
    """

    layer: str
    method: str
    image: Tensor
    code: Tensor
    error: float
    style_error: float | None = None

    def picture(self) -> Image.Image:
        """The image as a PIL picture."""
        return to_pil(self.image)

    def __repr__(self) -> str:
        return f"<{self.layer} through {self.method}: error {self.error:.3g}>"

    def _repr_html_(self) -> str:
        picture = picture_tag(self.image, self.layer, 2 * SIDE)
        return f'<div style="display: inline-block">{cell(repr(self)[1:-1], image=picture)}</div>'


@dataclass(frozen=True, repr=False)
class Inversion:
    """The outcome of `invert`.

    Attributes:
        original: the image that was inverted, `[3, H, W]`, RGB, in [0, 1].
        layers: from shallow to deep.
        methods: names of the generators.
        reconstructions: `reconstructions[method][layer]`, of those that are finished.
        settings: everything that the reconstructions depend on, as plain values.
    """

    original: Tensor
    layers: list[str]
    methods: list[str]
    reconstructions: dict[str, dict[str, Reconstruction]]
    settings: dict[str, Any]

    def __getitem__(self, key: tuple[str, str]) -> Reconstruction:
        """`inversion["dgn-lite0", "blocks.5"]`: the reconstruction of a layer by a method.

        Raises `UnknownNameError` with close matches.
        """
        method, layer = key
        if method not in self.reconstructions:
            raise UnknownNameError("method of this inversion", method, self.reconstructions)
        if layer not in self.layers:
            raise UnknownNameError("layer of this inversion", layer, self.layers)
        return self.reconstructions[method][layer]

    def __repr__(self) -> str:
        height, width = self.original.shape[1:]
        done = ", ".join(self.reconstructions) or "nothing yet"
        return f"<Inversion: {height} x {width} image from {', '.join(self.layers)} through {done}>"

    def _repr_html_(self) -> str:
        rows = [
            (method, [
                cell(f"error {row[layer].error:.3g}", image=picture_tag(row[layer].image, f"{method}, {layer}"))
                for layer in self.layers
            ])
            for method, row in self.reconstructions.items()
        ]  # fmt: skip
        original = ("original", [picture_tag(self.original, "original")])
        return table(repr(self)[1:-1], self.layers, [*rows, original])

    def sheet(self) -> Image.Image:
        """One PIL picture: the original, a row for each method, a column for each layer, errors below."""
        return to_pil(self._sheet())

    def _sheet(self) -> Tensor:
        rows = [
            [self.original if r == 0 else None, *(self.reconstructions[method][layer].image for layer in self.layers)]
            for r, method in enumerate(self.reconstructions)
        ]
        captions = [
            ["", *(f"error {self.reconstructions[method][layer].error:.3f}" for layer in self.layers)]
            for method in self.reconstructions
        ]
        return mosaic(
            rows, captions=captions, row_names=list(self.reconstructions), column_names=["original", *self.layers]
        )

    def to_dict(self) -> dict[str, Any]:
        """Errors and settings as plain values for JSON."""
        rows = self.reconstructions.items()
        errors = {method: {layer: found.error for layer, found in row.items()} for method, row in rows}
        styles = {method: {layer: found.style_error for layer, found in row.items()} for method, row in rows}
        plain: dict[str, Any] = {"layers": self.layers, "methods": self.methods, "feature_error": errors}
        plain |= {"settings": self.settings, "finished": list(self.reconstructions) == self.methods}
        return plain | ({"style_error": styles} if self.settings["style_layers"] else {})

    def identity(self) -> dict[str, Any]:
        """All that tells this inversion from others."""
        return {"layers": self.layers, "methods": self.methods} | self.settings

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write reconstructions as PNG and, exact, as safetensors, sheet, numbers, `inversion.json`; returns `out`.

        Raises `OptionError` for a folder that holds another run, unless `overwrite` is given, which replaces it, and
        `OutputError` for one that cannot be written to.
        """
        with run_writer(out) as folder:
            check_saved(folder, RECORD, self.identity(), overwrite=overwrite)
            if overwrite:
                remove_run(folder)  # first, so that a mixture is never taken for an inversion
            self.write(folder, list(self.reconstructions))
        return Path(out)

    def write(self, folder: Path, methods: Sequence[str]) -> None:
        """Write the reconstructions of some methods, then what is made of all, and the record. Raises `OutputError`."""
        with as_output_errors(folder):
            write_png(folder / "original.png", self.original)
            for method in methods:
                row = self.reconstructions[method]
                save_safetensors(folder / f"{_slug(method)}.safetensors", _exact(row), {})
                for layer, found in row.items():
                    write_png(folder / f"{_slug(method)}-{_slug(layer)}.png", found.image)
            write_png(folder / "inversion.png", self._sheet())
            write_tables(folder, NUMBERS, self._rows(), INVERSION)
            write_json(folder / RECORD, self.to_dict())  # last: it tells what is finished

    def _rows(self) -> list[Row]:
        """A row of `numbers.csv` for each reconstruction."""
        return [
            {
                "method": method,
                "layer": layer,
                "seed": self.settings["seed"],
                "image": f"{_slug(method)}-{_slug(layer)}.png",
                "error": found.error,
                "style_error": found.style_error,
            }
            for method, row in self.reconstructions.items()
            for layer, found in row.items()
        ]


def finished_reconstructions(folder: Path, inversion: Inversion) -> dict[str, dict[str, Reconstruction]]:
    """The reconstructions in `folder`.

    Raises `OptionError` unless they are of `inversion`, `OutputError` if the folder is damaged.
    """
    check_saved(folder, RECORD, inversion.identity())
    with reading("inversion", folder):
        before = json.loads(read_regular(folder / RECORD, limit=MAX_RECORD_BYTES, within=folder))
        found: dict[str, dict[str, Reconstruction]] = {}
        for method, errors in before["feature_error"].items():
            tensors = read_tensors(folder / f"{_slug(method)}.safetensors")
            styles = before.get("style_error", {}).get(method, {})
            found[method] = {
                layer: Reconstruction(
                    layer, method, tensors[f"{layer}.image"], tensors[f"{layer}.code"], errors[layer], styles.get(layer)
                )
                for layer in inversion.layers
            }
    return found


def _exact(row: Mapping[str, Reconstruction]) -> dict[str, Tensor]:
    tensors = {f"{layer}.image": found.image for layer, found in row.items()}
    tensors |= {f"{layer}.code": found.code for layer, found in row.items()}
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)
