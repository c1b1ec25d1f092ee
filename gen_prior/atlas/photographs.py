"""One pass over the photographs of an atlas: statistics of all its units, and the photographs at their extremes.

    photographs/natural.safetensors     statistics of the units, a `NaturalStatistics`
    photographs/exemplars/00012.json    {target: {"most": [...], "least": [...], "active"}} of the neurons of shard 12
    photographs/patches/                what the units saw of these photographs
    photographs/pass.json               written last: the atlas and the listing that the others are of

The folder is local: it shows photographs of others, and where they lie on this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.applications.exemplars import Exemplar
from gen_prior.applications.fields import Fields
from gen_prior.applications.photograph_counters import MOST, UnitCounter, countable_layers
from gen_prior.applications.photograph_pass import run_pass, statistics_table
from gen_prior.applications.photographs import as_seen, image_paths, listing_sha256
from gen_prior.applications.unit_exemplars import UnitExemplars
from gen_prior.atlas.manifest import Manifest, Shard, numbers
from gen_prior.atlas.shards import webp
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import Labels, imagenet
from gen_prior.errors import GenPriorError, ImageError
from gen_prior.hub.tensors import file_sha256
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import only_writer
from gen_prior.util.image_io import read_image
from gen_prior.util.progress import ProgressCallback
from gen_prior.util.reading import read_regular, reading

FOLDER, DONE, SOURCE = "photographs", "pass.json", "source.json"
EXEMPLARS = 16
"""Photographs kept for each unit, of the most exciting and of the least exciting ones."""
PATCHES = 8
"""Patches are written for so many of these photographs, the first ones."""
PATCHES_AT_ONCE = 100_000
"""Patches that are gathered before photographs are read again for them, so that memory does not grow with units."""
BATCH = 8
MAX_BYTES = 2**28
Patches = dict[int, dict[str, Target]]
"""{number of a photograph: {file of a patch: the target at the position that sees it}}."""
WORDNET_ID = re.compile(r"n\d{8}")


def describe_images(folder: str | Path) -> dict[str, Any]:
    """Number and hashes of the photographs under `folder`, for the manifest. Reads all of them.

    Raises `ImageError` where there is none.
    """
    paths, folder = image_paths(folder), Path(folder)
    lines = [f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n" for path in paths]
    content = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    return {"count": len(paths), "listing_sha256": listing_sha256(folder, paths), "content_sha256": content}


@dataclass(frozen=True)
class PhotographPass:
    """The pass over the photographs of the atlas in `folder`."""

    folder: Path
    manifest: Manifest

    @property
    def root(self) -> Path:
        """The folder of its files."""
        return self.folder / FOLDER

    @property
    def table(self) -> Path:
        """The statistics of the units, a file that `NaturalStatistics.load` reads."""
        return self.root / "natural.safetensors"

    @property
    def is_done(self) -> bool:
        """True if the whole pass is on the disk."""
        try:
            return bool(json.loads(read_regular(self.root / DONE, limit=MAX_BYTES))["atlas"] == self.manifest.identity)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def source(self) -> Path:
        """The folder of the photographs. Raises `ImageError` if it is not there, or holds others."""
        with reading("folder of photographs", self.folder):
            folder = Path(json.loads(read_regular(self.root / SOURCE, limit=MAX_BYTES))["folder"])
        self.check_source(folder)
        return folder

    def check_source(self, folder: Path) -> None:
        """Raise `ImageError` unless `folder` holds the photographs of the manifest, by names and sizes."""
        if listing_sha256(folder, image_paths(folder)) != self.manifest.content["images"]["listing_sha256"]:
            raise ImageError(
                f"{folder} does not hold the photographs of the atlas", fix="name their folder by --images"
            )

    def set_source(self, folder: Path) -> None:
        """Remember where the photographs are. Raises as `check_source`."""
        self.check_source(folder)
        write_json(self.root / SOURCE, {"folder": str(folder.resolve())})

    def run(
        self,
        classifier: Classifier,
        *,
        on_bad: Callable[[str], None] | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Make the pass, or go on with it, unless it is done.

        Raises `InUseError` while another process makes it, `ImageError` for photographs that cannot be read.
        """
        if self.is_done:
            return
        folder = self.source()
        with only_writer(self.root):
            if self.is_done:
                return
            state = self.root / "state"
            state.mkdir(exist_ok=True)
            layers = countable_layers(classifier, self.manifest.layers)
            units = [numbers(layer["chosen"]) for layer in self.manifest.content["layers"]]
            counter = UnitCounter(layers, state)
            best = UnitExemplars(list(zip(layers, units, strict=True)), EXEMPLARS)
            run_pass(
                classifier, folder, {"units": counter, "best": best}, state=state, batch=BATCH,
                on_bad=on_bad, progress=progress,
            )  # fmt: skip
            tables, lowest = counter.tables()
            with as_output_errors(self.table):
                statistics_table(classifier, folder, tables, lowest, int(counter.count)).save(self.table)
            del counter.sample
            self._write(classifier, folder, best, int(counter.count))
            write_json(self.root / DONE, {"atlas": self.manifest.identity, "images": int(counter.count)})
            shutil.rmtree(state, ignore_errors=True)

    def _write(self, classifier: Classifier, folder: Path, best: UnitExemplars, images: int) -> None:
        """Write the exemplars of each shard, and their patches."""
        paths, fields, row = image_paths(folder), Fields(classifier), 0
        wanted: Patches = {}
        for index in range(self.manifest.shards):
            found: dict[str, Any] = {}
            for text in self.manifest.shard(index).targets:
                target = parse_target(text, classifier)
                found[text] = {
                    name: [
                        self._described(entry, target, fields, folder, wanted if rank < PATCHES else None)
                        for rank, entry in enumerate(_entries(best, kind, row, paths))
                    ]
                    for kind, name in enumerate(("most", "least"))
                } | {"active": float(best.active[row]) / images}
                row += 1
            write_json(self.exemplar_file(index), found)
            if sum(map(len, wanted.values())) > PATCHES_AT_ONCE or index == self.manifest.shards - 1:
                self._write_patches(classifier, paths, fields, wanted)
                wanted.clear()

    def _write_patches(self, classifier: Classifier, paths: Sequence[Path], fields: Fields, wanted: Patches) -> None:
        """Cut patches out of their photographs, each of which is read once."""
        with as_output_errors(self.root):
            for number, patches in sorted(wanted.items()):
                image = as_seen(classifier, read_image(paths[number]))
                for name, target in patches.items():
                    path = self.folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(webp(fields.effective(target).crop(image)))

    def _described(
        self, entry: tuple[int, Path, float, int], target: Target, fields: Fields, folder: Path, wanted: Patches | None
    ) -> dict[str, Any]:
        """An exemplar for JSON; its patch, if any, is added to `wanted`."""
        number, path, value, flat = entry
        placed, sides = placed_at(target, flat, fields), fields.classifier.layout(target.layer).sides
        position = placed.position if isinstance(placed.position, tuple) else (flat,)
        patch = None
        if wanted is not None:
            layer = self.manifest.layers.index(target.layer)
            patch = f"{FOLDER}/patches/{layer:03d}/{number}-{flat if sides else 'whole'}.webp"
            wanted.setdefault(number, {})[patch] = placed
        return {
            "file": path.relative_to(folder).as_posix(),
            "activation": value,
            "position": list(position) if sides else None,
            "label": label_of(path, folder, fields.classifier.labels),
            "patch": patch,
        }

    def exemplar_file(self, index: int) -> Path:
        """The exemplars of the neurons of a shard."""
        return self.root / "exemplars" / f"{index:05d}.json"

    def exemplars(self, shard: Shard) -> dict[str, Any]:
        """{target: {"most", "least", "active"}} of a shard. Raises `OutputError` for a damaged or missing file."""
        with reading("photographs", self.folder):
            found: dict[str, Any] = json.loads(read_regular(self.exemplar_file(shard.index), limit=MAX_BYTES))
            if list(found) != shard.targets:
                raise ValueError(f"{self.exemplar_file(shard.index)} is of other neurons")
        return found


