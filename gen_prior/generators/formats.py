"""Loaders of `local-dir:DIR` and `hf-hub:org/name@rev`: they recognise the family by the files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gen_prior.errors import WeightsError
from gen_prior.generators import dcgan
from gen_prior.generators.afm import generator as afm
from gen_prior.generators.base import Generator
from gen_prior.generators.biggan import generator as biggan
from gen_prior.generators.biggan.format import CONFIG_KEYS
from gen_prior.generators.deepsim import generator as deepsim
from gen_prior.generators.deepsim.network import VARIANTS, recognise
from gen_prior.generators.dgn import generator as dgn
from gen_prior.generators.diffusers import autoencoder as diffusers_family
from gen_prior.generators.diffusers import consistency, one_step
from gen_prior.generators.pmf import generator as pmf
from gen_prior.generators.titok import generator as titok
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_file_metadata, read_shapes, read_tensors

log = logging.getLogger(__name__)
DEEPSIM_FORMAT, DCGAN_FORMAT = "gen-prior/deepsim-1", "gen-prior/dcgan-1"
"""`format` in the `config.json` that `export` writes for families without a configuration of their own."""
NAME_KEY = "gen-prior-generator"
"""Metadata key of exported weights: name of the generator, since some have tensors of the same shapes."""


def load_hub(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """Load `hf-hub:WHERE`: the generator in the repository `org/name[/folder][@revision]`."""
    return load_files(Files.from_hub(where, revision=revision), name=f"hf-hub:{where}", **options)


def load_folder(where: str, **options: Any) -> Generator:
    """Load `local-dir:WHERE`: the generator in this folder."""
    return load_files(Files.from_folder(where), name=f"local-dir:{where}", **options)


def load_files(files: Files, *, name: str, **options: Any) -> Generator:
    """The generator in `files`, by the format that fits; `options` are the family's.

    Raises `WeightsError` that lists the known formats if none fits, or the generators if there are several.
    """
    with files.loading():
        found = _described(files, name)
        if not found:
            return _by_tensors(files, name, options)
        if len(found) > 1:
            raise _several(files, [*found])
        (load,) = found.values()
        return load(**options)


def _described(files: Files, name: str) -> dict[str, Callable[..., Generator]]:
    """Generators with a configuration or metadata: file or folder -> function of the family's options that loads it."""
    found: dict[str, Callable[..., Generator]] = {}
    own = files.find(dgn.FILE)
    if own is not None and read_file_metadata(own).get("format", "").startswith("gen-prior/"):
        found[dgn.FILE] = partial(_load_own, own, files, name)
    if files.find("config.json") is not None:
        config = files.json("config.json")
        if "_class_name" in config:
            found["config.json"] = partial(diffusers_family.from_files, files, name=name)
        elif set(config) >= CONFIG_KEYS:
            found["config.json"] = partial(biggan.from_files, files, name=name)
        elif isinstance(config.get("model"), dict) and "vq_model" in config["model"]:
            found["config.json"] = partial(titok.from_files, files, name=name)
        elif config.get("format") == afm.FORMAT:
            found["config.json"] = partial(afm.from_files, files, name=name)
        elif config.get("format") == pmf.FORMAT:
            found["config.json"] = partial(pmf.from_files, files, name=name)
    if found:
        return found
    if files.find("model_index.json") is not None:
        pipeline = files.json("model_index.json")
        if pipeline.get("_class_name") == "ConsistencyModelPipeline":
            return {"model_index.json": partial(consistency.from_files, files, name=name)}
        if one_step.is_one_step(files, pipeline):
            return {"model_index.json": partial(one_step.from_files, files, name=name)}
        for part in ("vae", "vqvae"):
            if part in pipeline:
                log.warning("%s is a pipeline of several networks: its autoencoder alone (%s/) is used", name, part)
                found[f"{part}/"] = partial(diffusers_family.from_files, files, name=name, folder=f"{part}/")
    return found


def _load_own(path: Path, files: Files, name: str, *, image_size: int | None = None) -> Generator:
    made = dgn.from_file(path, name=name, origin=dgn.FILE, source=files.source, image_size=image_size)
    made.provenance = replace(made.provenance, revision=files.revision or made.provenance.revision)
    return made


def _by_tensors(files: Files, name: str, options: dict[str, Any]) -> Generator:
    """A DeePSim or DCGAN generator, recognised by the names and shapes of its tensors."""
    upconv = [f"upconvGAN_{variant.removeprefix('deepsim-').replace('-', '_')}.pt" for variant in VARIANTS]
    names = [*dcgan.CANDIDATES, *upconv]
    found = files.find(*names)
    if found is None:
        raise WeightsError(
            f"{files.source} holds no generator of a known format",
            fix=f"known: {dgn.FILE} of gen-prior, a BigGAN-deep, TiTok or diffusers config.json, model_index.json, "
            f"or a DeePSim or DCGAN state dict called {dcgan.CANDIDATES[1]}",
        )
    others = [other for other in names if _of_one_network(other) != _of_one_network(found.name)]
    if (other := files.find_optional(*others)) is not None:
        raise _several(files, [found.name, other.name])
    path = files.weights(*names)
    variant = _stated_variant(files) or read_file_metadata(path).get(NAME_KEY) or _variant_of_file(found.name)
    if variant not in VARIANTS:
        variant = recognise(read_shapes(path)) or ""
    if variant:
        return deepsim.assemble(variant, read_tensors(path), files, name=name, **options)
    return dcgan.assemble(read_tensors(path), files, name=name, **options)


def _of_one_network(file: str) -> str:
    """A key that is equal for files that hold the same network in different formats, by their usual names."""
    stem = file.partition(".")[0]
    return "model" if stem == "pytorch_model" else stem


def _variant_of_file(file: str) -> str:
    return f"deepsim-{file.partition('.')[0].removeprefix('upconvGAN_').replace('_', '-')}"


def _stated_variant(files: Files) -> str | None:
    """Name of the DeePSim generator in an exported `config.json`. Raises `WeightsError` for an unknown one."""
    config = files.json("config.json") if files.find("config.json") is not None else {}
    if config.get("format") != DEEPSIM_FORMAT:
        return None
    variant = str(config.get("variant"))
    if variant not in VARIANTS:
        raise WeightsError(f"{files.source}/config.json names {variant!r}; known: {', '.join(VARIANTS)}")
    return variant


def _several(files: Files, names: list[str]) -> WeightsError:
    return WeightsError(
        f"{files.source} holds several generators: {', '.join(names)}",
        fix="keep one of them in a folder of its own, or load it by its name or family: gen-prior models",
    )


__all__ = ["DCGAN_FORMAT", "DEEPSIM_FORMAT", "NAME_KEY", "load_files", "load_folder", "load_hub"]
