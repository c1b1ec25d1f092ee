"""BigGAN-deep: noise and class embedding -> RGB image (Brock et al. 2019, arXiv 1809.11096).

Takes checkpoints in the published PyTorch format. The class embedding is part of the code and may leave the known
classes, which is the point of BigGAN-AM (Li et al. 2020, arXiv 1910.04760).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.generators.biggan.format import Config, prepare, published_shapes, read_config
from gen_prior.generators.biggan.network import BigGAN, Held
from gen_prior.generators.checks import check_generates, class_index, fraction, whole_number
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen, pop_float
from gen_prior.hub.tensors import read_shapes, read_tensors
from gen_prior.recipe import Recipe

NOISE_LIMIT = 2.0
OPTIMISE = ("both", "noise", "class")
RECIPE = Recipe(
    steps=200,
    rate=0.1,
    final_rate=0.01,
    score="log_probability",
    domain="code",
    source="after BigGAN-AM, Li et al. 2020, arXiv 1910.04760: Adam at 0.1, embedding within the known classes' range",
)


def load(name: str, *, revision: str | None = None, **options: Any) -> Generator:
    """The generator `name` ("biggan-deep-128", ...) from the Hub, on the CPU. Options as of `assemble`."""
    entry = registry.find(name)
    files = Files.from_hub(entry.repo or "", revision=revision or entry.revision, sha256=entry.sha256)
    return from_files(files, name=name, **options)


def from_files(files: Files, *, name: str, **options: Any) -> Generator:
    """The generator in a repository or folder of this format: `config.json` and the weights."""
    with files.loading():
        config = read_config(files.json("config.json"), f"{files.source}/config.json")
        path = files.weights("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
        check_shapes(published_shapes(config), read_shapes(path), f"{files.source}/{path.name}", "this BigGAN-deep")
        return assemble(config, read_tensors(path), files, name=name, **options)


def assemble(
    config: Config,
    published: dict[str, Tensor],
    files: Files,
    *,
    name: str,
    truncation: float = 0.5,
    class_label: int | str | None = None,
    optimise: str = "both",
    noise_seed: int = 0,
) -> Generator:
    """The generator from published tensors.

    Args:
        truncation: in (0, 1]: scale of the starting noise and choice of the batch-norm statistics; smaller is
            more typical, larger more varied.
        class_label: class to start from (or to hold), by number or ImageNet name; without one, the start is the
            mean embedding plus a tenth of standard normal noise, as in BigGAN-AM.
        optimise: "both" (code: noise and embedding), "noise" (the class is held) or "class" (the noise is held,
            drawn from `noise_seed`).

    Raises:
        OptionError: an option out of range. UnknownNameError: no such class.
    """
    fraction("truncation", truncation)
    whole_number("noise_seed", noise_seed, least=0, most=2**63 - 1)
    if optimise not in OPTIMISE:
        raise OptionError(f"optimise must be one of {', '.join(OPTIMISE)}, got {optimise!r}")
    if optimise == "noise" and class_label is None:
        raise OptionError("optimise='noise' holds the class, so it needs one", fix="pass class_label=...")
    embeddings = pop_float(published, "embeddings.weight", files.source).T.contiguous()
    label = None if class_label is None else class_index(class_label, config.classes)
    network = build_on_meta(lambda: BigGAN(config), files.source)
    load_frozen(network, prepare(published, config, truncation, files.source), files.source, "BigGAN-deep")
    assert isinstance(network, BigGAN)
    centre, spread = embeddings.mean(0), embeddings.std(0, unbiased=False)

    def noise(source: torch.Generator) -> Tensor:
        return truncation * truncated_normal(config.noise, source)

    def embedding(source: torch.Generator) -> Tensor:
        return embeddings[label] if label is not None else centre + 0.1 * torch.randn(len(centre), generator=source)

    def both(source: torch.Generator) -> Tensor:
        return torch.cat([noise(source), embedding(source)])

    def draw_corner(codes: Tensor) -> Tensor:
        image: Tensor = network(codes, side=1)
        return image

    size, scale = config.noise, torch.full((config.noise,), truncation)
    low, high = embeddings.min().expand(size), embeddings.max().expand(size)
    parts = {  # start, mean, deviation, lower and upper bound
        "noise": (noise, torch.zeros(size), scale, -NOISE_LIMIT * scale, NOISE_LIMIT * scale),
        "class": (embedding, centre, spread, low, high),
    }
    if optimise == "both":
        start = both
        mean, std, low, high = (torch.cat([a, b]) for a, b in zip(parts["noise"][1:], parts["class"][1:], strict=True))
        module: nn.Module = network
    else:
        start, mean, std, low, high = parts[optimise]
        other = noise if optimise == "class" else embedding
        module = Held(network, other(torch.Generator().manual_seed(noise_seed)), noise_is_held=optimise == "class")
    options = {"truncation": truncation, "class_label": label, "optimise": optimise}
    entry = registry.find_by_source(files.source)
    generator = Generator(
        module,
        mean.shape,
        code_mean=mean,
        code_std=std.clamp_min(1e-6),
        code_min=low,
        code_max=high,
        name=name,
        recipe=RECIPE,
        start=start,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.BIGGAN_PAPER),
        options=options | ({"noise_seed": noise_seed} if optimise == "class" else {}),
    )
    # At 512 px a whole image takes more memory than the weights; a sixteenth of one shows as much.
    side = 2 ** sum(block.upsample for block in config.blocks)
    return check_generates(
        generator, files.source, draw=draw_corner, code=both(torch.Generator().manual_seed(0)), size=(side, side)
    )


def truncated_normal(count: int, source: torch.Generator) -> Tensor:
    """Standard normal numbers within +-2, `[count]`, by the inverse of their distribution function."""
    edge = math.erf(NOISE_LIMIT / math.sqrt(2))
    uniform = torch.rand(count, generator=source, dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * edge)).float()


__all__ = ["RECIPE", "assemble", "from_files", "load"]
