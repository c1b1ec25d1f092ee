"""Adversarial flow models (Lin et al. 2025, arXiv 2511.22475): noise and class embedding -> ImageNet image of 256 px.

One pass of a transformer draws the latent of Stable Diffusion's autoencoder. Its decoder costs many times what the
transformer of variant B does, so that by default codes are optimised through the small TAESD, which decodes the same
latents, and the images of results are drawn with the full decoder.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from torch import Tensor, nn

from gen_prior.errors import OptionError, UnknownNameError, WeightsError
from gen_prior.generators.afm.network import VARIANTS, FlowTransformer, Variant
from gen_prior.generators.base import Generator
from gen_prior.generators.diffusers import autoencoder
from gen_prior.generators.diffusers.network import require_diffusers
from gen_prior.generators.shared.checks import check_generates
from gen_prior.generators.shared.code_parts import check_choice, noise_and_class, reno_recipe
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_shapes, load_frozen, pop_float
from gen_prior.hub.tensors import read_shapes, read_tensors

FORMAT = "gen-prior/afm-1"
CLASSES = 1000
TABLE = "y_embedder.embedding_table.weight"
SCALE = 8
"""Pixels along a side of one position of the latent."""
Decoder = Literal["redraw", "fast", "full"]
TAESD, VAE = "madebyollin/taesd", "stabilityai/sd-vae-ft-mse"


def load(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load `afm:WHERE`, one of `VARIANTS`, from the Hub; `options` as of `from_files`."""
    if where not in VARIANTS:
        raise UnknownNameError("adversarial flow model", where, VARIANTS, fix="for example afm:B")
    entry = registry.find(f"afm:{where}")
    return from_files(Files.of_entry(entry, revision), name=f"afm:{where}", variant=where, file=entry.files, **options)


def from_files(
    files: Files,
    *,
    name: str,
    variant: str | None = None,
    file: tuple[str, ...] = ("model.safetensors",),
    class_label: int | str | None = None,
    optimise: str = "both",
    noise_seed: int = 0,
    decoder: Decoder = "redraw",
    taesd: str = TAESD,
    vae: str = VAE,
) -> Generator:
    """The generator in `file` (the first that exists) of `files`.

    Args:
        variant: one of `VARIANTS`; that of an exported `config.json` if None.
        class_label: number or ImageNet name of the class to start from, or to fix; if None, the start is near the mean
            of all classes.
        optimise: "both" (the code is noise and class embedding, which may leave the known classes), "noise" (the class
            is fixed) or "class" (the noise is fixed, drawn from `noise_seed`).
        decoder: "redraw" (optimise through TAESD, draw results with the full decoder), "fast" (TAESD only) or "full".
        taesd, vae: repositories `org/name[@revision]` of the two decoders.

    Raises:
        OptionError: an option out of range. UnknownNameError: an unknown class or variant. WeightsError,
            DownloadError, MissingExtraError.
    """
    require_diffusers()
    label = check_choice(class_label, optimise, noise_seed, CLASSES)
    if decoder not in get_args(Decoder):
        raise OptionError(f"decoder must be one of {', '.join(get_args(Decoder))}, got {decoder!r}")
    with files.loading():
        chosen = variant or str(files.json("config.json").get("variant"))
        if chosen not in VARIANTS:
            raise WeightsError(f"{files.source}/config.json names {chosen!r}; known: {', '.join(VARIANTS)}")
        sizes = VARIANTS[chosen]
        network, table = _read(files, file, sizes)
    shape, side = (sizes.channels, sizes.side, sizes.side), SCALE * sizes.side
    kinds = ("taesd", "vae") if decoder == "redraw" else ("taesd",) if decoder == "fast" else ("vae",)
    repos = {"taesd": taesd, "vae": vae}
    # Outside of the block above: a decoder that fails is no reason to delete the transformer's download.
    decoders = {kind: autoencoder.latent_decoder(repos[kind], shape, side, VAE) for kind in kinds}
    drawn, code = noise_and_class(network, shape, table, label, optimise, noise_seed)
    climbed, *better = (_through(drawn, made) for made in decoders.values())
    entry = registry.find_by_source(files.source)
    generator = Generator(
        climbed,
        code.mean.shape,
        name=name,
        recipe=reno_recipe(0 if optimise == "class" else math.prod(shape)),
        redraw=better[0] if better else None,
        provenance=files.provenance(licence=entry.licence if entry else None, paper=registry.AFM_PAPER),
        options={"class_label": label, "optimise": optimise, "decoder": decoder}
        | {kind: autoencoder.pinned(made) for kind, made in decoders.items()}
        | ({"noise_seed": noise_seed} if optimise == "class" else {}),
        notes={"format": FORMAT, "variant": chosen},
        **code.prior(),
    )
    with files.loading():
        return check_generates(generator, files.source, size=(side, side))


def _read(files: Files, names: tuple[str, ...], sizes: Variant) -> tuple[FlowTransformer, Tensor]:
    """The transformer with its weights, and the class embeddings `[K, W]`."""
    path = files.weights(*names)
    file = f"{files.source}/{path.name}"
    network = build_on_meta(lambda: FlowTransformer(sizes), file)
    assert isinstance(network, FlowTransformer)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_shapes(expected | {TABLE: (CLASSES, sizes.width)}, read_shapes(path), file, "this adversarial flow model")
    tensors = read_tensors(path)
    table = pop_float(tensors, TABLE, file)
    load_frozen(network, tensors, file, "this adversarial flow model")
    return network, table


def _through(drawn: nn.Module, decoder: Generator) -> nn.Module:
    assert isinstance(decoder.module, nn.Module)
    return nn.Sequential(drawn, decoder.module)


__all__ = ["FORMAT", "from_files", "load"]
