"""Prior files: read a trained prior for further training, and write what a stage has trained.

A prior's folder holds `generator.safetensors`, with a record of each stage in its metadata, and `networks.safetensors`,
with the encoder that later stages need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, OutputError, WeightsError
from gen_prior.generators.dgn.generator import FILE, read_network
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.hub.strict_loading import build_on_meta, load_strictly
from gen_prior.hub.tensors import file_sha256, save_safetensors
from gen_prior.training.networks import Encoder, FeatureExtractor
from gen_prior.util.reading import BAD_FILE, read_regular

NETWORKS_FILE, NETWORKS_FORMAT = "networks.safetensors", "gen-prior/training-networks-1"


MAX_BYTES = 2**34
"""Most bytes that are read of `networks.safetensors`."""


class Prior(NamedTuple):
    """The content of a prior's folder; with a classifier also the encoder, and the features that it reads."""

    folder: Path
    network: WhitenedDecoder
    metadata: dict[str, str]
    sha256: str
    extractor: FeatureExtractor | None
    encoder: Encoder | None


def open_prior(folder: Path, classifier: Classifier | None) -> Prior:
    """Read the prior in `folder`, which was trained on `classifier`; without one, its encoder is not read.

    Raises `WeightsError` if there is none or it is damaged, `OptionError` if it was trained on another classifier.
    """
    path = folder / FILE
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"no {FILE} in {folder}", fix="pass the folder that gen-prior train-prior wrote") from error
    network, metadata = read_network(path, str(path))
    if classifier is None:
        return Prior(folder, network, metadata, digest, None, None)
    extractor = FeatureExtractor(classifier, network.config.size)
    return Prior(folder, network, metadata, digest, extractor, _read_encoder(folder / NETWORKS_FILE, extractor))


def _read_encoder(path: Path, extractor: FeatureExtractor) -> Encoder:
    """The encoder in the file `path`; checks that its inputs are the features of `extractor`."""
    own = part_of(load_networks(path)[0], "encoder")
    try:
        channels = [len(own[f"scales.{depth}"]) for depth in range(3)]
        code_channels = len(own["exit.weight"]) // 2
    except (KeyError, TypeError) as error:  # the latter of a tensor without dimensions
        raise WeightsError(
            f"{path} holds no encoder", fix=f"pass a folder with the {NETWORKS_FILE} of a run"
        ) from error
    # Without memory at first: a tensor of no numbers may state any length.
    encoder = build_on_meta(lambda: Encoder(channels, code_channels), str(path))
    assert isinstance(encoder, Encoder)
    load_strictly(encoder, own, str(path))
    if extractor.channels != channels:
        raise OptionError(
            f"the prior in {path.parent} was not trained on {extractor.classifier.name}",
            fix="pass --classifier with that one",
        )
    return encoder


def load_networks(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of a `networks.safetensors`, and its SHA-256. Raises `WeightsError` if it cannot be read."""
    try:
        data = read_regular(path, limit=MAX_BYTES)
        return load(data), hashlib.sha256(data).hexdigest()
    except BAD_FILE as error:
        raise WeightsError(
            f"{path} cannot be read: {error}", fix=f"pass the {NETWORKS_FILE} of another run's folder"
        ) from error


def part_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of one network, by their keys in it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def save_networks(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write the networks that further training can start from, in float16."""
    _write_half(path, tensors, {"format": NETWORKS_FORMAT, **metadata})


def pass_encoder_on(prior: Path, out: Path) -> None:
    """Write the encoder in the folder `prior`, if there is one, into `out`: codes keep their meaning."""
    if (prior / NETWORKS_FILE).is_file():
        tensors, _ = load_networks(prior / NETWORKS_FILE)
        save_networks(out / NETWORKS_FILE, {key: tensors[key] for key in tensors if key.startswith("encoder.")})


def save_generator(network: WhitenedDecoder, metadata: Mapping[str, str], out: Path) -> Path:
    """Write the network in float16 and its metadata, named after the folder `out`; return the file."""
    path = out / FILE
    own = {"name": out.resolve().name, "config": json.dumps(network.config.to_dict())}
    _write_half(path, network.state_dict(), {**metadata, **own})
    return path


def next_number(metadata: Mapping[str, str], record: str) -> str:
    """Suffix of a record's name that keeps earlier records: nothing for the first, "_2" for the second."""
    earlier = sum(key.startswith(record) for key in metadata)
    return f"_{earlier + 1}" if earlier else ""


def _write_half(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file: floating-point tensors in float16, others as they are."""
    halved = {
        key: (value.detach().half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in tensors.items()
    }
    try:
        save_safetensors(path, halved, metadata)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", fix="free some space") from error