def placed_at(target: Target, flat: int, fields: Fields) -> Target:
    """A unit of a feature map at the flat position where a photograph excites it; other units as they are."""
    return fields.placed(target, flat) or target if isinstance(target.position, tuple) else target


def loaded_exemplars(entries: Sequence[dict[str, Any]], target: Target, fields: Fields, folder: Path) -> list[Exemplar]:
    """The exemplars of `target` with their images, from what a pass wrote of them. Raises `ImageError`."""
    loaded = []
    for entry in entries:
        position, path = entry["position"], folder / entry["file"]
        is_map = isinstance(target.position, tuple) and position is not None
        placed = replace(target, position=tuple(position)) if is_map else target
        image: Tensor = as_seen(fields.classifier, read_image(path))
        loaded.append(
            Exemplar(path, entry["activation"], image, fields.receptive(placed), fields.effective(placed), position)
        )
    return loaded


def _entries(best: UnitExemplars, kind: int, row: int, paths: Sequence[Path]) -> Iterator[tuple[int, Path, float, int]]:
    """(number, path, activation, flat position) of the photographs of a unit, the most extreme first."""
    for value, number, flat in zip(
        best.values[kind, row].tolist(),
        best.numbers[kind, row].tolist(),
        best.positions[kind, row].tolist(),
        strict=True,
    ):
        if number >= 0 and value > -MOST:
            yield number, paths[number], -value if kind else value, flat


def label_of(path: Path, folder: Path, labels: Labels | None) -> str | None:
    """The class of a photograph: by the WordNet id in its name, or its folder's name if that is a class; else None."""
    texts = [*WORDNET_ID.findall(path.name), *path.relative_to(folder).parts[:-1][-1:]]
    for known in filter(None, (labels, imagenet())):
        for text in texts:
            with contextlib.suppress(GenPriorError):  # an unknown name, or an ambiguous one
                return known[known.index(text)]
    return None
