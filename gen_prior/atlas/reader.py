"""`load_atlas`: the rows, pictures and state of an atlas, shard by shard, whatever its size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from gen_prior.atlas.manifest import Manifest
from gen_prior.atlas.records import Records
from gen_prior.atlas.shards import read_rows
from gen_prior.errors import OptionError, OutputError, TargetError, UnknownNameError
from gen_prior.util.image_io import read_picture
from gen_prior.util.reading import open_regular, reading
from gen_prior.util.words import counted


class Atlas:
    """An atlas in a folder, finished or not; made by `make_atlas` and `load_atlas`.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.records = Records(self.folder, Manifest.read(self.folder))
        self._shard: tuple[int, dict[str, dict[str, Any]]] = (-1, {})

    @property
    def manifest(self) -> dict[str, Any]:
        """Classifier, layers, generators and settings of the atlas, plain values as in `manifest.json`."""
        return self.records.manifest.content

    def __repr__(self) -> str:
        name, neurons = self.manifest["classifier"]["name"], self.records.manifest.neurons
        return f"Atlas({str(self.folder)!r}: {counted(neurons, 'neuron')} of {name})"

    def neurons(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of all neurons of finished shards, in order; one shard at a time is in memory.

        Raises `OutputError` for a damaged shard.
        """
        for _, rows in self.shards():
            yield from rows

    def shards(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield (index, rows) of all finished shards, in order. Raises `OutputError` for a damaged one."""
        for index in sorted(self.records.indices("records")):
            record = self.records.read(index)
            if record is not None:
                yield index, read_rows(self.records, index, record)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a flat row for each neuron, generator and seed: names, activation, and what is measured of them.

        One shard at a time is in memory. Raises `OutputError` for a damaged one.
        """
        for index, neurons in self.shards():
            with reading("atlas", self.folder):
                flat = [row for neuron in neurons for row in flat_rows(neuron, f"shards/{index:05d}")]
            yield from flat

    def table(self) -> list[dict[str, Any]]:
        """Return all `rows`."""
        return list(self.rows())

    def __getitem__(self, target: str) -> dict[str, Any]:
        """Return the row of a neuron, `LAYER:UNIT`.

        Raises `TargetError` for a unit that the atlas does not hold, `OutputError` for one that is not made yet.
        """
        layer, _, unit = target.rpartition(":")
        manifest = self.records.manifest
        if layer not in manifest.layers:
            raise UnknownNameError("layer of the atlas", layer, manifest.layers, fix="name a unit as LAYER:UNIT")
        index = manifest.shard_of(layer, int(unit)) if unit.isdecimal() and len(unit) < 10 else None
        if index is None:
            chosen = next(one["chosen"] for one in self.manifest["layers"] if one["name"] == layer)
            raise TargetError(f"the atlas has units {chosen} of {layer}, got {unit!r}")
        if self._shard[0] != index:
            record = self.records.read(index)
            if record is None:
                raise OutputError(f"{target} is not made yet", fix="run the command that makes the atlas")
            with reading("atlas", self.folder):
                rows = read_rows(self.records, index, record)
                self._shard = index, {row["target"]: row for row in rows}
        with reading("atlas", self.folder):
            return dict(self._shard[1][f"{layer}:{int(unit)}"])

    def image(
        self, target: str, method: str | None = None, seed: int | None = None, *, in_place: bool = False
    ) -> Image.Image:
        """Return a picture of a neuron; the best seed of the first generator unless another is named.

        `in_place`: True for the picture at its place in the classifier's input. Raises as `__getitem__`, and
        `OptionError` for a generator or seed that the atlas does not have.
        """
        with reading("atlas", self.folder):
            return self._image(target, self[target], method, seed, in_place)

    def _image(
        self, target: str, row: dict[str, Any], method: str | None, seed: int | None, in_place: bool
    ) -> Image.Image:
        if not row.get("methods"):
            raise OutputError(f"{target} has no pictures: {row.get('error')}")
        found = {one["generator"]: one for one in row["methods"]}
        if method is not None and method not in found:
            raise UnknownNameError("generator of the atlas", method, found)
        chosen = found[method] if method is not None else row["methods"][0]
        if seed is not None and seed not in chosen["seeds"]:
            raise OptionError(f"the atlas has seeds {chosen['seeds']}, got {seed}")
        number = chosen["seeds"].index(seed) if seed is not None else best_seed(chosen)
        names = chosen["in_place"] if in_place and chosen["in_place"] else chosen["images"]
        folder = self.records.shard_folder(self._shard[0])
        try:
            with open_regular(folder / names[number], within=folder) as file:
                return read_picture(file, names[number])
        except OSError as error:
            raise OutputError(f"{folder / names[number]} cannot be read: {error.strerror or error}") from error

    def status(self) -> dict[str, Any]:
        """Return how far the atlas is: neurons and shards, finished and failed, and the reasons of failures."""
        records, manifest = self.records, self.records.manifest
        done = {index for index in records.indices("records") if records.is_done(index)}
        begun = records.begun() - done
        failed = []
        for index in sorted(records.indices("failed") - done):
            failure, shard = records.failure(index), manifest.shard(index)
            if failure is not None:
                place = {"shard": index, "layer": shard.layer, "units": f"{shard.units[0]}-{shard.units[-1]}"}
                failed.append(place | failure | {"set_aside": records.is_set_aside(index)})
        finished = sum(map(manifest.neurons_of, done)) + sum(map(records.finished_neurons, begun))
        return {
            "neurons": manifest.neurons,
            "finished": finished,
            "shards": manifest.shards,
            "shards_finished": len(done),
            "shards_begun": len(begun),
            "failed": failed,
        }

    def verify(self) -> list[str]:
        """Compare every file with its recorded SHA-256; forget damaged shards, so that they are made again.

        Returns the names of their folders.
        """
        records, damaged = self.records, []
        for index in sorted(records.indices("records")):
            if not records.is_done(index, hashes=True):
                records.forget(index)
                damaged.append(f"shards/{index:05d}")
        return damaged

    def retry_failed(self) -> int:
        """Let shards that were set aside be tried again by the next run. Returns their number."""
        return self.records.retry()


def load_atlas(folder: str | Path) -> Atlas:
    """Load the atlas in `folder`, finished or not: its rows, pictures and state.

    Raises `OutputError` where there is none, or a damaged one.
    """
    return Atlas(folder)


def best_seed(method: dict[str, Any]) -> int:
    """Number of the seed with the highest activation."""
    values = method["activations"]
    return max(range(len(values)), key=lambda s: (values[s] is not None, values[s] or 0.0))


def flat_rows(neuron: dict[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    """A flat row for each generator and seed of a neuron of the shard in `folder`; one without for one that failed."""
    photographs = neuron["photographs"] or {}
    shared = {name: neuron[name] for name in ("target", "layer", "unit", "name")}
    shared |= {f"photographs_{name}": photographs.get(name) for name in ("best", "median", "active", "dead", "dense")}
    if not neuron.get("methods"):
        yield shared | {"error": neuron.get("error")}
    for method in neuron.get("methods", []):
        names = ("generator", "evaluations", "quantile", "ratio", "path", "two_alternatives")
        row = shared | {name: method[name] for name in names}
        row |= {"judge_top1": (method["judge"] or {}).get("top1"), "judge_label": (method["judge"] or {}).get("label")}
        row |= {"least_activation": (method["least"] or {}).get("activation"), "error": None}
        for number, seed in enumerate(method["seeds"]):
            yield row | {
                "seed": seed,
                "activation": method["activations"][number],
                "status": method["status"][number],
                "image": f"{folder}/{method['images'][number]}",
            }
