"""Folders of generators: damaged configurations and tensors raise errors of ours, in bounded time and memory."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz.mutations import LONG, as_text, damaged, damaged_header, damaged_json, fuzz
from fuzz.small_generators import FAMILIES, Folder
from hypothesis import strategies as st
from limits import bounded
from safetensors.torch import load, save
from torch import nn

import gen_prior as gp
from gen_prior.errors import GenPriorError
from gen_prior.generators.code_statistics import FILE as STATISTICS
from gen_prior.generators.code_statistics import Accumulator
from gen_prior.generators.code_statistics import save as save_statistics
from gen_prior.generators.dgn.generator import FILE
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.networks import Encoder, FeatureExtractor
from gen_prior.training.prior_file import NETWORKS_FILE, open_prior
from gen_prior.training.stages.class_exemplars import ClassExemplarsStage, ExemplarSettings

COUNTS = pytest.mark.parametrize("count", [4, pytest.param(40, marks=LONG)])
EACH = pytest.mark.parametrize("family", FAMILIES)
SECONDS, MEMORY = 20, 2**31
"""Most that loading one of these small generators may take of time, and ask for of memory."""
IN_CONFIGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "one-step": [("tokenizer/tokenizer_config.json", {"model_max_length": length}) for length in (10**9, 10**30, -1)],
}
"""Family -> file, and what an attacker changes in it."""
IN_METADATA: list[dict[str, str]] = [
    *({key: text} for key in ("config", "recipe", "classes", "flow") for text in ("[" * 5000, "3", "")),
    *({"flow": json.dumps({"view": view})} for view in (10**9, "x", -1, None)),
]
"""What an attacker changes in the metadata of a prior."""
IN_ENCODERS: list[dict[str, torch.Tensor]] = [
    {"encoder.scales.0": torch.tensor(1.0)},
    {"encoder.scales.1": torch.zeros(2**40, 0)},
    {"encoder.exit.weight": torch.zeros(2**40, 0)},
    {"encoder.exit.weight": torch.tensor(1.0)},
    {"encoder.exit.weight": torch.zeros(0, 3)},
]
"""What an attacker changes in the tensors of an encoder."""


@pytest.fixture
def folder(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a generator of that family, which loads."""
    files: Folder = FAMILIES[family](monkeypatch, tmp_path)
    for name, data in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert gp.load_generator(f"local-dir:{tmp_path / 'model'}", device="cpu").module is not None
    return tmp_path / "model"


def check_file(path: Path, folder: Path, data: bytes) -> None:
    """Load the generator in `folder` with other bytes in one of its files."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        with contextlib.suppress(GenPriorError), bounded(SECONDS, MEMORY):
            gp.load_generator(f"local-dir:{folder}", device="cpu")
    finally:
        path.write_bytes(before)


@EACH
@COUNTS
def test_configurations(count: int, family: str, folder: Path) -> None:
    paths = [path for path in folder.rglob("*.json") if path.stat().st_size < 4000]

    def check(change: tuple[Path, Any]) -> None:
        path, value = change
        check_file(path, folder, as_text(value).encode(errors="surrogatepass"))

    changes = [st.tuples(st.just(path), damaged_json(json.loads(path.read_text()))) for path in paths]
    known = [
        (folder / name, json.loads((folder / name).read_text()) | changed)
        for name, changed in IN_CONFIGS.get(family, [])
    ]
    if changes:  # a prior's is in its metadata
        fuzz(count, st.one_of(changes), check, known)


@EACH
@COUNTS
def test_tensors(count: int, family: str, folder: Path) -> None:
    weights, texts = sorted(folder.rglob("*.safetensors")), sorted(folder.rglob("*.txt"))

    def check(change: tuple[Path, bytes]) -> None:
        check_file(change[0], folder, change[1])

    for strategy, paths in ((damaged_header, weights), (damaged, weights + texts)):
        fuzz(count, st.one_of([st.tuples(st.just(path), strategy(path.read_bytes())) for path in paths]), check)


def check_prior(folder: Path) -> None:
    """Load a prior as a user does, and as stages of training do."""
    with contextlib.suppress(GenPriorError), bounded(SECONDS, MEMORY):
        gp.load_generator(f"local-dir:{folder}", device="cpu")
    with contextlib.suppress(GenPriorError), bounded(SECONDS, MEMORY):
        ClassExemplarsStage.completed(ExemplarSettings(), open_prior(folder, None))


@COUNTS
@pytest.mark.parametrize("family", ["dgn"])
def test_metadata_of_priors(count: int, family: str, folder: Path) -> None:
    path = folder / FILE
    valid, tensors, metadata = path.read_bytes(), load(path.read_bytes()), read_file_metadata(path)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        check_prior(folder)

    config = json.loads(metadata["config"])
    slow = {"config": json.dumps(config | {"flow": config["flow"] | {"steps": 4096}})}
    known = [save(tensors, metadata | changed) for changed in (*IN_METADATA, slow)]
    fuzz(2 * count, damaged_header(valid), check, known)


@COUNTS
@pytest.mark.parametrize("family", ["dgn"])
def test_encoders_of_priors(count: int, family: str, folder: Path) -> None:
    layers = [
        nn.Conv2d(3, 4, 4, 4),
        nn.Conv2d(4, 5, 2, 2),
        nn.Conv2d(5, 6, 2, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    classifier = gp.Classifier(nn.Sequential(*layers, nn.Linear(6, 2)).eval(), input_size=64, name="small")
    channels = FeatureExtractor(classifier, 64).channels
    path, valid = folder / NETWORKS_FILE, Encoder(channels, 4).state_dict()
    tensors = {f"encoder.{key}": value.contiguous() for key, value in valid.items()}
    path.write_bytes(save(tensors))
    open_prior(folder, classifier)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(GenPriorError), bounded(SECONDS, MEMORY):
            open_prior(folder, classifier)

    known = [save(tensors | changed) for changed in IN_ENCODERS]
    for strategy in (damaged_header, damaged):
        fuzz(count, strategy(save(tensors)), check, known)


@COUNTS
@pytest.mark.parametrize("family", ["titok"])
def test_statistics(count: int, family: str, folder: Path) -> None:
    generator = gp.load_generator(f"local-dir:{folder}", device="cpu")
    codes = Accumulator(generator.code_shape)
    codes.add(torch.randn(5, *generator.code_shape, generator=torch.Generator().manual_seed(0)))
    save_statistics(codes.result(), generator)
    for strategy in (damaged_header, damaged):
        data = (folder / STATISTICS).read_bytes()
        fuzz(count, strategy(data), lambda changed: check_file(folder / STATISTICS, folder, changed))
