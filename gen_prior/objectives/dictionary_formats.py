"""Folder or Hub repository -> `Dictionary`: SAELens, ViT-Prisma and saev; and files of directions or a linear probe.

What each layout means was read in the sources named at its loader. A layout that leaves open how its latents are
computed is refused: gated autoencoders and transcoders, activations scaled by a factor that is not in the file, saev's
files before schema 5, and overcomplete's, which are pickled programs.
"""

from __future__ import annotations

import io
import json
import tempfile
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_prior.errors import OptionError, WeightsError
from gen_prior.hub.convert import read_pickled
from gen_prior.hub.files import Files
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.strict_loading import check_shapes
from gen_prior.hub.tensors import HashedPath, file_sha256, read_tensors
from gen_prior.objectives.dictionary import CONFIG, NORMALISATIONS, WEIGHTS, Dictionary
from gen_prior.util.files import is_file, is_folder
from gen_prior.util.reading import BAD_FILE, first_line, read_regular, reading_weights

PRISMA, SAEV = "config.json", "sae.pt"
MAX_JSON_BYTES, MAX_ARRAY_BYTES = 16 * 2**20, 2**33


def load_dictionary(source: str | Path) -> Dictionary:
    """Load the sparse autoencoder in a folder or a repository of the Hugging Face Hub.

    Args:
        source: a folder, `local-dir:FOLDER` or `hf-hub:org/name[/folder][@revision]`. It holds `cfg.json` and
            `sae_weights.safetensors` (SAELens), `config.json` and `weights.pt` (ViT-Prisma), or `sae.pt` (saev).
            Pickled files are read with `weights_only=True`.

    Raises:
        WeightsError, DownloadError: no dictionary, a damaged one, or one of a kind that is not computed here.
    """
    text = str(source)
    if not text.startswith("hf-hub:"):
        folder = Path(text.removeprefix("local-dir:")).expanduser()
        files = sorted(folder.glob("*")) if is_folder(folder) else []
        return _load(text, tuple((path.name, path.stat().st_mtime_ns) for path in files if path.exists()))
    return _load(text, ())


@lru_cache(maxsize=2)
def _load(source: str, written: tuple[tuple[str, int], ...]) -> Dictionary:
    """The dictionary at `source`, kept while its files, `written` at these times, stay as they are."""
    where = source.removeprefix("hf-hub:")
    files = Files.from_hub(where) if where != source else Files.from_folder(source.removeprefix("local-dir:"))
    with files.loading():
        for name, load in FORMATS.items():
            if (path := files.find(name)) is not None:
                with reading_weights(path):
                    return replace(load(files, path), provenance=files.provenance())
        raise WeightsError(
            f"{source} holds no {CONFIG} (SAELens), {PRISMA} (ViT-Prisma) or {SAEV} (saev)",
            fix="name the folder of the dictionary; one of another kind is written by gp.Dictionary(...).save(folder)",
        )


def _saelens(files: Files, path: HashedPath) -> Dictionary:
    """SAELens 3 to 6: `sae_lens/saes` and `handle_pre_6_0_config` of its `pretrained_sae_loaders.py`."""
    config = _json(path)
    older = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    architecture = "topk" if older == "topk" else config.get("architecture", "standard")
    _allow(path, "architecture", architecture, "standard", "jumprelu", "topk")
    _allow(path, "activation_fn", older, "relu", "topk")
    _allow(path, "reshape_activations", config.get("reshape_activations", "none"), "none")
    _allow(path, "finetuning_scaling_factor", config.get("finetuning_scaling_factor") or False, False)
    tensors = read_tensors(files.weights(WEIGHTS))
    more = {"threshold": ("latents",)} if architecture == "jumprelu" else {}
    _check(tensors, config, path, more)
    k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k")) if architecture == "topk" else None
    if architecture == "topk" and type(k) is not int:
        raise WeightsError(f"{path}: k must be a whole number, got {k!r}")
    rescaled = architecture == "topk" and config.get("rescale_acts_by_decoder_norm", False)
    lengths = tensors["W_dec"].float().norm(dim=1) if rescaled else torch.ones(len(tensors["W_dec"]))
    return Dictionary(
        tensors["W_enc"].float() * lengths,
        tensors["b_enc"].float() * lengths,
        tensors["b_dec"] if config.get("apply_b_dec_to_input", True) else None,
        tensors["W_dec"],
        tensors.get("threshold"),
        k,
        normalise=_normalisation(path, config),
        layer=str((config.get("metadata") or config).get("hook_name", config.get("hook_point")) or ""),
    )


