"""TiTok VAE tokenisers (Yu et al. 2024, arXiv 2406.07550): code `[16, 1, N]`, N = 32, 64 or 128 -> RGB image of 256 px.

The most compact codes of natural images at this size: 512, 1024 or 2048 numbers. The encoder comes with it, so that
code statistics can be measured, photographs encoded, and optimisation started from them. The default recipe follows
Lao Beyer et al. 2025 (arXiv 2506.08257), who optimise the tokens of such tokenisers directly.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import UnknownNameError
from gen_prior.generators.base import Generator
from gen_prior.generators.code_statistics import find_statistics
from gen_prior.generators.shared.checks import check_generates
from gen_prior.generators.titok.network import TiTok, read_config
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen
from gen_prior.hub.tensors import read_shapes, read_tensors
from gen_prior.recipe import Recipe

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
RECIPE = Recipe(
    steps=200,
    rate=0.1,
    prior_weight=0.1,
    transforms=(("affine", {"degrees": 8.0, "scale": (0.9, 1.2), "shift": 0.06}),),
    domain="code",
    source="after Lao Beyer et al. 2025, arXiv 2506.08257: Adam 0.1 on the tokens. Ours: 200 steps for 600, the rate "
    "falls to 0, a Gaussian prior of the codes, the transforms of dgn-lite0",
)


def load(where: str, *, revision: str | None = None) -> Generator:
    """Load `titok:WHERE`: "ll32", "bl64" or "bl128", or a repository `org/name[@revision]` of the same layout."""
    name = f"titok:{where}"
    if "/" in where:
        return from_files(Files.from_hub(where, revision=revision), name=name)
    known = [entry.name for entry in registry.ENTRIES if entry.name.startswith("titok:")]
    if name not in known:
        raise UnknownNameError("TiTok tokeniser", name, known, fix="or name a repository: titok:org/name")
    return from_files(Files.of_entry(registry.find(name), revision), name=name)


def from_files(files: Files, *, name: str) -> Generator:
    """The tokeniser in a repository or folder with a `config.json` and weights of this format.

    Raises `WeightsError`, `DownloadError`.
    """
    with files.loading():
        config = read_config(files.json("config.json"), f"{files.source}/config.json")
        network = build_on_meta(lambda: TiTok(config), f"{files.source}/config.json")
        assert isinstance(network, TiTok)
        path = files.weights(*WEIGHTS)
        file = f"{files.source}/{path.name}"
        expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        check_shapes(expected, read_shapes(path), file, "this TiTok tokeniser")
        load_frozen(network, read_tensors(path), file, "this TiTok tokeniser")
        side = config.decoder.side
        return check_generates(_assemble(network, files, name, side), files.source, size=(side, side))


def _assemble(network: TiTok, files: Files, name: str, side: int) -> Generator:
    entry = registry.find_by_source(files.source)
    provenance = files.provenance(licence=entry.licence if entry else None, paper=registry.TITOK_PAPER)
    shape = (network.config.numbers, 1, network.config.encoder.tokens)
    statistics = find_statistics(provenance, shape, files)

    def encode(images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return network.encode(images)

    # Training drew codes towards a standard normal distribution, which stands in for statistics not measured yet.
    bounds: dict[str, Any] = {}
    if statistics is not None:
        bounds = {"code_mean": statistics.mean, "code_std": statistics.std.clamp_min(1e-3)}
    return Generator(
        network,
        shape,
        output_range=(0.0, 1.0),
        name=name,
        recipe=RECIPE,
        encode=encode,
        provenance=provenance,
        notes={"code prior": f"measured on {statistics.images} images" if statistics else "standard normal, assumed"},
        **bounds,
    )


__all__ = ["RECIPE", "from_files", "load"]
