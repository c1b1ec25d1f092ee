"""Export generators as folders for the Hub, and download weights in advance.

An exported folder holds safetensors with metadata, the configuration in the format of its family, the code statistics
if they were measured, sample images and a model card. `local-dir:` and `hf-hub:` load it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from gen_prior.applications.compare import load_comparison
from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.generators import PREFIXED, Generator, dcgan, load_generator
from gen_prior.generators.code_statistics import FILE as STATISTICS
from gen_prior.generators.code_statistics import WEIGHTS_KEY, find_statistics, statistics_file, weights_hash
from gen_prior.generators.deepsim.network import VARIANTS
from gen_prior.generators.dgn import generator as dgn
from gen_prior.generators.dgn.network import WhitenedCodes
from gen_prior.generators.formats import DCGAN_FORMAT, DEEPSIM_FORMAT, NAME_KEY
from gen_prior.hub import registry
from gen_prior.hub.convert import convert
from gen_prior.hub.files import Files
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.tensors import file_sha256, read_file_metadata, read_shapes, read_tensors, save_safetensors
from gen_prior.report.model_card import model_card, stated_comparison
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.folders import check_empty
from gen_prior.util.image_io import write_png

SAMPLES = 6
INDEX = "model_index.json"
WEIGHTS = ("diffusion_pytorch_model", "model")


def export(
    name: str,
    out: str | Path,
    *,
    comparison: str | Path | None = None,
    samples: int = SAMPLES,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the generator `name` into the new folder `out`, and return the folder.

    Args:
        comparison: a folder of `compare` or its JSON file, for the model card; if None, the comparison in the
            metadata of the weights, if there is one.
        samples: number of sample images.
        options: options of `load_generator`, for the sample images.

    Raises:
        OptionError: the generator has no weights. OutputError: `out` is not empty or cannot be written, or there is
            no comparison at `comparison`.
    """
    folder = Path(out)
    check_empty(folder)
    generator = load_generator(name, device="cpu", **(options or {}))
    given = load_comparison(comparison).summary() if comparison is not None else None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        _write_weights(name, generator, staged)
        _copy_statistics(generator, staged)
        for seed in range(samples):
            with torch.no_grad():
                code = generator.initial_code(seed)[None]
                write_png(staged / "samples" / f"seed-{seed}.png", generator.final_images(code)[0])
        numbers = stated_comparison(staged) if given is None else given
        write_bytes(staged / "README.md", model_card(name, generator, samples, numbers).encode())
        staged.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        staged.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _write_weights(name: str, generator: Generator, out: Path) -> None:
    """Write weights and configuration. Raises `OptionError` if the generator has no weights."""
    provenance = generator.provenance
    if provenance.source == "embedded":
        _write_embedded(name, generator, out)
        return
    if provenance.source.partition(":")[0] not in ("hf-hub", "local-dir") or not provenance.sha256:
        raise OptionError(f"{name} has no weights, so there is nothing to export")
    files = _files(provenance)
    # Of a whole pipeline only the autoencoder is used: it is written as a repository of its own.
    parts = {file.partition("/")[0] for file in provenance.sha256 if "/" in file}
    (part,) = parts if len(parts) == 1 else ("",)
    for file, digest in provenance.sha256.items():
        if not (file == INDEX and part):
            _write_file(file, digest, files, generator, out / (file.rpartition("/")[2] if part else file))
    if (out / "unet").is_dir() and not (out / INDEX).exists():
        index = {
            "_class_name": "ConsistencyModelPipeline",
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", "CMStochasticIterativeScheduler"],
        }
        write_json(out / INDEX, index)
    if not any((out / file).exists() for file in ("config.json", INDEX, dgn.FILE)):
        write_json(out / "config.json", _config_of_state_dict(generator, out / "model.safetensors"))


def _write_embedded(name: str, generator: Generator, out: Path) -> None:
    """Write an embedded prior, without its flow if the generator was loaded without it."""
    embedded = resources.files("gen_prior.weights").joinpath(dgn.EMBEDDED[name])
    if isinstance(generator.module, WhitenedCodes) and generator.module.flow is None:
        with resources.as_file(embedded) as whole:
            dgn.write_without_flow(whole, out / dgn.FILE)
    else:
        write_bytes(out / dgn.FILE, embedded.read_bytes())


