"""`responses.csv` and `codes.safetensors`: every image of a search without gradients, its code and its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_prior.applications.evolution import Evolution
from gen_prior.hub.tensors import save_safetensors
from gen_prior.util.files import as_output_errors
from gen_prior.util.tables import Columns, write_tables

COLUMNS: Columns = {
    "generation": int,
    "image": str,
    "kind": str,
    "search": str,
    "code": int,
    "neuron": str,
    "score": float,
}
"""Columns of `responses.csv`, which has a row for each image and neuron: `kind` is "evolved" or "reference", `search`
the neuron whose search made the image, `code` its row in that search's tensor in `codes.safetensors`, `neuron` the one
that responded. The neuron of an experiment with a single one, without a name, is left empty."""


def export_search(evolution: Evolution, folder: Path) -> list[Path]:
    """Write `responses.csv` and `codes.safetensors` of one search, whose images no experiment showed."""
    population = evolution.settings["population"]
    rows = [
        {"generation": number // population, "kind": "evolved", "code": number, "score": float(score)}
        for number, score in enumerate(np.concatenate([*evolution.scores, np.zeros(0)]))
    ]
    codes = folder / "codes.safetensors"
    with as_output_errors(codes):
        save_safetensors(codes, {"codes": evolution.codes()}, {})
    columns: Columns = {name: kind for name, kind in COLUMNS.items() if name not in ("image", "search", "neuron")}
    return [*write_tables(folder, "responses", rows, columns), codes]
