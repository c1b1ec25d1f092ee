"""Text-to-image models of one step (SD-Turbo, SDXL-Turbo): noise latents and prompt embedding -> RGB image.

Loads repositories of diffusers' StableDiffusionPipeline and StableDiffusionXLPipeline whose scheduler is Euler's. The
gradient flows through the single step, as in ReNO (Eyring et al. 2024, arXiv 2406.04312), whose recipe is the default;
the prompt may be held, optimised from a text, or left free. Text encoders are dropped once the prompt is encoded.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.diffusers.autoencoder import FAMILIES, Autoencoder, latent_decoder, pinned
from gen_prior.generators.diffusers.network import read_network, require_diffusers
from gen_prior.generators.diffusers.prompt import Prompt, encode_prompt
from gen_prior.generators.shared.checks import check_generates, image_side, whole_number
from gen_prior.generators.shared.code_parts import Part, noise_and_embedding, reno_recipe
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.util.files import is_folder

PIPELINES = {"StableDiffusionPipeline": False, "StableDiffusionXLPipeline": True}
"""Class of a pipeline -> whether it has two text encoders and conditions on the image's size (SDXL)."""
TAESD = {"StableDiffusionPipeline": "madebyollin/taesd", "StableDiffusionXLPipeline": "madebyollin/taesdxl"}
"""Class of a pipeline -> small decoder of its latents."""
DECODERS = ("full", "redraw")
SCHEDULERS = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
OPTIMISE = {"both": "both", "noise": "noise", "prompt": "class"}
CHECKED_SIDE = 8
"""Side, in positions, of the latent that the networks have to draw before they are accepted."""


class Scheduler(NamedTuple):
    """The largest noise level, its time, and whether the network predicts the velocity (else the noise)."""

    sigma: float
    time: float
    velocity: bool


class OneStep(nn.Module):
    """Noise `[B, C, h, w]` and prompt embedding `[B, E]` -> latents `[B, C, h, w]` for images of `side` pixels."""

    def __init__(self, unet: Any, scheduler: Scheduler, prompt: Prompt, side: int) -> None:
        super().__init__()
        self.unet = unet
        self.tokens = prompt.tokens.shape
        self.sized = prompt.pooled is not None
        self.sigma, self.velocity = scheduler.sigma, scheduler.velocity
        self.time = nn.Buffer(torch.tensor(scheduler.time))
        # SDXL is told the size of the image, the corner of its crop, and the size again.
        self.sizes = nn.Buffer(torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32))

    def forward(self, noise: Tensor, embedding: Tensor) -> Tensor:
        tokens = embedding[:, : self.tokens.numel()].reshape(-1, *self.tokens)
        condition = None
        if self.sized:
            pooled = embedding[:, self.tokens.numel() :]
            condition = {"text_embeds": pooled, "time_ids": self.sizes.expand(len(noise), -1)}
        sigma, latent, scale = self.sigma, self.sigma * noise, math.hypot(self.sigma, 1)
        drawn = self.unet(latent / scale, self.time, encoder_hidden_states=tokens, added_cond_kwargs=condition).sample
        clean: Tensor = latent / scale**2 - sigma / scale * drawn if self.velocity else latent - sigma * drawn
        return clean