def _write_file(file: str, digest: str, files: Files, generator: Generator, target: Path) -> None:
    """Write one file of a repository to `target`: text and our own formats as they are, others as safetensors."""
    provenance = generator.provenance
    path: Path = files.get(file)
    if file.endswith(".json"):
        write_json(target, json.loads(path.read_text(encoding="utf-8")))
        return
    if file.endswith(".txt"):  # a tokeniser's
        write_bytes(target, path.read_bytes())
        return
    if file == dgn.FILE and read_file_metadata(path).get("format", "").startswith("gen-prior/"):
        write_bytes(target, path.read_bytes())
        return
    if not file.endswith(".safetensors"):
        path = convert(path, digest, f"{provenance.source}/{file}", provenance.revision)
    metadata = read_file_metadata(path) | _metadata(generator, digest)
    target = target.with_suffix(".safetensors")
    if target.stem not in WEIGHTS:
        target = target.with_stem("model")
    save_safetensors(target, read_tensors(path), metadata)


def _config_of_state_dict(generator: Generator, weights: Path) -> dict[str, Any]:
    """Configuration for families that are published as a bare state dict."""
    if "format" in generator.notes:
        return {key: generator.notes[key] for key in ("format", "variant")}
    if (name := generator.notes.get("variant")) is not None:
        variant = VARIANTS[name]
        sizes = {"code_shape": list(variant.code_shape), "image_size": variant.side}
        return {"format": DEEPSIM_FORMAT, "variant": name, "layer": variant.encoder_layer} | sizes
    layout = dcgan.infer(read_shapes(weights), weights.name)
    return {
        "format": DCGAN_FORMAT,
        "latent": layout.latent,
        "image_size": layout.side,
        "channels": layout.channels,
        "widths": [layer.outputs for layer in layout.layers],
    }


def _files(provenance: Provenance) -> Files:
    prefix, _, rest = provenance.source.partition(":")
    return Files.from_hub(rest, revision=provenance.revision) if prefix == "hf-hub" else Files.from_folder(rest)


def _metadata(generator: Generator, digest: str) -> dict[str, str]:
    provenance = generator.provenance
    metadata = {
        "format": "pt",
        "source": provenance.source,
        "sha256": digest,
        "revision": provenance.revision,
        "licence": provenance.licence,
        "paper": provenance.paper,
        NAME_KEY: generator.notes.get("variant"),
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _copy_statistics(generator: Generator, out: Path) -> None:
    """Write the code statistics that the generator uses, if any, with the hashes of the weights in `out`."""
    if not generator.provenance.sha256 or generator.provenance.source == "embedded":
        return
    files = _files(generator.provenance)
    path = statistics_file(generator.provenance, files)
    if path is None or find_statistics(generator.provenance, generator.code_shape, files) is None:
        return
    written = {file.name: file_sha256(file) for file in out.rglob("*.safetensors")}
    metadata = read_file_metadata(path) | {WEIGHTS_KEY: weights_hash(written)}
    save_safetensors(out / STATISTICS, read_tensors(path), metadata)


def pull(name: str, *, revision: str | None = None) -> Provenance:
    """Download, check and convert everything that loading `name` needs, so that it loads offline.

    `name` is a registered generator or classifier, or a source (`hf-hub:org/name@revision`, `hf-hub:timm/NAME`). It is
    loaded once, so that a file of the wrong layout fails now. Raises `DownloadError`, `WeightsError`,
    `UnknownNameError`, `MissingExtraError`.
    """
    entry = next((entry for entry in registry.ENTRIES if entry.name == name), None)
    if entry is None and name.partition(":")[0] not in PREFIXED:
        raise UnknownNameError("model", name, [e.name for e in registry.ENTRIES], fix="list them: gen-prior models")
    if entry is not None and entry.repo is None:
        return Provenance("embedded", licence=entry.licence, paper=entry.paper)
    options: dict[str, Any] = {"revision": revision} if revision else {}
    if entry is not None:
        load: Callable[..., Any] = load_classifier if entry.kind == "classifier" else load_generator
        return _provenance(load(name, device="cpu", **options))
    prefix, _, where = name.partition(":")
    if prefix != "hf-hub":
        return load_generator(name, device="cpu", **options).provenance
    files = Files.from_hub(where, revision=revision)
    with files.loading():  # around both, so that a failed load also removes the configuration
        known = files.find("config.json") is not None and "architecture" in files.json("config.json")
        return _provenance((load_classifier if known else load_generator)(name, device="cpu", **options))


def _provenance(loaded: Classifier | Generator) -> Provenance:
    return loaded.provenance