def _prisma(files: Files, path: HashedPath) -> Dictionary:
    """ViT-Prisma: `encode_standard` and `get_activation_fn` of `vit_prisma/sae/sae.py`."""
    config = _json(path)
    activation = config.get("activation_fn_str", "relu")
    if not {"d_in", "d_sae", "hook_point_layer"} <= config.keys():
        raise WeightsError(f"{path} does not describe a dictionary of ViT-Prisma: it lacks d_in, d_sae or a hook point")
    _allow(path, "architecture", config.get("architecture", "standard"), "standard")
    _allow(path, "activation_fn_str", activation, "relu", "topk")
    _allow(path, "is_transcoder", config.get("is_transcoder") or False, False)
    tensors = read_tensors(files.weights("weights.safetensors", "weights.pt"))
    _check(tensors, config, path, {})
    kwargs = config.get("activation_fn_kwargs") or {}
    _allow(path, "activation_fn_kwargs", sorted(kwargs), [], ["k"])
    return Dictionary(
        tensors["W_enc"],
        tensors["b_enc"],
        tensors["b_dec"],
        tensors["W_dec"],
        k=int(kwargs["k"]) if activation == "topk" else None,
        normalise=_normalisation(path, config),
        layer=f"blocks.{config['hook_point_layer']}.{config.get('layer_subtype', '')}".rstrip("."),
    )


def _saev(files: Files, path: HashedPath) -> Dictionary:
    """saev, schema 5: a line of JSON, then a pickled state dict; `SparseAutoencoder` of `saev/nn/modeling.py`."""
    line, _, state = read_regular(path, limit=2**34).partition(b"\n")
    header = _parsed(line, path)
    if header.get("schema") != 5:
        raise WeightsError(
            f"{path} has schema {header.get('schema')!r} of saev; only 5 is certain to be computed as here",
            fix="load it by saev's own saev.nn.load and write it again by saev.nn.dump",
        )
    with tempfile.TemporaryDirectory(prefix="gen-prior-") as folder:
        (Path(folder) / "state.pt").write_bytes(state)
        tensors = {name: value.clone() for name, value in read_pickled(Path(folder) / "state.pt").items()}
    config, activation = header["cfg"], header["cfg"]["activation"]
    _allow(path, "activation", activation["cls"], "Relu", "TopK", "BatchTopK")
    batched = activation["cls"] == "BatchTopK"
    _check(
        tensors,
        {"d_in": config["d_model"], "d_sae": config["d_sae"]},
        path,
        {"activation.threshold": ()} if batched else {},
    )
    threshold = tensors["activation.threshold"].clamp_min(0).expand(len(tensors["b_enc"])) if batched else None
    k = min(int(activation["params"]["top_k"]), len(tensors["b_enc"])) if activation["cls"] == "TopK" else None
    return Dictionary(
        tensors["W_enc"], tensors["b_enc"], None, tensors["W_dec"], threshold, k, rectified=activation["cls"] == "Relu"
    )  # fmt: skip


FORMATS: dict[str, Callable[[Files, HashedPath], Dictionary]] = {CONFIG: _saelens, PRISMA: _prisma, SAEV: _saev}
"""Name of the file that tells the layout -> its loader; the first that exists counts."""


