"""How strongly photographs excite each unit: a table for a network, looked up by target.

`gen-prior natural` makes a table from a folder of photographs; those of the embedded classifiers are installed with
the package. A synthesised image is compared with photographs by the share of them that it exceeds (its quantile), and
by its activation divided by that of the best of them (its ratio).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.objectives.features import Feature, split_feature
from gen_prior.objectives.targets import Target
from gen_prior.util.files import is_file
from gen_prior.util.reading import reading_weights

FORMAT = "gen-prior/natural-statistics-1"
LEVELS = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
"""Quantiles over photographs that a table holds; the first and the last are the minimum and the maximum."""
KINDS = ("centre", "anywhere", "mean")
"""Ways to read a photograph's activation: at the layer's centre, the highest at any position, the mean of all."""
DICTIONARIES_KEY = "dictionaries"
"""Metadata key: {`LAYER/sae:SOURCE`: {file: SHA-256}} of the tables of latents, as JSON."""
INPUT_KEY = "input"
"""Metadata key: what `described_input` describes, as JSON; absent in tables of early versions."""
ATTACHED = "_natural_statistics"
"""Attribute of a classifier that holds the table attached to it."""
EMBEDDED = {
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": (
        "natural-efficientnet-lite0.safetensors",
        "cd0b224d06d33c960b4e69480dce68d645f09f798539c6cea987fc323ec8a0cb",
    ),
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850": (
        "natural-efficientnet-lite1.safetensors",
        "b09827189abff053320161b9771e2c86aaba96321347caf054aaf1a850024ee1",
    ),
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": (
        "natural-efficientnet-lite2.safetensors",
        "6c216c55a7d5aaadde735d8f3ff810698240956c5d4ea62f4c879210ce7c0f33",
    ),
}
"""SHA-256 of a classifier's weights -> installed table of it, and that table's SHA-256."""


def ratio_to(best: float | None, activation: float | None) -> float | None:
    """`activation` divided by the best photograph's; None where one of them is not known, or `best` is not positive."""
    return activation / best if best is not None and best > 0 and activation is not None else None


