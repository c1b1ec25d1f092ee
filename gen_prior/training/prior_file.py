"""Prior files: read a trained prior for further training, and write what a stage has trained.

A prior's folder holds `generator.safetensors`, with a record of each stage in its metadata, and `networks.safetensors`,
with the encoder that later stages need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.generator import FILE, read_network
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.hub.tensors import file_sha256
from gen_prior.training.base_trainer import BaseTrainer
from gen_prior.training.networks import Encoder, FeatureExtractor, choose_hook_layers
from gen_prior.util.files import write_bytes

NETWORKS_FILE, NETWORKS_FORMAT = "networks.safetensors", "gen-prior/training-networks-1"


class Prior(NamedTuple):
    """The content of a prior's folder, and the feature extractor that its encoder reads."""

    network: WhitenedDecoder
    metadata: dict[str, str]
    sha256: str
    extractor: FeatureExtractor
    encoder: Encoder


def open_prior(folder: Path, classifier: Classifier) -> Prior:
    """Read the prior in `folder`, which was trained on `classifier`.

    Raises `WeightsError` if there is none or it is damaged, `OptionError` if it was trained on another classifier.
    """
    path = folder / FILE
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"no {FILE} in {folder}", fix="pass the folder that gen-prior train-prior wrote") from error
    network, metadata = read_network(path, str(path))
    size = network.config.size
    extractor = FeatureExtractor(classifier, choose_hook_layers(classifier, size))
    encoder = _read_encoder(folder / NETWORKS_FILE, extractor, size)
    return Prior(network, metadata, digest, extractor, encoder)


def _read_encoder(path: Path, extractor: FeatureExtractor, size: int) -> Encoder:
    """The encoder in the file `path`; checks that its inputs are the features of `extractor`."""
    tensors, _ = load_networks(path)
    own = part_of(tensors, "encoder")
    try:
        channels = [len(own[f"scales.{depth}"]) for depth in range(3)]
        encoder = Encoder(channels, len(own["exit.weight"]) // 2)
    except KeyError as error:
        raise WeightsError(
            f"{path} holds no encoder", fix=f"pass a folder with the {NETWORKS_FILE} of a run"
        ) from error
    load_strictly(encoder, own, str(path))
    classifier = extractor.classifier
    features = extractor(torch.zeros(1, 3, size, size, device=classifier.device))
    if [feature.shape[1] for feature in features] != channels:
        raise OptionError(
            f"the prior in {path.parent} was not trained on {classifier.name}", fix="pass --classifier with that one"
        )
    return encoder


def load_networks(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of a `networks.safetensors`, and its SHA-256. Raises `WeightsError` if it cannot be read."""
    try:
        data = path.read_bytes()
        return load(data), hashlib.sha256(data).hexdigest()
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read: {error}", fix=f"pass the {NETWORKS_FILE} of another run's folder"
        ) from error


def part_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of one network, by their keys in it."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def save_networks(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write the networks that further training can start from, in float16."""
    _write_half(path, tensors, {"format": NETWORKS_FORMAT, **metadata})


def save_encoder(encoder: Encoder, out: Path) -> None:
    """Write the encoder alone, which a stage has not changed, into `out`."""
    save_networks(out / NETWORKS_FILE, {f"encoder.{key}": value for key, value in encoder.state_dict().items()})


def save_generator(network: WhitenedDecoder, metadata: Mapping[str, str], out: Path) -> Path:
    """Write the network in float16 and its metadata, named after the folder `out`; return the file."""
    path = out / FILE
    own = {"name": out.resolve().name, "config": json.dumps(network.config.to_dict())}
    _write_half(path, network.state_dict(), {**metadata, **own})
    return path


def run_record(trainer: BaseTrainer) -> str:
    """JSON of all settings of a run, the steps done and the seconds they took."""
    return json.dumps(asdict(trainer.settings) | {"steps_done": trainer.step, "seconds": round(trainer.seconds)})


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
    write_bytes(path, save(halved, metadata))
