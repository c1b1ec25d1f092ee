"""`responses.csv` and `codes.safetensors`: every image of a search without gradients, its code and its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_prior.applications.evolution import Evolution
from gen_prior.applications.experiment_record import SCORE
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
that responded: "score", as in `scores.csv`, where an experiment has a single one without a name; the unit, where no
experiment showed the images."""
NO_CODE = -1
"""`code` of a reference image, which has none: a number, so that the column is one of integers wherever it is read."""


def export_search(evolution: Evolution, folder: Path) -> list[Path]:
    """Write `responses.csv` and `codes.safetensors` of one search, whose images no experiment showed."""
    population = evolution.settings["population"]
    source = evolution.settings["source"]
    unit = SCORE if source is None else str(source["label"] or source["target"])
    row = {"kind": "evolved", "search": unit, "neuron": unit}
    rows = [
        row | {"generation": number // population, "code": number, "score": float(score)}
        for number, score in enumerate(np.concatenate([*evolution.scores, np.zeros(0)]))
    ]
    codes = folder / "codes.safetensors"
    with as_output_errors(codes):
        save_safetensors(codes, {"codes": evolution.codes()}, {})
    columns: Columns = {name: kind for name, kind in COLUMNS.items() if name != "image"}
    return [*write_tables(folder, "responses", rows, columns), codes]
