"""The embedded prior and its file format: it loads, it is what its metadata says, and damage is refused."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import gen_prior as gp
from gen_prior.errors import WeightsError
from gen_prior.generators.dgn import FILE, from_file, load_folder
from gen_prior.tensor_files import read_file_metadata, read_tensors

EMBEDDED = resources.files("gen_prior.weights").joinpath("dgn-lite0.safetensors")


@pytest.fixture(scope="module")
def data() -> bytes:
    return EMBEDDED.read_bytes()


@pytest.fixture(scope="module")
def parts() -> tuple[dict[str, Tensor], dict[str, str]]:
    with resources.as_file(EMBEDDED) as path:
        return read_tensors(path), read_file_metadata(path)


def read(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    save_file(tensors, path, metadata)
    from_file(path, name="x", origin="here", source="x")


def test_the_embedded_prior_is_what_its_metadata_says(data: bytes, parts: tuple[dict[str, Tensor], dict[str, str]]):
    generator = gp.load_generator("dgn-lite0", device="cpu")
    config = json.loads(parts[1]["config"])
    assert len(data) < 32_000_000
    assert generator.code_shape == (config["directions"],)
    assert generator.image_shape() == (2 * config["size"],) * 2, "its last stage doubles the side"
    assert config["refiner"] > 0
    assert {"training", "refining", "data", "refining_data", "classifier", "history"} <= set(parts[1])
    assert generator.provenance.licence == "Apache-2.0"
    images = generator(torch.stack([generator.initial_code(seed) for seed in range(4)]))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(1).min() > 0.05, "a random code gives a picture, not a grey square"
    assert (images[0] - images[1]).abs().mean() > 0.05


def test_random_codes_have_the_colours_of_photographs(parts: tuple[dict[str, Tensor], dict[str, str]]):
    generator = gp.load_generator("dgn-lite0", device="cpu")
    images = generator(torch.stack([generator.initial_code(seed) for seed in range(32)]))
    assert 0.3 < images.mean() < 0.6
    neighbours = torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()])
    assert torch.corrcoef(neighbours)[0, 1] > 0.6, "neighbouring pixels of noise have nothing in common"


def test_a_folder_loads_to_the_same_network(data: bytes, tmp_path: Path):
    (tmp_path / FILE).write_bytes(data)
    ours = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
    embedded = gp.load_generator("dgn-lite0", device="cpu")
    code = embedded.initial_code(3)[None]
    assert torch.equal(ours(code), embedded(code))
    with pytest.raises(WeightsError, match=r"no generator\.safetensors"):
        load_folder(tmp_path / "empty")


@pytest.mark.parametrize("keep", [0, 7, 100, 4000, -1])
def test_a_truncated_file_is_refused(data: bytes, tmp_path: Path, keep: int):
    path = tmp_path / FILE
    path.write_bytes(data[:keep])
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))} is damaged.*, not a safetensors file") as caught:
        from_file(path, name="x", origin="here", source="x")
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused(parts: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path):
    tensors, metadata = parts
    path = tmp_path / FILE
    read(path, tensors, metadata)
    with pytest.raises(WeightsError, match="here does not fit this network: it lacks mean"):
        read(path, {name: value for name, value in tensors.items() if name != "mean"}, metadata)
    with pytest.raises(WeightsError, match="has extra besides"):
        read(path, {**tensors, "extra": torch.zeros(1)}, metadata)
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))}: mean holds values that are not finite"):
        read(path, {**tensors, "mean": tensors["mean"] * torch.nan}, metadata)
    with pytest.raises(WeightsError, match="format"):
        read(path, tensors, {**metadata, "format": "other"})
    config = json.loads(metadata["config"])
    with pytest.raises(WeightsError, match=r"where .* is expected"):
        read(path, tensors, {**metadata, "config": json.dumps(config | {"directions": config["directions"] - 1})})
    for absurd in (
        {"size": 65536},
        {"size": float("inf")},
        {"size": "big"},
        {"directions": 10**12},
        {"directions": -1},
        {"width": 1e6},
        {"width": float("inf")},
        {"code_channels": 2**24, "directions": 1},
        {"refiner": 5000},
    ):
        with pytest.raises(WeightsError, match="here"):
            read(path, tensors, {**metadata, "config": json.dumps(config | absurd)})
    with pytest.raises(WeightsError, match="here is damaged"):
        read(path, tensors, {**metadata, "config": "[1]"})


@pytest.mark.parametrize("recipe", ["{", "[1]", '{"a": 1}', '{"edits": [1]}', '{"steps": "x"}'])
def test_a_recipe_that_is_none_is_refused(parts: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, recipe: str):
    tensors, metadata = parts
    with pytest.raises(WeightsError, match="here states a recipe that is none"):
        read(tmp_path / FILE, tensors, {**metadata, "recipe": recipe})
