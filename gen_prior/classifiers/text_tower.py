"""`TextTower`: text -> vector in the space that the outputs of a CLIP-like image tower share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gen_prior.errors import TargetError
from gen_prior.hub.files import Files

TOKENISER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
)
"""Files of which a tokeniser may consist."""


@dataclass(frozen=True)
class TextTower:
    """The text half of a CLIP-like model, whose image half is a classifier.

    Attributes:
        encode: text -> its vector `[D]`, as long as the classifier's output. Raises `TargetError` for a text that is
            empty or longer than the model reads.
        scale, bias: the model's logit of an image and a text is scale * cosine + bias.
    """

    encode: Callable[[str], Tensor]
    scale: float = 1.0
    bias: float = 0.0


def text_half(model: Any, files: Files, library: ModuleType) -> TextTower | None:
    """The text half, on the CPU, of a dual model of transformers (`library`), with the tokeniser in `files`.

    None where `files` hold no tokeniser.
    """
    found = [path for name in TOKENISER if (path := files.find_optional(name)) is not None]
    if not found:
        return None
    folder, limit = found[0].parent, int(model.config.text_config.max_position_embeddings)

    def encode(text: str) -> Tensor:
        tokeniser = library.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokens = tokeniser(text, padding="max_length", max_length=limit, return_tensors="pt")["input_ids"]
        if not text.strip() or tokens.shape[1] > limit:
            length = f"has {tokens.shape[1]} tokens" if text.strip() else "is empty"
            raise TargetError(f"the text {text!r} {length}; this network reads 1 to {limit} tokens")
        with torch.no_grad():
            vector = model.get_text_features(input_ids=tokens)
        result: Tensor = getattr(vector, "pooler_output", vector)[0].float()
        return result

    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return TextTower(
        encode,
        scale=1.0 if scale is None else float(scale.detach().exp()),
        bias=0.0 if bias is None else float(bias.detach()),
    )
