"""A trained prior as further training takes it up: its network, its encoder, and the trunk that the encoder reads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.config import NetworkConfig
from gen_prior.generators.dgn.generator import FILE, read_network
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.hub.strict_loading import load_strictly
from gen_prior.hub.tensors import file_sha256
from gen_prior.training.export import NETWORKS_FILE, load_networks
from gen_prior.training.networks import Encoder, Trunk, choose_taps


class Prior(NamedTuple):
    """What the folder of a training here holds."""

    network: WhitenedDecoder
    config: NetworkConfig
    metadata: dict[str, str]
    sha256: str
    trunk: Trunk
    encoder: Encoder


def open_prior(folder: Path, classifier: Classifier, *, detailed: bool = False) -> Prior:
    """The prior in `folder`, which was trained on `classifier`; with details only where `detailed` allows them.

    Raises `WeightsError` where there is none or it is damaged, `OptionError` where it is another classifier's.
    """
    path = folder / FILE
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"no {FILE} in {folder}", fix="pass the folder that gen-prior train-prior wrote") from error
    network, metadata = read_network(path, str(path))
    config = network.config
    if not detailed:
        refuse_details(config, folder)
    trunk = Trunk(classifier.network, choose_taps(classifier.network, config.size, len(classifier.mean)))
    return Prior(network, config, metadata, digest, trunk, _encoder(folder / NETWORKS_FILE, classifier, trunk, config))


def refuse_details(config: NetworkConfig, folder: Path) -> None:
    """Raises `OptionError` where a prior has details: what they were fitted to has to stay as it is."""
    if config.details:
        raise OptionError(
            f"the prior in {folder} has details already",
            fix="pass the prior that they were added to, or go on with detail-prior or refine-prior",
        )


def _encoder(path: Path, classifier: Classifier, trunk: Trunk, config: NetworkConfig) -> Encoder:
    """The encoder in the file `path`, which must read what `trunk` gives."""
    tensors, _ = load_networks(path)
    own = {key.removeprefix("encoder."): value for key, value in tensors.items() if key.startswith("encoder.")}
    try:
        channels = [len(own[f"scales.{depth}"]) for depth in range(3)]
        encoder = Encoder(channels, len(own["exit.weight"]) // 2)
    except KeyError as error:
        raise WeightsError(
            f"{path} holds no encoder", fix=f"pass a folder with the {NETWORKS_FILE} of a run"
        ) from error
    load_strictly(encoder, own, str(path))
    sample = trunk(classifier.normalise(torch.rand(1, 3, config.size, config.size, device=classifier.device)))
    if [feature.shape[1] for feature in sample] != channels:
        raise OptionError(
            f"the prior in {path.parent} was not trained on {classifier.name}", fix="pass --classifier with that one"
        )
    return encoder
