"""The record of a result on disk: `result.json` and one file of tensors for each finished item."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_safetensors
from torch import Tensor

from gen_prior.errors import OptionError
from gen_prior.objectives.natural_statistics import PhotographActivations
from gen_prior.optimise.batch import BatchResult
from gen_prior.optimise.replay_checks import is_own
from gen_prior.optimise.resolve import ResolvedObjective, item_names, unique_slugs
from gen_prior.optimise.saved_run import check_saved
from gen_prior.optimise.stored_result import (
    FORMAT,
    RECORD,
    UNFINISHED,
    clear_result,
    finite,
    is_whole,
    read_record,
)
from gen_prior.util.files import write_stream
from gen_prior.util.folders import OTHER_RUN_FIX, check_kind
from gen_prior.util.image_io import png_bytes
from gen_prior.util.reading import first_line
from gen_prior.util.words import changed_settings, others


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

    def files_of(self, index: int) -> list[str]:
        """Names of the files of item `index`: the PNG, and the exact tensors as safetensors."""
        t, s = self.pairs[index]
        name = item_names([self.slugs[t]], [self.seeds[s]])[0]
        return [f"{name}.png", f"{name}.safetensors"]

    def finish(self, index: int, tensors: dict[str, Tensor], status: str, terms: list[float]) -> list[bytes]:
        """Mark item `index` as finished; return the content of its files."""
        t, (picture, exact) = self.pairs[index][0], self.files_of(index)
        data = save_safetensors({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        self.items[index] |= {
            "status": status,
            "activation": finite(tensors["activation"]),
            "start_activation": finite(tensors["start_activation"]),
            **relative_to_photographs(tensors["activation"], self.targets[t]),
            "image": picture,
            "data": exact,
            "sha256": hashlib.sha256(data).hexdigest(),
        } | ({"terms": [finite(value) for value in terms]} if terms else {})
        return [png_bytes(tensors["image"]), data]

    def write(
        self, folder: Path, items: Sequence[int], contents: Iterable[list[bytes]], *, replace: bool = False
    ) -> None:
        """Write the files of some items, whose `contents` `finish` returned, one item at a time; then `result.json`.

        With `replace`, the run that is there is deleted once all new files are on the disk.
        """

        def parts() -> Iterator[bytes]:
            for files in contents:
                yield from files
            yield self._bytes()  # last: it tells what is finished

        paths = [folder / name for index in items for name in self.files_of(index)]
        write_stream(
            [*paths, folder / RECORD], parts(), before_rename=(lambda: clear_result(folder)) if replace else None
        )

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

    A folder that holds a part of the same run is continued: its first `finished` items, made in `batches`, are whole.
    With `anew`, all items of that run are made again.

    Raises `OutputError` for a folder that cannot be written to or whose record is damaged, `OptionError` for settings
    that JSON cannot hold and for a folder that holds another run, all before the optimisation starts.
    """

    def __init__(
        self,
        out: str | Path,
        resolved: Sequence[ResolvedObjective],
        seeds: list[int],
        settings: dict[str, Any],
        *,
        overwrite: bool = False,
        anew: bool = False,
    ) -> None:
        self.folder = Path(out)
        self.targets, self.slugs = [one.to_dict() for one in resolved], unique_slugs(resolved)
        self.seeds, self.settings = seeds, settings
        self.batches: list[int] = []
        self._record: Record | None = None
        try:
            json.dumps(settings, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"a result's settings must be plain finite values: {first_line(error)}") from error
        self._replace = overwrite
        check_kind(self.folder, RECORD, overwrite=overwrite)
        if not overwrite and (self.folder / RECORD).exists():
            self._continue(read_record(self.folder))
        if anew:
            self.batches, self._record, self._replace = [], None, True

    @property
    def finished(self) -> int:
        """Number of items that are on disk, the first ones."""
        return sum(self.batches)

    def _continue(self, found: dict[str, Any]) -> None:
        """Take over the whole batches of a record. Raises `OptionError` unless it is of this run."""
        now = json.loads(json.dumps({"targets": self.targets, "seeds": self.seeds} | self.settings))
        earlier = {"normalisation": now.get("normalisation")}  # not recorded at first
        before = earlier | {"targets": found["targets"], "seeds": found["seeds"]} | found["settings"]
        custom = any(now["custom"].values()) or now["started_from"] != "seeds" or any(map(is_own, now["targets"]))
        changed = changed_settings(before, now)
        if changed or custom:
            what = f"a run with {others(changed)}" if changed else "a run"
            also = "" if changed else ", and functions of your own or given codes cannot be compared with it"
            raise OptionError(f"{self.folder} holds {what}{also}", fix=OTHER_RUN_FIX)
        record = Record(
            self.targets, self.slugs, self.seeds, self.settings,
            found["steps"], found["image_shape"], found["code_shape"],
        )  # fmt: skip
        for size in found["settings"]["batches"]:
            done = self.finished
            if not all(is_whole(self.folder, item) for item in found["items"][done : done + size]):
                break
            record.items[done : done + size] = found["items"][done : done + size]
            self.batches.append(size)
        record.seconds = found["seconds"]
        self._record = record

    def write(self, result: BatchResult, *, seconds: float) -> None:
        """Write the items of the next batch, and the record."""
        if self._record is None:
            steps, shapes = result.history.shape[1], (list(result.images.shape[1:]), list(result.codes.shape[1:]))
            self._record = Record(self.targets, self.slugs, self.seeds, self.settings, steps, *shapes)
        contents, done = list[list[bytes]](), self.finished
        for index, (status, terms) in enumerate(zip(result.status, result.terms, strict=True)):
            tensors = {
                "image": result.images[index],
                "code": result.codes[index],
                "activation": result.activations[index],
                "start_activation": result.start_activations[index],
                "history": result.history[index],
            }
            contents.append(self._record.finish(done + index, tensors, status, terms))
        self.batches.append(len(result.status))
        self._record.seconds += seconds
        self._record.settings = self.settings | {"batches": list(self.batches)}
        self._record.write(self.folder, range(done, self.finished), contents, replace=self._replace)
        self._replace = False


def check_saved_result(folder: Path, record: Record, activations: Tensor, *, overwrite: bool) -> None:
    """Raise `OptionError` unless `folder` holds no run, a part of that of `record`, or one that may be overwritten.

    `activations`: `[T, S]`. They tell apart runs with functions of your own, which the settings only count.
    """
    settings = {name: value for name, value in record.settings.items() if name != "batches"}
    run = {"targets": record.targets, "seeds": record.seeds} | settings
    if not check_saved(folder, RECORD, run, overwrite=overwrite) or overwrite:
        return
    for item, activation in zip(read_record(folder)["items"], activations.flatten(), strict=True):
        if item["status"] != UNFINISHED and item["activation"] != finite(activation):
            raise OptionError(f"{folder} holds a run with other activations", fix=OTHER_RUN_FIX)


def relative_to_photographs(activation: Tensor | float, target: dict[str, Any]) -> dict[str, float | None]:
    """An activation's quantile among photographs and its ratio to the best; empty for a target without a table."""
    known = PhotographActivations.from_dict(target.get("photographs"))
    value = finite(activation)
    if known is None or value is None:
        return {}
    return {"photograph_quantile": known.quantile(value), "photograph_ratio": known.ratio(value)}


__all__ = ["FORMAT", "RECORD", "UNFINISHED", "Record", "ResultFolder", "finite"]