def load(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load `one-step:WHERE`, a repository `org/name[@revision]` or a folder; `options` as of `from_files`."""
    folder = revision is None and is_folder(Path(where).expanduser())
    files = Files.from_folder(where) if folder else Files.from_hub(where, revision=revision)
    return from_files(files, name=f"one-step:{where}", **options)


def from_files(
    files: Files,
    *,
    name: str,
    prompt: str | None = None,
    optimise: str | None = None,
    noise_seed: int = 0,
    image_size: int | None = None,
    variant: str | None = None,
    decoder: str = "full",
    taesd: str | None = None,
) -> Generator:
    """The generator in a repository or folder of diffusers' pipeline format.

    Args:
        prompt: text to start from, or to hold; if None, the start is near the empty prompt.
        optimise: "noise" (the prompt is held; default with a `prompt`), "both" (default without) or "prompt" (the
            noise is held, drawn from `noise_seed`).
        image_size: side of the image in pixels; that of the model if None.
        variant: "fp16" to download weights of half precision, which are computed with in float32.
        decoder: "full", or "redraw" to optimise through TAESD, a small decoder of the same latents, and draw results
            with the full one.
        taesd: repository `org/name[@revision]` of that decoder; that of the pipeline's latents if None.

    Raises:
        OptionError: an option out of range. WeightsError, DownloadError, MissingExtraError.
    """
    require_diffusers()
    chosen = _check_options(prompt, optimise, noise_seed, variant)
    if decoder not in DECODERS:
        raise OptionError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
    with files.loading():
        pipeline = str(files.json("model_index.json").get("_class_name"))
        if pipeline not in PIPELINES:
            raise WeightsError(
                f"{files.source}/model_index.json names the pipeline {pipeline!r}",
                fix=f"use a repository of {' or '.join(PIPELINES)}",
            )
        scheduler = _read_scheduler(files)
        unet = _read(files, "unet", "UNet2DConditionModel", variant)
        vae = _read(files, "vae", "AutoencoderKL", variant)
        factor = FAMILIES["AutoencoderKL"].factor(vae.config)
        size = unet.config.sample_size
        side = (size * factor if isinstance(size, int) else 512) if image_size is None else image_size
        image_side(side, least=CHECKED_SIDE * factor, multiple=CHECKED_SIDE * factor)
        encoded = encode_prompt(files, prompt or "", PIPELINES[pipeline], variant)
        network = OneStep(unet, scheduler, encoded, side)
    shape, full = (int(vae.config.latent_channels), side // factor, side // factor), _decoder(vae)
    # Outside of the block above: a decoder that fails is no reason to delete the pipeline's download.
    small = latent_decoder(taesd or TAESD[pipeline], shape, side, TAESD[pipeline]) if decoder == "redraw" else None
    generator = _assemble(
        network, full, small, encoded, files, name, (prompt, chosen, noise_seed, side, variant), shape
    )
    with files.loading():
        code, checked = torch.randn(shape[0], CHECKED_SIDE, CHECKED_SIDE), CHECKED_SIDE * factor
        draw = partial(_draw, network, full, encoded.flat())
        return check_generates(generator, files.source, code=code, draw=draw, size=(checked, checked))


def _decoder(vae: Any) -> nn.Module:
    return Autoencoder(vae, FAMILIES["AutoencoderKL"], quantise=False)


def _draw(network: OneStep, decoder: nn.Module, embedding: Tensor, noise: Tensor) -> Tensor:
    image: Tensor = decoder(network(noise, embedding[None]))
    return image


def _check_options(prompt: Any, optimise: Any, noise_seed: Any, variant: Any) -> str:
    """The value of `optimise`. Raises `OptionError`."""
    whole_number("noise_seed", noise_seed, least=0, most=2**63 - 1)
    if prompt is not None and not isinstance(prompt, str):
        raise OptionError(f"prompt must be text, got {prompt!r}")
    if variant not in (None, "fp16"):
        raise OptionError(f"variant must be 'fp16' or left out, got {variant!r}")
    chosen = ("both" if prompt is None else "noise") if optimise is None else optimise
    if chosen not in OPTIMISE:
        raise OptionError(f"optimise must be one of {', '.join(OPTIMISE)}, got {optimise!r}")
    return str(chosen)


def is_one_step(files: Files, pipeline: dict[str, Any]) -> bool:
    """Return whether a `model_index.json` is of a pipeline that draws in one step, by its scheduler."""
    file = "scheduler/scheduler_config.json"
    if pipeline.get("_class_name") not in PIPELINES or files.find(file) is None:
        return False
    config = files.json(file)
    return config.get("_class_name") in SCHEDULERS and config.get("timestep_spacing") == "trailing"


def _read_scheduler(files: Files) -> Scheduler:
    """The one step of Euler's method from the largest noise. Raises `WeightsError` for another scheduler."""
    file = "scheduler/scheduler_config.json"
    config = files.json(file)
    name, predicts = str(config.get("_class_name")), config.get("prediction_type", "epsilon")
    schedule, spacing = config.get("beta_schedule", "linear"), config.get("timestep_spacing", "linspace")
    known = name in SCHEDULERS and predicts in ("epsilon", "v_prediction") and schedule in ("linear", "scaled_linear")
    if not known or spacing != "trailing" or config.get("rescale_betas_zero_snr"):
        raise WeightsError(
            f"{files.source}/{file} names {name!r} with prediction_type {predicts!r}, beta_schedule {schedule!r} and "
            f"timestep_spacing {spacing!r}",
            fix=f"use a model of one step with {' or '.join(SCHEDULERS)} and trailing steps, as stabilityai/sd-turbo",
        )
    steps = whole_number("num_train_timesteps", config.get("num_train_timesteps", 1000), least=2, most=10_000)
    power = 0.5 if schedule == "scaled_linear" else 1.0
    start, end = (
        float(config.get(key, default)) ** power for key, default in (("beta_start", 1e-4), ("beta_end", 0.02))
    )
    kept = float((1 - torch.linspace(start, end, steps) ** (1 / power)).prod())
    return Scheduler(math.sqrt((1 - kept) / kept), float(steps - 1), predicts == "v_prediction")


def _read(files: Files, folder: str, class_name: str, variant: str | None) -> Any:
    return read_network(files, class_name, files.json(f"{folder}/config.json"), f"{folder}/", variant)


def _assemble(
    network: OneStep,
    full: nn.Module,
    small: Generator | None,
    prompt: Prompt,
    files: Files,
    name: str,
    chosen: tuple[Any, ...],
    shape: tuple[int, ...],
) -> Generator:
    """The generator that climbs through the decoder `small`, if there is one, and draws results with `full`."""
    text, optimise, noise_seed, side, variant = chosen
    mean = prompt.flat()
    limit, one = torch.full_like(mean, torch.inf), torch.ones_like(mean)

    def draw(rng: torch.Generator) -> Tensor:
        return torch.zeros_like(mean) if text is not None else 0.1 * torch.randn(len(mean), generator=rng)

    embedding = Part(draw, torch.zeros_like(mean), one, -limit, limit)
    drawn, code = noise_and_embedding(network, shape, mean, prompt.spread(), embedding, OPTIMISE[optimise], noise_seed)
    entry = registry.find_by_source(files.source)
    whole, module = nn.Sequential(drawn, full), small.module if small is not None else None
    return Generator(
        nn.Sequential(drawn, module) if isinstance(module, nn.Module) else whole,
        code.mean.shape,
        name=name,
        recipe=reno_recipe(0 if optimise == "prompt" else math.prod(shape)),
        redraw=whole if small is not None else None,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.TURBO_PAPER),
        options={"prompt": text, "optimise": optimise, "image_size": side, "variant": variant}
        | ({"decoder": "redraw", "taesd": pinned(small)} if small is not None else {})
        | ({"noise_seed": noise_seed} if optimise == "prompt" else {}),
        **code.prior(),
    )


__all__ = ["OneStep", "from_files", "is_one_step", "load"]
