"""`load_result`: a folder of `synthesize` -> its `Result`, exact to the bit and ready to replay."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gen_prior.errors import GenPriorError, OutputError
from gen_prior.optimise.result import Result
from gen_prior.optimise.result_folder import FORMAT, RECORD, UNFINISHED, first_line
from gen_prior.optimise.synthesize import rerun


def load_result(folder: str | Path) -> Result:
    """The result saved in `folder`, exact to the bit. Raises `OutputError` where it is missing or damaged."""
    folder = Path(folder)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise OutputError(f"{folder / RECORD} is not a result of format {FORMAT}")
        result = _assembled(folder, record)
    except FileNotFoundError as error:
        raise OutputError(f"no result in {folder}: {Path(error.filename).name} is missing") from error
    except GenPriorError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise OutputError(f"the result in {folder} is damaged: {first_line(error)}") from error
    result.attach(None, None, rerun)
    return result


def _assembled(folder: Path, record: dict[str, Any]) -> Result:
    """The result of a record and the files that it names; unfinished items are zero."""
    rows, columns = len(record["targets"]), len(record["seeds"])
    if len(record["items"]) != rows * columns or len(record["slugs"]) != rows:
        raise OutputError(f"the result in {folder} is damaged: its items are not targets x seeds")
    shapes = {
        "images": ("image", record["image_shape"]),
        "codes": ("code", record["code_shape"]),
        "activations": ("activation", []),
        "start_activations": ("start_activation", []),
        "history": ("history", [record["steps"]]),
    }
    named = dict(shapes.values())
    status = [str(item["status"]) for item in record["items"]]
    items = [
        None if item["status"] == UNFINISHED else _read_item(folder / Path(item["data"]).name, item["sha256"], named)
        for item in record["items"]
    ]
    finished = next((item for item in items if item is not None), None)
    if finished is None:
        raise OutputError(f"the result in {folder} holds no finished item")
    blank = {name: torch.zeros_like(tensor) for name, tensor in finished.items()}
    tensors = {
        field: torch.stack([(item or blank)[name] for item in items]).view(rows, columns, *shape)
        for field, (name, shape) in shapes.items()
    }
    terms = [
        [math.nan if value is None else float(value) for value in item.get("terms", [])] for item in record["items"]
    ]
    return Result(
        **tensors,
        status=[status[row * columns : (row + 1) * columns] for row in range(rows)],
        targets=list(record["targets"]),
        seeds=[int(seed) for seed in record["seeds"]],
        settings=dict(record["settings"]),
        seconds=float(record["seconds"]),
        slugs=list(record["slugs"]),
        terms=[terms[row * columns : (row + 1) * columns] for row in range(rows)],
    )


def _read_item(path: Path, digest: str, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """An item's tensors, checked against the record. Raises `OutputError` where they differ from it."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise OutputError(f"{path} is damaged or of another result: its SHA-256 is not the recorded one")
    tensors = load_safetensors(data)
    for name, shape in shapes.items():
        if list(tensors[name].shape) != list(shape):
            raise OutputError(f"{path}: {name} has shape {list(tensors[name].shape)}, not {shape}")
    return {name: tensors[name] for name in shapes}
