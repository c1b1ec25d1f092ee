"""Files that name or describe units: dictionaries in every layout, directions, tables of natural statistics."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import pickled
from fuzz.mutations import LONG, as_text, damaged, damaged_header, damaged_json, fuzz
from safetensors.torch import save

from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError
from gen_prior.objectives.dictionary_formats import load_dictionary, load_directions
from gen_prior.objectives.natural_statistics import LEVELS, NaturalStatistics
from gen_prior.objectives.targets import parse_target

COUNTS = pytest.mark.parametrize("count", [15, pytest.param(500, marks=LONG)])
STATE = {"W_enc": torch.randn(5, 9), "b_enc": torch.randn(9), "W_dec": torch.randn(9, 5), "b_dec": torch.randn(5)}
SAELENS = {
    "architecture": "topk", "k": 3, "d_in": 5, "d_sae": 9, "apply_b_dec_to_input": True, "activation_fn": "topk",
    "activation_fn_kwargs": {"k": 3}, "normalize_activations": "none", "metadata": {"hook_name": "blocks.3"},
}  # fmt: skip
PRISMA = {
    "d_in": 5, "d_sae": 9, "hook_point_layer": 3, "layer_subtype": "hook_mlp_out", "activation_fn_str": "topk",
    "activation_fn_kwargs": {"k": 3}, "normalize_activations": "layer_norm",
}  # fmt: skip
SAEV = {"schema": 5, "cfg": {"d_model": 5, "d_sae": 9, "activation": {"cls": "TopK", "params": {"top_k": 3}}}}


def read(folder: Path) -> None:
    """Load the dictionary in a folder and read a latent by it."""
    with contextlib.suppress(GenPriorError):
        load_dictionary(folder).latent(0)(torch.randn(2, 5))


@COUNTS
@pytest.mark.parametrize(
    ("config", "valid", "weights", "data"),
    [
        ("cfg.json", SAELENS, "sae_weights.safetensors", save(STATE)),
        ("config.json", PRISMA, "weights.pt", pickled(STATE)),
    ],
)
def test_dictionaries(count: int, config: str, valid: Any, weights: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / weights).write_bytes(data)

    def check(changed: Any) -> None:
        (tmp_path / config).write_text(as_text(changed), encoding="utf-8", errors="surrogatepass")
        read(tmp_path)

    check(valid)
    assert load_dictionary(tmp_path).width == 5
    fuzz(count, damaged_json(valid), check, [valid | {"d_sae": 2**70}, valid | {"activation_fn_kwargs": 5}])
    check(valid)

    def check_weights(changed: bytes) -> None:
        (tmp_path / weights).write_bytes(changed)
        read(tmp_path)

    fuzz(count, damaged(data), check_weights, [b""])


@COUNTS
def test_dictionaries_of_saev(count: int, tmp_path: Path) -> None:
    weights = pickled(STATE)

    def check(header: Any) -> None:
        (tmp_path / "sae.pt").write_bytes(as_text(header).encode(errors="surrogatepass") + b"\n" + weights)
        read(tmp_path)

    check(SAEV)
    assert load_dictionary(tmp_path).width == 5
    fuzz(count, damaged_json(SAEV), check)


@COUNTS
@pytest.mark.parametrize("ending", ["npy", "safetensors", "pt"])
def test_directions(count: int, ending: str, tmp_path: Path) -> None:
    path, rows, buffer = tmp_path / f"rows.{ending}", torch.randn(3, 12), io.BytesIO()
    np.save(buffer, rows.numpy())
    valid = {"npy": buffer.getvalue(), "safetensors": save({"x": rows}), "pt": pickled({"x": rows})}[ending]

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(GenPriorError):
            load_directions(path).latent(1)(torch.randn(2, 12))

    claims = valid.replace(b"(3, 12)", b"(9**9,)").replace(b"[3,12]", b"[3,99]")
    huge = valid.replace(b"(3, 12), }         ", b"(3, 999999999999)}")
    known = [b"", valid[:30], claims, huge, b"PK\3\4" + valid, valid.replace(b"{", b"")]
    fuzz(count, damaged(valid), check, known)


@COUNTS
def test_tables_of_photographs(count: int, tiny_classifier: Classifier, tmp_path: Path) -> None:
    path, source = tmp_path / "table.safetensors", torch.Generator().manual_seed(0)
    conv2 = torch.rand(3, len(LEVELS), 12, generator=source).sort(1).values
    NaturalStatistics({"conv2": conv2}, {"conv2": conv2[1, 0]}, {"images": "10"}).save(path)
    valid, target = path.read_bytes(), parse_target("conv2:3", tiny_classifier)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(GenPriorError):
            found = NaturalStatistics.load(path).of(target)
            assert found is None or (0 <= found.quantile(0.5) <= 1 and len(found.quantiles) == len(LEVELS))

    fuzz(
        count,
        damaged(valid),
        check,
        [valid.replace(b'"10"', b'"ab"'), valid.replace(b"quantiles/conv2", b"quantiles/conv3")],
    )
    fuzz(count, damaged_header(valid), check)
    whole = json.loads(valid[8 : 8 + int.from_bytes(valid[:8], "little")])
    assert "stored" in whole["__metadata__"]
