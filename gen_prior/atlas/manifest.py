"""The manifest of an atlas: everything that its neurons are a function of, written once.

The SHA-256 of the manifest is the atlas's identity. Its neurons are made in shards: up to `shard_size` neurons of one
layer, which follow from the manifest alone, so that any process on any machine cuts the work in the same way.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from gen_prior.errors import OptionError, OutputError
from gen_prior.util.files import write_bytes
from gen_prior.util.reading import read_regular, reading

FORMAT = "gen-prior/atlas-1"
FILE = "manifest.json"
SHARD_SIZE = 64
MAX_BYTES, MOST_UNITS = 2**28, 2**22
"""Most bytes that are read of a manifest, and units of a layer."""
RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9})(?:\s*:\s*(\d{1,9}))?)?")


@dataclass(frozen=True)
class Shard:
    """A unit of work: neurons `units` of `layer`, made by one process with all generators and seeds."""

    index: int
    layer: str
    units: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its folder, and of its record without the ending."""
        return f"{self.index:05d}"

    @property
    def targets(self) -> list[str]:
        """The neurons, as `gen-prior synth` takes them."""
        return [f"{self.layer}:{unit}" for unit in self.units]


def as_json(value: Any) -> Any:
    """`value` as a JSON file gives it back: tuples are lists. Raises `ValueError` for numbers that are not finite."""
    return json.loads(json.dumps(value, allow_nan=False))


class Manifest:
    """The manifest of an atlas; `content` holds plain values, as `manifest.json` does."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content: dict[str, Any] = as_json(content)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the atlas in `folder`. Raises `OutputError` where there is none, or a damaged one."""
        with reading("atlas", folder):
            content = json.loads(read_regular(folder / FILE, limit=MAX_BYTES))
            if content.get("format") != FORMAT:
                raise OutputError(f"{folder / FILE} is not the manifest of an atlas of format {FORMAT}")
            manifest = cls(content)
            manifest.check()
        return manifest

    def check(self) -> None:
        """Raise `ValueError`, `LookupError` or `TypeError` for content that readers cannot rely on."""
        for layer in self.content["layers"]:
            if not isinstance(layer["name"], str) or not numbers(layer["chosen"]):
                raise ValueError("a layer without a name or units")
        if not self.content["seeds"] or int(self.content["shard_size"]) < 1:
            raise ValueError("no seeds, or shards of no neurons")
        self.content["classifier"]["name"], [one["name"] for one in self.content["generators"]]

    def write(self, folder: Path) -> None:
        """Write `manifest.json`. Raises `OutputError`."""
        text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_bytes(folder / FILE, text.encode())

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the content as JSON with sorted names and without blanks."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Manifest) -> list[str]:
        """Names of the fields in which the two differ, as `versions.torch`."""
        return list(_differences(self.content, other.content))

    @property
    def layers(self) -> list[str]:
        """The layers, in network order."""
        return [str(layer["name"]) for layer in self.content["layers"]]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(self._sizes)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self._firsts[-1]

    def shard(self, index: int) -> Shard:
        """Shard number `index`, from 0. Raises `OptionError` for one that does not exist."""
        if not 0 <= index < self.shards:
            raise OptionError(f"the atlas has shards 0 to {self.shards - 1}, got {index}")
        number = bisect_right(self._firsts, index) - 1
        layer, size = self.content["layers"][number], int(self.content["shard_size"])
        first = (index - self._firsts[number]) * size
        return Shard(index, layer["name"], numbers(layer["chosen"])[first : first + size])

    def neurons_of(self, index: int) -> int:
        """Number of neurons of a shard."""
        number, size = bisect_right(self._firsts, index) - 1, int(self.content["shard_size"])
        return min(size, self._sizes[number] - (index - self._firsts[number]) * size)

    def shard_of(self, layer: str, unit: int) -> int | None:
        """Index of the shard that holds a unit; None for one that the atlas does not hold."""
        if layer not in self.layers:
            return None
        number = self.layers.index(layer)
        chosen = numbers(self.content["layers"][number]["chosen"])
        return self._firsts[number] + chosen.index(unit) // self.content["shard_size"] if unit in chosen else None

    @cached_property
    def _sizes(self) -> list[int]:
        """Neurons of each layer."""
        return [len(numbers(layer["chosen"])) for layer in self.content["layers"]]

    @cached_property
    def _firsts(self) -> list[int]:
        """Index of the first shard of each layer, and the number of all."""
        size = int(self.content["shard_size"])
        return [0, *accumulate(-(-count // size) for count in self._sizes)]


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = ({str(number): item for number, item in enumerate(each)} for each in (one, other))
    if not (isinstance(one, dict) and isinstance(other, dict)):
        if one != other:
            yield name
        return
    for key in [*one, *(key for key in other if key not in one)]:
        yield from _differences(one.get(key), other.get(key), f"{name}.{key}" if name else key)


@lru_cache(maxsize=4)
def numbers(text: str) -> tuple[int, ...]:
    """The unit numbers of ranges such as `0-31`, `1,5,9` or `0-999:31` (every 31st), in order, each once.

    Raises `OptionError` for other text.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        first, last, step = (int(match[1]), int(match[2] or match[1]), int(match[3] or 1)) if match else (0, -1, 1)
        if last < first or step < 1:
            raise OptionError(
                f"units are ranges from a lower to a higher number, got {text!r}", fix="0-31, 1,5,9 or 0-999:31"
            )
        if (last - first) // step >= MOST_UNITS:
            raise OptionError(f"{text!r} names more than {MOST_UNITS} units")
        found.update(range(first, last + 1, step))
    return tuple(sorted(found))


def as_ranges(units: Sequence[int]) -> str:
    """Sorted unit numbers as the text that `numbers` reads."""
    parts: list[list[int]] = []
    for unit in units:
        if parts and unit == parts[-1][1] + 1:
            parts[-1][1] = unit
        else:
            parts.append([unit, unit])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