@dataclass(frozen=True)
class PhotographActivations:
    """One unit's activations over photographs.

    Attributes:
        quantiles: at `LEVELS`, of each photograph's highest activation at any position, or its mean over positions.
        images: the number of photographs.
    """

    quantiles: tuple[float, ...]
    images: int

    @property
    def best(self) -> float:
        """The highest of any photograph."""
        return self.quantiles[-1]

    def quantile(self, activation: float) -> float:
        """Share of photographs below `activation`, in [0, 1], linear between `LEVELS`."""
        if activation >= self.quantiles[-1]:
            return 1.0
        for low, high, below, above in zip(self.quantiles, self.quantiles[1:], LEVELS, LEVELS[1:], strict=False):
            if low <= activation < high:
                return below + (above - below) * (activation - low) / (high - low)
        return 0.0

    def ratio(self, activation: float) -> float | None:
        """`activation` divided by the best photograph's; None where no photograph excites the unit at all."""
        return ratio_to(self.best, activation)

    @property
    def is_dead(self) -> bool:
        """True for a latent, or a rectified unit, that no photograph activates anywhere."""
        return self.quantiles[0] >= 0 and self.best <= 0

    @property
    def is_dense(self) -> bool:
        """True for a latent, or a rectified unit, that at least half of the photographs activate where it is read."""
        return self.quantiles[0] >= 0 and self.quantiles[LEVELS.index(0.5)] > 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> PhotographActivations | None:
        """Return what `to_dict` described; None for None, as a target without a table has it."""
        return None if values is None else cls(tuple(values["quantiles"]), values["images"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"quantiles": list(self.quantiles), "levels": list(LEVELS), "best": self.best, "images": self.images}


class NaturalStatistics:
    """Quantiles of each unit's activation over photographs.

    Attributes:
        tables: {layer: `[KINDS, LEVELS, units]`}; also of latents, as `LAYER/sae:SOURCE`.
        lowest: {layer: `[units]`}, the lowest activation at any position of any photograph.
        metadata: where the photographs came from, their number, the classifier and its weights.
    """

    def __init__(self, tables: Mapping[str, Tensor], lowest: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        self.tables, self.lowest, self.metadata = dict(tables), dict(lowest), dict(metadata)

    def attach(self, classifier: Classifier) -> None:
        """Compare all results of `classifier` with this table from now on.

        Raises `OptionError` where the table was made at another input size, mean or std, which would change every
        ratio; a table that does not record them is taken as it is.
        """
        here = json.loads(described_input(classifier))
        for name, then in json.loads(self.metadata.get(INPUT_KEY, "{}")).items():
            if name in here and here[name] != then:
                raise OptionError(
                    f"the table of natural statistics was made at {name} {_short(then)}, and {classifier.name} has "
                    f"{name} {_short(here[name])}",
                    fix="give both the same --input-size, --mean and --std, or make the table again: gen-prior natural",
                )
        classifier.__dict__[ATTACHED] = self

    def of(self, target: Target, kind: str | None = None) -> PhotographActivations | None:
        """Return the activations of photographs at `target`; None for a layer that the table does not hold.

        `kind`: one of `KINDS`; if None, "mean" for a target that is a mean, else "anywhere".
        """
        layer = target.layer if target.feature is None else self._table_of(target.layer, target.feature)
        if layer not in self.tables:
            return None
        kind = kind or ("mean" if target.position == "mean" else "anywhere")
        quantiles = self.tables[layer][KINDS.index(kind), :, target.unit]
        return PhotographActivations(tuple(quantiles.float().tolist()), int(self.metadata["images"]))

    def _table_of(self, layer: str, feature: Feature) -> str | None:
        """The table of the dictionary with the same files at the same layer, wherever these lie; None without one."""
        known: dict[str, Mapping[str, str]] = json.loads(self.metadata.get(DICTIONARIES_KEY, "{}"))
        hashes = dict(feature.origin.get("sha256", {}))
        same = (name for name, theirs in known.items() if split_feature(name)[0] == layer and theirs == hashes)
        return next(same, None) if hashes else None

    def activity(self, layer: str) -> tuple[int, int] | None:
        """Count units or latents that no photograph activates anywhere, and those that half do at the layer's centre.

        None for values that may be negative, of which "active" says nothing.
        """
        if (self.lowest[layer] < 0).any():
            return None
        centre, anywhere = (self.tables[layer][KINDS.index(kind)].float() for kind in ("centre", "anywhere"))
        return int((anywhere[-1] <= 0).sum()), int((centre[LEVELS.index(0.5)] > 0).sum())

    def save(self, path: Path) -> None:
        """Write the table as safetensors; equal tensors of different layers are stored once. Raises `OSError`."""
        stored: dict[str, Tensor] = {}
        names: dict[str, str] = {}
        for layer in self.tables:
            for kind, whole in (("quantiles", self.tables[layer]), ("lowest", self.lowest[layer])):
                small = whole.half() if whole.abs().max() < torch.finfo(torch.half).max else whole.float()
                same = (name for name, other in stored.items() if torch.equal(other, small))
                names[f"{kind}/{layer}"] = name = next(same, f"{kind}/{layer}")
                stored[name] = small.contiguous()
        save_safetensors(path, stored, {**self.metadata, "format": FORMAT, "stored": json.dumps(names)})

    @classmethod
    def load(cls, path: str | Path) -> NaturalStatistics:
        """Read a table that `gen-prior natural` made. Raises `WeightsError` for another or a damaged file."""
        path = Path(path)
        if not is_file(path):
            raise WeightsError(f"no such table of natural statistics: {path}", fix="make it: gen-prior natural")
        with reading_weights(path):
            return cls._from(read_tensors(path), read_file_metadata(path), str(path))

    @classmethod
    def _from(cls, stored: Mapping[str, Tensor], metadata: Mapping[str, str], source: str) -> NaturalStatistics:
        if metadata.get("format") != FORMAT:
            raise WeightsError(f"{source} is no table of natural statistics", fix="make one: gen-prior natural")
        names = json.loads(metadata["stored"]).items()
        parts = {
            kind: {name.removeprefix(f"{kind}/"): stored[same] for name, same in names if name.startswith(f"{kind}/")}
            for kind in ("quantiles", "lowest")
        }
        for layer, table in parts["quantiles"].items():
            if table.shape[:2] != (len(KINDS), len(LEVELS)) or parts["lowest"][layer].shape != table.shape[2:]:
                raise ValueError(f"the table of {layer} has shape {list(table.shape)}")
        if not 0 < int(metadata["images"]) < 2**63:
            raise ValueError(f"{metadata['images']} images")
        for name, values in dict(json.loads(metadata.get(INPUT_KEY, "{}"))).items():
            if not (isinstance(values, list) and all(isinstance(value, int | float) for value in values)):
                raise ValueError(f"{name} of the input is {values!r}")
        rest = {key: value for key, value in metadata.items() if key not in ("format", "stored")}
        return cls(parts["quantiles"], parts["lowest"], rest)


def described_input(classifier: Classifier) -> str:
    """How `classifier` sees an image, as JSON: input size (height, width) in pixels, mean and std of each channel."""
    return json.dumps({"input size": list(classifier.input_size), **classifier.normalisation})


def _short(numbers: list[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


def natural_statistics(classifier: Classifier) -> NaturalStatistics | None:
    """The table for `classifier`: one that was attached to it, or the installed one of an embedded classifier.

    Found by the hash of the weights, so a network that was trained further has none.
    """
    if ATTACHED in classifier.__dict__:
        attached: NaturalStatistics = classifier.__dict__[ATTACHED]
        return attached
    found = [EMBEDDED[digest] for digest in classifier.provenance.sha256.values() if digest in EMBEDDED]
    return _embedded(*found[0]) if found else None


@cache
def _embedded(file: str, sha256: str) -> NaturalStatistics:
    data = resources.files("gen_prior.weights").joinpath(file).read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise WeightsError(f"the installed {file} has SHA-256 {digest}, expected {sha256}", fix="reinstall gen-prior")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return NaturalStatistics._from(load(data), header["__metadata__"], file)
