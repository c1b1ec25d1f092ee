"""BigGAN-deep (Brock et al. 2019, arXiv 1809.11096): noise and class embedding `[256]` -> RGB image.

Loads the PyTorch port of the published checkpoints: 128 px from the Hub, 256 and 512 px from a folder. The registry
states their licence. The class embedding is part of the code and may leave the known classes, as in BigGAN-AM (Li et
al. 2020, arXiv 1910.04760).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.biggan.format import Config, prepare, published_shapes, read_config
from gen_prior.generators.biggan.network import BigGAN, Held
from gen_prior.generators.shared.checks import check_generates, fraction
from gen_prior.generators.shared.code_parts import Part, check_choice, joined
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen, pop_float
from gen_prior.hub.tensors import read_shapes, read_tensors
from gen_prior.recipe import Recipe

NOISE_LIMIT = 2.0
UNPUBLISHED = ("biggan-deep-256", "biggan-deep-512")
"""Sizes of the same format that the package pytorch-pretrained-biggan knew, on no page of the Hub that is on record."""
RECIPE = Recipe(
    steps=200,
    rate=0.1,
    final_rate=0.01,
    score="log_probability",
    domain="code",
    source="after BigGAN-AM, Li et al. 2020, arXiv 1910.04760: Adam at 0.1, embedding within the known classes' range",
)


def load(name: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load the generator `name`, "biggan-deep-128", from the Hub, on the CPU; `options` as of `assemble`.

    Raises `WeightsError` for the names in `UNPUBLISHED`.
    """
    if name in UNPUBLISHED:
        raise WeightsError(
            f"no repository of the Hub is known to hold {name}",
            fix=f"put config.json and pytorch_model.bin of {name}, as the package pytorch-pretrained-biggan uses them, "
            "into a folder, and load local-dir:FOLDER",
        )
    return from_files(Files.of_entry(registry.find(name), revision), name=name, **options)


def from_files(files: Files, *, name: str, **options: Any) -> Generator:
    """The generator in a repository or folder with `config.json` and weights of this format."""
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
    """The generator from published tensors, which are emptied.

    Args:
        truncation: in (0, 1]: scale of the initial noise and choice of the batch-norm statistics; smaller is more
            typical, larger more varied.
        class_label: number or ImageNet name of the class to start from, or to fix; if None, the start is the mean
            embedding plus a tenth of standard normal noise, as in BigGAN-AM.
        optimise: "both" (the code is noise and class embedding), "noise" (the class is fixed) or "class" (the noise is
            fixed, drawn from `noise_seed`).

    Raises:
        OptionError: an option out of range. UnknownNameError: an unknown class.
    """
    fraction("truncation", truncation)
    label = check_choice(class_label, optimise, noise_seed, config.classes)
    embeddings = pop_float(published, "embeddings.weight", files.source).T.contiguous()
    network = build_on_meta(lambda: BigGAN(config), files.source)
    load_frozen(network, prepare(published, config, truncation, files.source), files.source, "BigGAN-deep")
    assert isinstance(network, BigGAN)
    noise, embedding = _noise_part(config.noise, truncation), _class_part(embeddings, label)
    both = joined(noise, embedding)
    code = {"both": both, "noise": noise, "class": embedding}[optimise]
    fixed = noise if optimise == "class" else embedding
    rng = torch.Generator().manual_seed(noise_seed)
    options = {"truncation": truncation, "class_label": label, "optimise": optimise}
    entry = registry.find_by_source(files.source)
    generator = Generator(
        network if optimise == "both" else Held(network, fixed.draw(rng), noise_is_held=optimise == "class"),
        code.mean.shape,
        name=name,
        recipe=RECIPE,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.BIGGAN_PAPER),
        options=options | ({"noise_seed": noise_seed} if optimise == "class" else {}),
        **code.prior(),
    )
    # At 512 px a whole image takes more memory than the weights; a corner of a sixteenth shows as much.
    side = 2 ** sum(block.upsample for block in config.blocks)
    first = both.draw(torch.Generator().manual_seed(0))
    corner = partial(network, side=1)
    return check_generates(generator, files.source, draw=corner, code=first, size=(side, side))


def _noise_part(size: int, truncation: float) -> Part:
    std = torch.full((size,), truncation)
    return Part(
        lambda rng: truncation * truncated_normal(size, rng),
        torch.zeros(size),
        std,
        -NOISE_LIMIT * std,
        NOISE_LIMIT * std,
    )


def _class_part(embeddings: Tensor, label: int | None) -> Part:
    """The class embedding `[E]` with the statistics of the known ones, `[K, E]`."""
    mean, size = embeddings.mean(0), embeddings.shape[1]

    def draw(rng: torch.Generator) -> Tensor:
        return embeddings[label] if label is not None else mean + 0.1 * torch.randn(size, generator=rng)

    std = embeddings.std(0, unbiased=False)
    return Part(draw, mean, std, embeddings.min().expand(size), embeddings.max().expand(size))


def truncated_normal(count: int, rng: torch.Generator) -> Tensor:
    """Standard normal noise truncated to +-2, `[count]`, by inverse transform sampling."""
    edge = math.erf(NOISE_LIMIT / math.sqrt(2))
    uniform = torch.rand(count, generator=rng, dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * edge)).float()


__all__ = ["RECIPE", "UNPUBLISHED", "assemble", "from_files", "load"]
