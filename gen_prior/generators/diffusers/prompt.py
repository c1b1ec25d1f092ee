"""Text -> the embedding that a Stable Diffusion network is conditioned on, by the text encoders of its repository."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gen_prior.errors import MissingExtraError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, load_frozen, rename_tensors
from gen_prior.hub.tensors import read_tensors

TOKENISER = ("vocab.json", "merges.txt", "tokenizer_config.json")
PREFIX = "text_model."
"""Prefix of the tensors' names in published files; some versions of transformers leave it out."""
MOST_TOKENS = 4096
"""Most tokens to which a tokeniser may fill up a text; CLIP's have 77."""


class Prompt(NamedTuple):
    """Embeddings of a text: `tokens` `[T, D]`, and for SDXL the `pooled` one `[P]` of the whole text."""

    tokens: Tensor
    pooled: Tensor | None

    def flat(self) -> Tensor:
        """All numbers, `[T D + P]`."""
        return torch.cat([self.tokens.flatten(), *([self.pooled] if self.pooled is not None else [])])

    def spread(self) -> Tensor:
        """For each number of `flat`, the standard deviation of its part."""
        parts = [self.tokens.flatten(), *([self.pooled] if self.pooled is not None else [])]
        return torch.cat([part.std().clamp_min(1e-6).expand_as(part) for part in parts])


def encode_prompt(files: Files, text: str, two_encoders: bool, variant: str | None) -> Prompt:
    """Encode `text` as diffusers' pipelines do: one encoder's output (SD 2), or the last but one layer of two (SDXL).

    Raises `MissingExtraError`, `WeightsError`, `DownloadError`.
    """
    if not two_encoders:
        with torch.no_grad():
            return Prompt(_encoder(files, "", variant)(_token_numbers(files, "", text))[0][0], None)
    layers, pooled = [], None
    for suffix in ("", "_2"):
        encoder, numbers = _encoder(files, suffix, variant), _token_numbers(files, suffix, text)
        with torch.no_grad():
            made = encoder(numbers, output_hidden_states=True)
        layers.append(made.hidden_states[-2][0])
        pooled = made[0][0] if made[0].ndim == 2 else pooled
    return Prompt(torch.cat(layers, 1), pooled)


def _token_numbers(files: Files, suffix: str, text: str) -> Tensor:
    """Token numbers `[1, T]` of `text`, filled up or cut to the tokeniser's length."""
    paths = [files.get(f"tokenizer{suffix}/{name}") for name in TOKENISER]
    files.find(f"tokenizer{suffix}/special_tokens_map.json")
    tokeniser = _class("CLIPTokenizer").from_pretrained(str(paths[0].parent), local_files_only=True)
    length = tokeniser.model_max_length
    if not isinstance(length, int) or not 1 <= length <= MOST_TOKENS:  # the library would end the process
        raise WeightsError(
            f"{files.source}/tokenizer{suffix}/{TOKENISER[2]}: model_max_length is {length}, not 1 to {MOST_TOKENS}"
        )
    made = tokeniser(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    numbers: Tensor = made.input_ids
    return numbers


def _encoder(files: Files, suffix: str, variant: str | None) -> Any:
    """The text encoder in `text_encoder{suffix}/`; checks names and shapes."""
    folder = f"text_encoder{suffix}/"
    config = files.json(f"{folder}config.json")
    projects = "CLIPTextModelWithProjection" in (config.get("architectures") or [])
    kind = _class("CLIPTextModelWithProjection" if projects else "CLIPTextModel")
    settings = _class("CLIPTextConfig")(**config)
    network = build_on_meta(lambda: kind(settings), f"{files.source}/{folder}config.json")
    stem = f"model.{variant}" if variant else "model"
    path = files.weights(*(f"{folder}{name}" for name in (f"{stem}.safetensors", f"pytorch_{stem}.bin")))
    file = f"{files.source}/{folder}{path.name}"
    own = {name.removeprefix(PREFIX): name for name in network.state_dict()}
    tensors = {key: value for key, value in read_tensors(path).items() if not key.endswith("position_ids")}
    tensors = rename_tensors(tensors, lambda key: own.get(key.removeprefix(PREFIX), key), file)
    load_frozen(network, tensors, file, kind.__name__)
    for name, buffer in list(network.named_buffers()):
        module, _, last = name.rpartition(".")
        if last == "position_ids":  # no file needs to hold it
            setattr(network.get_submodule(module), last, torch.arange(buffer.shape[-1])[None])
    return network


def _class(name: str) -> Any:
    try:
        return getattr(importlib.import_module("transformers"), name)
    except ImportError as error:
        raise MissingExtraError("prompts need transformers", fix="pip install 'gen-prior[diffusers]'") from error


__all__ = ["Prompt", "encode_prompt"]
