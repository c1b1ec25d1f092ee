"""A trained prior as one file: decoder, code statistics and the record of how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.generators.dgn.blocks import CODE_SIDE
from gen_prior.generators.dgn.generator import FILE, FORMAT
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.training.base_trainer import Training
from gen_prior.training.networks import Encoder
from gen_prior.training.photograph_codes import principal_axes
from gen_prior.training.stages.decoder_trainer import Trainer
from gen_prior.training.stages.fine_code_trainer import DetailTrainer
from gen_prior.training.stages.larger_images_trainer import RefinerTrainer
from gen_prior.util.files import write_bytes

VARIANCE_KEPT = 0.99
NETWORKS_FILE, NETWORKS_FORMAT = "networks.safetensors", "gen-prior/training-networks-1"


def code_statistics(trainer: Trainer, photographs: int = 20_000, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Mean `[C, 4, 4]` and covariance `[C * 16, C * 16]` of the codes of training photographs and their mirrors."""
    count = min(photographs, len(trainer.training))
    chosen = trainer.training[torch.linspace(0, len(trainer.training) - 1, count).long()]
    total: Tensor | None = None
    moment: Tensor | None = None
    count = 0
    for start in range(0, len(chosen), batch):
        images = trainer.photographs.batch(chosen[start : start + batch])
        codes = torch.cat([trainer.encode(images), trainer.encode(images.flip(-1))])
        flat = codes.flatten(1).double().cpu()
        total = flat.sum(0) if total is None else total + flat.sum(0)
        moment = flat.T @ flat if moment is None else moment + flat.T @ flat
        count += len(flat)
    assert total is not None
    assert moment is not None
    mean = total / count
    covariance = moment / count - mean[:, None] * mean
    shape = (trainer.settings.code_channels, CODE_SIDE, CODE_SIDE)
    return mean.float().view(shape), covariance.float()


def principal_directions(covariance: Tensor, kept: float = VARIANCE_KEPT) -> Tensor:
    """Columns: the directions that hold `kept` of the variance, largest first, scaled by their deviations."""
    values, vectors = principal_axes(covariance.double())
    count = int((values.cumsum(0) / values.sum() < kept).sum()) + 1
    return (vectors[:, :count] * values[:count].sqrt()).float()


def save_networks(trainer: Trainer, path: Path) -> None:
    """Write the networks that another run can start from (`--start-from`), in float16."""
    metadata = {"format": NETWORKS_FORMAT, "settings": json.dumps(asdict(trainer.settings))}
    write_halved(path, trainer.network_tensors(), metadata)


def save_encoder(encoder: Encoder, out: Path) -> None:
    """Write the encoder alone into `out`, for what goes on from a prior whose codes keep their meaning."""
    tensors = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    write_halved(out / NETWORKS_FILE, tensors, {"format": NETWORKS_FORMAT})


def load_networks(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors in a file of `save_networks`, and its SHA-256. Raises `WeightsError` where it is none."""
    try:
        data = path.read_bytes()
        return load(data), hashlib.sha256(data).hexdigest()
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read: {error}", fix=f"pass the {NETWORKS_FILE} of another run's folder"
        ) from error


def export(trainer: Trainer, out: Path, *, name: str, classifier: dict[str, Any], extra: dict[str, str]) -> Path:
    """Write `generator.safetensors` into `out`: float16 weights, statistics, and every setting in the metadata."""
    mean, covariance = code_statistics(trainer)
    basis = principal_directions(covariance)
    whole = WhitenedDecoder(trainer.average_decoder(), mean, basis)
    metadata = {
        "format": FORMAT,
        "name": name,
        "config": json.dumps(whole.config.to_dict()),
        "training": json.dumps(record_of(trainer)),
        "data": json.dumps(asdict(trainer.photographs.description)),
        "classifier": json.dumps(classifier),
        "taps": json.dumps(list(trainer.taps)),
        "code": "gen_prior/training",
        **extra,
    }
    save_networks(trainer, out / NETWORKS_FILE)
    return save_generator(whole, metadata, out)


def export_refined(trainer: RefinerTrainer, out: Path, *, name: str, prior: dict[str, str]) -> Path:
    """The prior (whose metadata is `prior`) with its refiner as one file, `generator.safetensors` in `out`."""
    settings = trainer.settings
    whole = trainer.prior.with_parts(
        decoder=trainer.average_decoder(),
        refiner=trainer.averages["refiner"],
        coring=settings.coring,
        grain=settings.grain,
    )
    return save_generator(whole, went_on(trainer, prior, name, whole, "refining"), out)


def export_detailed(trainer: DetailTrainer, out: Path, *, name: str, prior: dict[str, str]) -> Path:
    """The prior (whose metadata is `prior`) with its details as one file, `generator.safetensors` in `out`."""
    space, settings = trainer.space, trainer.settings
    whole = WhitenedDecoder(
        trainer.average_decoder(),
        space.mean,
        space.basis,
        flow=space.flow,
        details=trainer.details,
        coring=settings.coring,
        grain=settings.grain,
    )
    return save_generator(whole, went_on(trainer, prior, name, whole, "detailing"), out)


def went_on(
    trainer: RefinerTrainer | DetailTrainer,
    prior: dict[str, str],
    name: str,
    network: WhitenedDecoder,
    run: str,
) -> dict[str, str]:
    """The metadata of a prior that `trainer` trained further to `network`."""
    number = next_number(prior, f"{run}_data")
    return prior | {
        "name": name,
        "config": json.dumps(network.config.to_dict()),
        f"{run}{number}": json.dumps(record_of(trainer)),
        f"{run}_data{number}": json.dumps(asdict(trainer.photographs.description)),
    }


def next_number(metadata: Mapping[str, str], record: str) -> str:
    """What to append to a record's name so that earlier ones stay: nothing to the first, "_2" to the second."""
    earlier = sum(key.startswith(record) for key in metadata)
    return f"_{earlier + 1}" if earlier else ""


def record_of(trainer: Training) -> dict[str, Any]:
    """All settings of a run, the steps it has done and the seconds they took."""
    return asdict(trainer.settings) | {"steps_done": trainer.step, "seconds": round(trainer.seconds)}


def save_generator(network: WhitenedDecoder, metadata: dict[str, str], out: Path) -> Path:
    """Write the network in float16 with its metadata; returns the file."""
    path = out / FILE
    write_halved(path, network.state_dict(), metadata)
    return path


def write_halved(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors in float16, whole numbers as they are, as a safetensors file."""
    halved = {
        key: (value.detach().half() if value.is_floating_point() else value).cpu().contiguous()
        for key, value in tensors.items()
    }
    write_bytes(path, save(halved, metadata))