def load_directions(path: str | Path) -> Dictionary:
    """Load directions, or a linear probe, as a dictionary of signed latents.

    Args:
        path: a `.npy` file `[rows, units]` or `[units]`; or a `.safetensors`, `.pt` or `.pth` file of one such tensor.
            Rows are scaled to unit length. A file with `weight` and perhaps `bias`, as `nn.Linear` has them, is a
            probe, and its rows stay as they are.

    Raises:
        WeightsError: no such file, or none of these; OptionError: a row of zeros or values that are not finite.
    """
    file = Path(path).expanduser()
    if not is_file(file):
        raise WeightsError(f"no file {path}", fix="pass a .npy or .safetensors file of directions")
    with reading_weights(file):
        return _load_directions(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load_directions(file: Path, written: int) -> Dictionary:
    tensors, provenance = _tensors_of(file), Provenance(f"local-dir:{file}", None, {file.name: file_sha256(file)})
    probe = "weight" in tensors and tensors.keys() <= {"weight", "bias"}
    if not probe and len(tensors) != 1:
        raise WeightsError(f"{file} holds {', '.join(tensors)}; one tensor, or weight and bias, is expected")
    rows = tensors["weight"] if probe else next(iter(tensors.values()))
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.is_floating_point():
        raise WeightsError(f"{file} holds {list(rows.shape)} of {rows.dtype}, directions are [rows, units] of floats")
    if probe:
        return Dictionary(rows.float().T, tensors.get("bias"), rectified=False, provenance=provenance)
    if empty := (rows == 0).all(1).nonzero().flatten().tolist():
        raise OptionError(f"{file}: row {empty[0]} is zero, which is no direction")
    return Dictionary((rows.float() / rows.float().norm(dim=1, keepdim=True)).T, rectified=False, provenance=provenance)


def _tensors_of(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)
    if file.suffix in (".pt", ".pth"):
        return {name: value.clone() for name, value in read_pickled(file).items()}
    if file.suffix != ".npy":
        raise WeightsError(f"{file} is of an unknown kind", fix="pass a .npy, .safetensors, .pt or .pth file")
    data = io.BytesIO(read_regular(file, limit=MAX_ARRAY_BYTES))
    try:
        return {"": torch.from_numpy(np.lib.format.read_array(data, allow_pickle=False))}
    except (*BAD_FILE, SyntaxError, tokenize.TokenError) as error:
        raise WeightsError(f"{file} is not an array of NumPy: {first_line(error)}") from error


def _json(path: Path) -> dict[str, Any]:
    return _parsed(read_regular(path, limit=MAX_JSON_BYTES), path)


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} does not begin with a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def _allow(path: Path, key: str, given: object, *allowed: object) -> None:
    if given not in allowed:
        names = ", ".join(map(str, allowed))
        raise WeightsError(f"{path}: dictionaries with {key} {given!r} are not computed here; allowed: {names}")


def _normalisation(path: Path, config: Mapping[str, Any]) -> str:
    given = config.get("normalize_activations") or "none"
    if given in (True, "expected_average_only_in"):
        raise WeightsError(
            f"{path}: this dictionary takes activations scaled by a factor that no file holds",
            fix="fold it in with SAELens: sae.fold_activation_norm_scaling_factor(factor), and save it again",
        )
    _allow(path, "normalize_activations", given, *NORMALISATIONS)
    return str(given)


def _check(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path, more: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise `WeightsError` unless the tensors are those of an autoencoder of the sizes in `config`."""
    units, latents = config.get("d_in"), config.get("d_sae")
    if type(units) is not int or type(latents) is not int or not units > 0 or not latents > 0:
        raise WeightsError(f"{path}: d_in and d_sae must be positive whole numbers, got {units!r} and {latents!r}")
    shapes = {"W_enc": (units, latents), "b_enc": (latents,), "W_dec": (latents, units), "b_dec": (units,)}
    shapes |= {name: (latents,) if axes else () for name, axes in more.items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    check_shapes(shapes, found, str(path.parent), f"a dictionary of {units} units and {latents} latents")
