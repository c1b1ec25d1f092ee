"""Consistency models (Song et al. 2023, arXiv 2303.01469): noise and class embedding -> RGB image in one U-Net pass.

Loads repositories of diffusers' ConsistencyModelPipeline (the registry states the licence of known ones). The code is
flat: noise `[3 S S]` and perhaps a class embedding. The gradient flows through the single step; the default recipe is
that of ReNO (Eyring et al. 2024, arXiv 2406.04312), whose penalty keeps the norm of the noise typical.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.diffusers.network import read_network, require_diffusers
from gen_prior.generators.shared.checks import check_generates, class_index
from gen_prior.generators.shared.code_parts import reno_recipe
from gen_prior.hub import registry
from gen_prior.hub.files import Files

OPTIMISE = ("noise", "both")
SCHEDULER = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}


class OneStep(nn.Module):
    """Code `[B, N]`, standard normal noise and perhaps a class embedding -> RGB `[B, 3, S, S]`, nominally in [-1, 1].

    One step from the largest noise level with the boundary conditions c_skip and c_out of Song et al. 2023, eq. 5.
    `held`: the class embedding if it is not part of the code; empty for models without classes.
    """

    def __init__(
        self, unet: Any, shape: tuple[int, int, int], held: Tensor | None, scheduler: dict[str, float]
    ) -> None:
        super().__init__()
        self.unet = unet
        self.shape = shape
        self.held = nn.Buffer(held) if held is not None else None
        largest, smallest, data = scheduler["sigma_max"], scheduler["sigma_min"], scheduler["sigma_data"]
        self.largest = largest
        self.scale = 1 / math.hypot(largest, data)
        self.time = 250 * math.log(largest)
        self.skip = data**2 / ((largest - smallest) ** 2 + data**2)
        self.out = (largest - smallest) * data * self.scale

    def forward(self, code: Tensor) -> Tensor:
        count = math.prod(self.shape)
        noise = self.largest * code[:, :count].reshape(-1, *self.shape)
        embedding = code[:, count:] if self.held is None else self.held.expand(len(code), -1)
        time = torch.tensor(self.time, device=code.device)
        drawn = self.unet(noise * self.scale, time, class_labels=embedding if embedding.shape[1] else None).sample
        image: Tensor = self.out * drawn + self.skip * noise
        return image


def load(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load `consistency:WHERE`, the repository `org/name[@revision]`; `options` as of `from_files`."""
    return from_files(Files.from_hub(where, revision=revision), name=f"consistency:{where}", **options)


def from_files(
    files: Files, *, name: str, class_label: int | str | None = None, optimise: str | None = None
) -> Generator:
    """The generator in `unet/` and `scheduler/` of `files`.

    Args:
        class_label: number or ImageNet name of the class to fix or to start from.
        optimise: "noise" (the class is fixed; default with a `class_label` and for models without classes) or "both"
            (the class embedding is part of the code; default otherwise).

    Raises:
        OptionError: options that this model does not have. WeightsError, DownloadError, MissingExtraError.
    """
    require_diffusers()
    with files.loading():
        config = files.json("unet/config.json")
        if config.get("_class_name") != "UNet2DModel":
            raise WeightsError(
                f"{files.source}/unet/config.json names the class {config.get('_class_name')!r}, not UNet2DModel"
            )
        scheduler = read_scheduler(files)
        unet = read_network(files, "UNet2DModel", config, "unet/")
        side, channels = unet.config.sample_size, (unet.config.in_channels, unet.config.out_channels)
        if not isinstance(side, int) or not 8 <= side <= 1024 or channels != (3, 3):
            raise WeightsError(f"{files.source}/unet/config.json describes no RGB image of a known size")
        table = take_class_table(unet, files.source)
        network = OneStep(unet, (3, side, side), torch.zeros(0), scheduler)
        return check_generates(
            _assemble(network, table, files, name, class_label, optimise), files.source, size=(side, side)
        )


def _parse_options(
    table: Tensor | None, name: str, class_label: int | str | None, optimise: str | None
) -> tuple[int | None, str]:
    """Class number and `optimise`, with defaults. Raises `OptionError` for options that do not fit the classes."""
    classes = 0 if table is None else len(table)
    default = "noise" if class_label is not None or table is None else "both"
    optimise = default if optimise is None else optimise
    if optimise not in OPTIMISE:
        raise OptionError(f"optimise must be one of {', '.join(OPTIMISE)}, got {optimise!r}")
    if table is None and (class_label is not None or optimise == "both"):
        raise OptionError(f"{name} has no classes", fix="leave class_label and optimise out")
    if table is not None and optimise == "noise" and class_label is None:
        raise OptionError("optimise='noise' fixes the class, so it needs one", fix="pass class_label=...")
    return None if class_label is None else class_index(class_label, classes), optimise


def _assemble(
    network: OneStep,
    table: Tensor | None,
    files: Files,
    name: str,
    class_label: int | str | None,
    optimise: str | None,
) -> Generator:
    label, optimise = _parse_options(table, name, class_label, optimise)
    dims = math.prod(network.shape)
    mean, std = torch.zeros(dims), torch.ones(dims)
    if table is not None and optimise == "noise" and label is not None:
        network.held = nn.Buffer(table[label])
    elif table is not None:
        network.held = None
        mean, std = torch.cat([mean, table.mean(0)]), torch.cat([std, table.std(0, unbiased=False).clamp_min(1e-6)])

    def start(rng: torch.Generator) -> Tensor:
        noise = torch.randn(dims, generator=rng)
        if table is None or optimise == "noise":
            return noise
        near = mean[dims:] + 0.1 * std[dims:] * torch.randn(table.shape[1], generator=rng)
        return torch.cat([noise, table[label] if label is not None else near])

    entry = registry.find_by_source(files.source)
    return Generator(
        network,
        mean.shape,
        code_mean=mean,
        code_std=std,
        name=name,
        recipe=reno_recipe(dims),
        start=start,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.CONSISTENCY_PAPER),
        options={"class_label": label, "optimise": optimise},
    )


def read_scheduler(files: Files) -> dict[str, float]:
    """Noise levels in `scheduler/scheduler_config.json`. Raises `WeightsError` for another scheduler's."""
    config = files.json("scheduler/scheduler_config.json")
    try:
        levels = {key: float(config.get(key, default)) for key, default in SCHEDULER.items()}
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{files.source}/scheduler/scheduler_config.json: {error}") from error
    name = config.get("_class_name", "CMStochasticIterativeScheduler")
    if (
        name != "CMStochasticIterativeScheduler"
        or not 0 < levels["sigma_min"] < levels["sigma_max"]
        or levels["sigma_data"] <= 0
    ):
        raise WeightsError(
            f"{files.source}/scheduler/scheduler_config.json is not a consistency model's: {name} {levels}"
        )
    return levels


def take_class_table(unet: Any, source: str) -> Tensor | None:
    """The class embeddings `[K, E]`, removed from the network, which then takes embeddings in place of labels."""
    if unet.class_embedding is None:
        return None
    if not isinstance(unet.class_embedding, nn.Embedding):
        raise WeightsError(f"{source}: classes of type {unet.config.class_embed_type!r} are not supported")
    table = unet.class_embedding.weight.detach()
    unet.class_embedding = nn.Identity()
    return table


__all__ = ["OneStep", "from_files", "load"]
