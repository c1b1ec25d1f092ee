"""Which family a folder or repository holds, told from its own files: `local-dir:DIR` and `hf-hub:org/name@rev`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gen_prior.errors import WeightsError
from gen_prior.generators import biggan, consistency, dcgan, deepsim, dgn, diffusers_family
from gen_prior.generators.base import Generator
from gen_prior.generators.biggan_format import CONFIG_KEYS
from gen_prior.generators.deepsim_network import VARIANTS, recognise
from gen_prior.hub import Files
from gen_prior.tensor_files import read_file_metadata, read_shapes, read_tensors

NAME_KEY = "gen-prior-generator"
"""Metadata of exported weights: which of several generators with the same tensors they are."""


def load_hub(where: str, *, revision: str | None = None, **options: Any) -> Generator:
    """`hf-hub:WHERE`: whatever generator is in `org/name[/folder][@revision]`."""
    return load_files(Files.from_hub(where, revision=revision), name=f"hf-hub:{where}", **options)


def load_folder(where: str, **options: Any) -> Generator:
    """`local-dir:WHERE`: whatever generator is in this folder."""
    return load_files(Files.from_folder(where), name=f"local-dir:{where}", **options)


def load_files(files: Files, *, name: str, **options: Any) -> Generator:
    """The generator in `files`, by the first format that fits. Options are the family's.

    Raises `WeightsError` that lists the formats where none does.
    """
    with files.loading():
        own = files.find(dgn.FILE)
        if own is not None and read_file_metadata(own).get("format", "").startswith("gen-prior/"):
            made = dgn.from_file(own, name=name, origin=dgn.FILE, source=files.source, **options)
            made.provenance = replace(made.provenance, revision=files.revision or made.provenance.revision)
            return made
        if files.find("config.json") is not None:
            config = files.json("config.json")
            if "_class_name" in config:
                return diffusers_family.from_files(files, name=name, **options)
            if set(config) >= CONFIG_KEYS:
                return biggan.from_files(files, name=name, **options)
        if files.find("model_index.json") is not None:
            pipeline = files.json("model_index.json")
            if pipeline.get("_class_name") == "ConsistencyModelPipeline":
                return consistency.from_files(files, name=name, **options)
            for part in ("vae", "vqvae"):
                if part in pipeline:
                    return diffusers_family.from_files(files, name=name, folder=f"{part}/", **options)
        return _by_tensors(files, name, options)


def _by_tensors(files: Files, name: str, options: dict[str, Any]) -> Generator:
    upconv = [f"upconvGAN_{variant.removeprefix('deepsim-').replace('-', '_')}.pt" for variant in VARIANTS]
    found = files.find(*dcgan.CANDIDATES, *upconv)
    if found is None:
        raise WeightsError(
            f"{files.source} holds no generator of a known format",
            fix=f"known: {dgn.FILE} of gen-prior, a BigGAN-deep or diffusers config.json, model_index.json, or a "
            f"DeePSim or DCGAN state dict called {dcgan.CANDIDATES[1]}",
        )
    path = files.weights(*dcgan.CANDIDATES, *upconv)
    variant = (
        read_file_metadata(path).get(NAME_KEY) or f"deepsim-{found.stem.removeprefix('upconvGAN_').replace('_', '-')}"
    )
    if variant not in VARIANTS:
        variant = recognise(read_shapes(path)) or ""
    if variant:
        return deepsim.assemble(variant, read_tensors(path), files, name=name, **options)
    return dcgan.assemble(read_tensors(path), files, name=name, **options)


__all__ = ["NAME_KEY", "load_files", "load_folder", "load_hub"]
