"""The record of a result on disk: `result.json` and one file of tensors for each finished item."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_safetensors
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.objectives.natural_statistics import PhotographActivations
from gen_prior.optimise.loop import BatchResult
from gen_prior.optimise.resolve import ResolvedObjective, item_names, unique_slugs
from gen_prior.util.files import write_bytes, write_files
from gen_prior.util.image_io import png_bytes

RECORD = "result.json"
FORMAT = "gen-prior/result-1"
UNFINISHED = "not finished"


class Record:
    """The content of `result.json` while a result is being made: every item, finished or not."""

    def __init__(
        self,
        targets: list[dict[str, Any]],
        slugs: list[str],
        seeds: list[int],
        settings: dict[str, Any],
        steps: int,
        image_shape: list[int],
        code_shape: list[int],
    ) -> None:
        self.targets, self.slugs, self.seeds, self.settings = targets, slugs, seeds, settings
        self.steps, self.image_shape, self.code_shape = steps, image_shape, code_shape
        self.seconds = 0.0
        self.pairs = [(t, s) for t in range(len(targets)) for s in range(len(seeds))]
        self.items: list[dict[str, Any]] = [
            {"target": t, "seed": seeds[s], "status": UNFINISHED} for t, s in self.pairs
        ]

    def finish(self, index: int, tensors: dict[str, Tensor], status: str, terms: list[float]) -> dict[Path, bytes]:
        """Mark item `index` as finished; return its files: the PNG, and the exact tensors as safetensors."""
        t, s = self.pairs[index]
        name = item_names([self.slugs[t]], [self.seeds[s]])[0]
        data = save_safetensors({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        self.items[index] |= {
            "status": status,
            "activation": finite(tensors["activation"]),
            "start_activation": finite(tensors["start_activation"]),
            **beside_photographs(tensors["activation"], self.targets[t]),
            "image": f"{name}.png",
            "data": f"{name}.safetensors",
            "sha256": hashlib.sha256(data).hexdigest(),
        } | ({"terms": [finite(value) for value in terms]} if terms else {})
        return {Path(f"{name}.png"): png_bytes(tensors["image"]), Path(f"{name}.safetensors"): data}

    def write(self, folder: Path, files: dict[Path, bytes]) -> None:
        """Write the files of finished items (names relative to `folder`), then `result.json`."""
        write_files({folder / name: data for name, data in files.items()} | {folder / RECORD: self._bytes()})

    def _bytes(self) -> bytes:
        whole = {
            "format": FORMAT,
            "targets": self.targets,
            "slugs": self.slugs,
            "seeds": self.seeds,
            "steps": self.steps,
            "image_shape": self.image_shape,
            "code_shape": self.code_shape,
            "items": self.items,
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
        }
        return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


class ResultFolder:
    """Writes a result while it is being made: after each batch its items, and the record of all finished ones.

    Raises `OutputError` for a folder that cannot be written to and `OptionError` for settings that JSON cannot hold,
    both before the optimisation starts.
    """

    def __init__(
        self, out: str | Path, resolved: Sequence[ResolvedObjective], seeds: list[int], settings: dict[str, Any]
    ) -> None:
        self.folder = Path(out)
        self.resolved, self.seeds, self.settings = resolved, seeds, settings
        self._record: Record | None = None
        try:
            json.dumps(settings, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"a result's settings must be plain finite values: {first_line(error)}") from error
        probe = self.folder / ".gen-prior-probe"
        write_bytes(probe, b"")
        probe.unlink()

    def write(self, first: int, result: BatchResult, *, seconds: float, batches: list[int]) -> None:
        """Write the items of a finished batch, of which item `first` is the first, and the record."""
        if self._record is None:
            targets, slugs = [one.to_dict() for one in self.resolved], unique_slugs(self.resolved)
            steps, shapes = result.history.shape[1], (list(result.images.shape[1:]), list(result.codes.shape[1:]))
            self._record = Record(targets, slugs, self.seeds, self.settings, steps, *shapes)
        files: dict[Path, bytes] = {}
        for index, (status, terms) in enumerate(zip(result.status, result.terms, strict=True)):
            tensors = {
                "image": result.images[index],
                "code": result.codes[index],
                "activation": result.activations[index],
                "start_activation": result.start_activations[index],
                "history": result.history[index],
            }
            files |= self._record.finish(first + index, tensors, status, terms)
        self._record.seconds += seconds
        self._record.settings = self.settings | {"batches": list(batches)}
        self._record.write(self.folder, files)


def beside_photographs(activation: Tensor | float, target: dict[str, Any]) -> dict[str, float | None]:
    """An activation's quantile among photographs and its ratio to the best; empty for a target without a table."""
    known = PhotographActivations.from_dict(target.get("photographs"))
    value = finite(activation)
    if known is None or value is None:
        return {}
    return {"photograph_quantile": known.quantile(value), "photograph_ratio": known.ratio(value)}


def finite(value: Tensor | float) -> float | None:
    """The value as a float for JSON, or None if it is not finite."""
    number = float(value)
    return number if abs(number) < float("inf") else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return kind if not lines else f"{kind}: {lines[0]}" if isinstance(error, LookupError) else lines[0]
