"""Read the folder of a result, possibly untrusted: its record, the tensors of an item; and delete it."""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_safetensors
from torch import Tensor

from gen_prior.errors import OutputError
from gen_prior.optimise.resolve import item_names
from gen_prior.util.files import as_output_errors
from gen_prior.util.folders import remove_run
from gen_prior.util.reading import read_regular, reading

RECORD = "result.json"
FORMAT = "gen-prior/result-1"
UNFINISHED = "not finished"
MAX_RECORD_BYTES, MAX_ITEM_BYTES = 2**28, 2**32
"""Most bytes that are read of `result.json`, and of the tensors of an item."""


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the result in `folder`, with the types that its readers rely on. Raises `OutputError`."""
    path = folder / RECORD
    with reading("result", folder):
        record = json.loads(read_regular(path, limit=MAX_RECORD_BYTES, within=folder))
        if record.get("format") != FORMAT:
            raise OutputError(f"{path} is not a result of format {FORMAT}")
        _check_record(record)
    return dict(record)


def _check_record(record: dict[str, Any]) -> None:
    """Raise `ValueError`, `LookupError`, `TypeError` or `AttributeError` for a record that cannot be a result's."""
    rows, columns = len(record["targets"]), len(record["seeds"])
    if len(record["items"]) != rows * columns or len(record["slugs"]) != rows or not rows * columns:
        raise ValueError("its items are not targets x seeds")
    for shape in (record["image_shape"], record["code_shape"], [rows, columns, record["steps"]], record["seeds"]):
        if not all(type(number) is int and 0 <= number < 2**63 for number in shape):
            raise ValueError(f"the impossible shape {shape}")
        if shape is not record["seeds"] and math.prod(shape) > MAX_ITEM_BYTES // 16:
            raise ValueError(f"the impossible shape {shape}")
    if not all(isinstance(target, dict) and isinstance(target["name"], str) for target in record["targets"]):
        raise ValueError("a target without a name")
    if not all(isinstance(slug, str) and Path(slug).name == slug for slug in record["slugs"]):
        raise ValueError("a target's slug is not the name of a file")
    for item in record["items"]:
        if item["status"] != UNFINISHED and not (
            isinstance(item["status"], str) and Path(item["data"]).name == item["data"] and len(item["sha256"]) == 64
        ):
            raise ValueError("an item without a file")
        if not all(value is None or isinstance(value, int | float) for value in item.get("terms", [])):
            raise ValueError("terms that are no numbers")
    settings = record["settings"]
    settings["classifier"]["name"], settings["generator"]["name"], settings["environment"]["device"]
    if not all(isinstance(settings[name], dict) for name in ("custom", "recipe")):
        raise ValueError("settings that are none")
    if not all(type(size) is int and size > 0 for size in settings["batches"]) or float(record["seconds"]) < 0:
        raise ValueError("batches that are none")


def is_whole(folder: Path, item: dict[str, Any]) -> bool:
    """True if the files of a recorded item are there as they were written."""
    try:
        data = read_regular(folder / item["data"], limit=MAX_ITEM_BYTES, within=folder)
        return hashlib.sha256(data).hexdigest() == item["sha256"] and (folder / str(item["image"])).is_file()
    except (OSError, LookupError):
        return False


def clear_result(folder: Path) -> None:
    """Delete the run in `folder`, its record first; of a version without a list of files, the items and their sheets.

    Raises `OutputError`.
    """
    try:
        record = read_record(folder)
        names = item_names(record["slugs"], record["seeds"])
    except OutputError:
        names = []
    if remove_run(folder):
        return
    with as_output_errors(folder):
        for left in (*folder.glob("contact-sheet*.png"), folder / "numbers.csv", folder / "numbers.parquet"):
            left.unlink(missing_ok=True)
        for name in names:
            for left in (*folder.glob(f"{glob.escape(name)}.*"), *folder.glob(f"{glob.escape(name)}-*")):
                left.unlink()


def item_shapes(record: dict[str, Any]) -> dict[str, list[int]]:
    """Name -> shape of the tensors in an item's file."""
    return {
        "image": record["image_shape"],
        "code": record["code_shape"],
        "activation": [],
        "start_activation": [],
        "history": [record["steps"]],
    }


def read_item(folder: Path, item: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """The tensors of a finished item, `shapes` by name. Raises `OutputError` where they are not as recorded."""
    path = folder / item["data"]
    with reading("result", folder):
        data = read_regular(path, limit=MAX_ITEM_BYTES, within=folder)
        if hashlib.sha256(data).hexdigest() != item["sha256"]:
            raise OutputError(f"{path} is damaged or of another result: its SHA-256 is not the recorded one")
        tensors = load_safetensors(data)
        found = {name: list(tensors[name].shape) for name in shapes}
    for name, shape in shapes.items():
        if found[name] != list(shape):
            raise OutputError(f"{path}: {name} has shape {found[name]}, not {shape}")
    return {name: tensors[name] for name in shapes}


def finite(value: Tensor | float) -> float | None:
    """The value as a float for JSON, or None if it is not finite."""
    number = float(value)
    return number if abs(number) < float("inf") else None
