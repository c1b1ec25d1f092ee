"""One pass over a folder of photographs, through all wanted layers at once, in constant memory, resumable."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gen_prior.applications.photograph_counters import SAMPLE, UnitCounter, countable_layers
from gen_prior.applications.photographs import batches, image_paths, listing_sha256
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.errors import ImageError, UnknownNameError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.objectives.features import split_feature
from gen_prior.objectives.natural_statistics import DICTIONARIES_KEY, INPUT_KEY, NaturalStatistics, described_input
from gen_prior.util.progress import Progress, ProgressCallback

STATE = "state.safetensors"


class Counter(Protocol):
    """A consumer of the photographs of a pass, which keeps what it needs of them."""

    @property
    def layer_names(self) -> list[str]:
        """The layers to record."""
        ...

    def describe(self) -> list[Any]:
        """Return what the outcome depends on, as plain values."""
        ...

    def add(self, numbers: Sequence[int], activations: Activations, images: Tensor) -> None:
        """Take a batch: numbers of the photographs, their activations, and the photographs `[B, 3, H, W]`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what `restore` takes to go on later."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        ...


def run_pass(
    classifier: Classifier,
    folder: str | Path,
    counters: Mapping[str, Counter],
    *,
    state: Path | None = None,
    every: int = 200,
    batch: int = 8,
    on_bad: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> None:
    """Show every photograph under `folder` to the classifier once, and all layers that are wanted to the counters.

    Args:
        counters: by name, for the state.
        state: a folder; an interrupted pass over the same photographs with the same counters goes on from there. The
            state is written every `every` photographs, atomically.
        batch: photographs at a time. Of each, all activations of all wanted layers are in memory.
        on_bad: called with a message for each file that cannot be read; if None, such a file raises.
        progress: called after every batch with a `Progress` in photographs.

    Raises `ImageError`: no photographs, one that cannot be read, or, with `on_bad`, none that can.
    """
    paths = image_paths(folder)
    file = None if state is None else state / STATE
    key = _key(classifier, Path(folder), paths, counters)
    done = 0 if file is None else _restored(file, key, counters)
    saved, found = done, done > 0
    layers = {name: None for counter in counters.values() for name in counter.layer_names}
    with classifier.record_layers(layers) as hooks, torch.no_grad():
        for numbers, images in batches(classifier, paths, 1 if classifier.one_image else batch, on_bad, done):
            images = images.to(classifier.device)
            activations = hooks(classifier.preprocess(images))
            for counter in counters.values():
                counter.add(numbers, activations, images)
            done, found = numbers[-1] + 1, True
            if file is not None and done - saved >= every:
                tensors = {f"{name}/{part}": t for name, c in counters.items() for part, t in c.state().items()}
                save_safetensors(file, tensors, {"key": key, "done": str(done)})
                saved = done
            if progress is not None:
                progress(Progress(done, len(paths), "looking at photographs"))
    if not found:
        raise ImageError(f"none of the {len(paths)} image files under {folder} can be read")


def _key(classifier: Classifier, folder: Path, paths: Sequence[Path], counters: Mapping[str, Counter]) -> str:
    """Hash of everything that the outcome of a pass depends on."""
    seen = [classifier.describe(), described_input(classifier)]
    what = [*seen, listing_sha256(folder, paths), {name: c.describe() for name, c in counters.items()}]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _restored(file: Path, key: str, counters: Mapping[str, Counter]) -> int:
    """Restore the counters from `file`; returns the number of photographs done, 0 without a state of this `key`."""
    if not file.is_file() or (metadata := read_file_metadata(file)).get("key") != key:
        return 0
    tensors = read_tensors(file)
    for name, counter in counters.items():
        counter.restore({part: tensors[f"{name}/{part}"] for part in counter.state()})
    return int(metadata["done"])


def statistics_of_units(
    classifier: Classifier, folder: str | Path, layers: Iterable[str] | None = None, *, source: str = "", **options: Any
) -> NaturalStatistics:
    """Statistics of all units of `layers` (None: of all) over the photographs under `folder`, in one pass.

    A layer may be `LAYER/sae:SOURCE`, for the latents of a sparse autoencoder.
    `source`: where the photographs come from, for the metadata; `options` are those of `run_pass`. With `state`, the
    sample lies in that folder; else in a temporary one.
    """
    countable = countable_layers(classifier, classifier.main_layers() if layers is None else layers)
    with tempfile.TemporaryDirectory() as scratch:
        counter = UnitCounter(countable, Path(options.get("state") or scratch))
        run_pass(classifier, folder, {"units": counter}, **options)
        tables, lowest = counter.tables()
        del counter.sample
    table = statistics_table(classifier, Path(folder), tables, lowest, int(counter.count), source)
    hashes = {layer.name: dict(layer.dictionary.provenance.sha256) for layer in countable if layer.dictionary}
    table.metadata |= {DICTIONARIES_KEY: json.dumps(hashes)} if hashes else {}
    return table


def statistics_table(
    classifier: Classifier,
    folder: Path,
    tables: Mapping[str, Tensor],
    lowest: Mapping[str, Tensor],
    images: int,
    source: str = "",
) -> NaturalStatistics:
    """The tables of `UnitCounter.tables` after a pass over `images` photographs in `folder`, with its metadata."""
    metadata = {
        "classifier": classifier.name,
        "weights": json.dumps(classifier.provenance.sha256, sort_keys=True),
        INPUT_KEY: described_input(classifier),
        "source": source,
        "listing_sha256": listing_sha256(folder, image_paths(folder)),
        "images": str(images),
        "sample": str(SAMPLE),
    }
    return NaturalStatistics(tables, lowest, metadata)


def matching_layers(classifier: Classifier, patterns: Iterable[str]) -> list[str]:
    """The layers that match one of the shell-like `patterns`, and dictionaries, `PATTERN/sae:SOURCE`, after them.

    Raises `UnknownNameError` for a pattern without a match.
    """
    layers = classifier.main_layers()
    chosen: set[str] = set()
    dictionaries: dict[str, None] = {}
    for text in patterns:
        pattern, kind, source = split_feature(text)
        matches = fnmatch.filter(layers, pattern)
        if not matches:
            raise UnknownNameError("layer", pattern, layers, fix=classifier.how_to_list)
        if kind:
            dictionaries |= {f"{layer}/{kind}:{source}": None for layer in matches}
        else:
            chosen.update(matches)
    return [*(layer for layer in layers if layer in chosen), *dictionaries]
