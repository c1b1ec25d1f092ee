"""The embedded prior and its file format: it loads, it is what its metadata says, and damage is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import gen_prior as gp
from gen_prior.applications.publish import export
from gen_prior.errors import WeightsError
from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.flow import EXEMPLAR_GAIN, EXEMPLAR_STEPS, FEATURE_SCALE, FEATURE_STD, CodeFlow
from gen_prior.generators.dgn.generator import EXEMPLAR_SHARE, FILE, FLOW_RECIPE, FORMAT, from_file
from gen_prior.generators.dgn.network import Decoder, WhitenedDecoder
from gen_prior.hub.tensors import read_file_metadata, read_tensors

EMBEDDED = resources.files("gen_prior.weights").joinpath("dgn-lite0.safetensors")


@pytest.fixture(scope="module")
def data() -> bytes:
    return EMBEDDED.read_bytes()


@pytest.fixture(scope="module")
def parts() -> tuple[dict[str, Tensor], dict[str, str]]:
    with resources.as_file(EMBEDDED) as path:
        return read_tensors(path), read_file_metadata(path)


def read(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> gp.Generator:
    save_file(tensors, path, metadata)
    return from_file(path, name="x", origin="here", source="x")


def test_the_embedded_prior_is_what_its_metadata_says(
    data: bytes, parts: tuple[dict[str, Tensor], dict[str, str]]
) -> None:
    generator = gp.load_generator("dgn-lite0", device="cpu")
    config = json.loads(parts[1]["config"])
    assert len(data) < 32_000_000
    assert generator.code_shape == (config["flow"]["features"] + config["directions"] + config["details"],)
    assert generator.image_shape() == (4 * config["size"],) * 2, "details double the side, and so does grain"
    assert min(config["details"], config["grain"]) > 0
    records = {"training", "refining", "flow", "detailing", "data", "refining_data", "flow_data", "detailing_data"}
    assert records | {"classifier", "classes", "history"} <= set(parts[1])
    assert generator.provenance.licence == "Apache-2.0"
    images = generator(torch.stack([generator.initial_code(seed) for seed in range(4)]))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(1).min() > 0.05, "a random code gives a picture, not a grey square"
    assert (images[0] - images[1]).abs().mean() > 0.05


def test_random_codes_have_the_colours_of_photographs(parts: tuple[dict[str, Tensor], dict[str, str]]) -> None:
    generator = gp.load_generator("dgn-lite0", device="cpu")
    images = generator(torch.stack([generator.initial_code(seed) for seed in range(32)]))
    assert 0.3 < images.mean() < 0.6
    neighbours = torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()])
    assert torch.corrcoef(neighbours)[0, 1] > 0.6, "neighbouring pixels of noise have nothing in common"


def test_a_folder_loads_to_the_same_network(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    ours = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
    embedded = gp.load_generator("dgn-lite0", device="cpu")
    code = embedded.initial_code(3)[None]
    assert torch.equal(ours(code), embedded(code))
    with pytest.raises(WeightsError, match=r"no folder"):
        gp.load_generator(f"local-dir:{tmp_path / 'empty'}", device="cpu")


@pytest.mark.parametrize("keep", [0, 7, 100, 4000, -1])
def test_a_truncated_file_is_refused(data: bytes, tmp_path: Path, keep: int) -> None:
    path = tmp_path / FILE
    path.write_bytes(data[:keep])
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))} is damaged.*, not a safetensors file") as caught:
        from_file(path, name="x", origin="here", source="x")
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused(parts: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path) -> None:
    tensors, metadata = parts
    path = tmp_path / FILE
    read(path, tensors, metadata)
    with pytest.raises(WeightsError, match="here does not fit this network: it lacks mean"):
        read(path, {name: value for name, value in tensors.items() if name != "mean"}, metadata)
    with pytest.raises(WeightsError, match="has unexpected extra"):
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
        {"coring": -1},
        {"coring": float("nan")},
        {"grain": -1},
        {"grain": float("inf")},
    ):
        with pytest.raises(WeightsError, match="here"):
            read(path, tensors, {**metadata, "config": json.dumps(config | absurd)})
    with pytest.raises(WeightsError, match="here is damaged"):
        read(path, tensors, {**metadata, "config": "[1]"})


@pytest.mark.parametrize("recipe", ["{", "[1]", '{"a": 1}', '{"edits": [1]}', '{"steps": "x"}'])
def test_a_recipe_that_is_none_is_refused(
    parts: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, recipe: str
) -> None:
    tensors, metadata = parts
    with pytest.raises(WeightsError, match="here holds an invalid recipe"):
        read(tmp_path / FILE, tensors, {**metadata, "recipe": recipe})


FLOW = FlowConfig(features=3, width=16, depth=2, classes=4, steps=4, guidance=3.0)
KEYS = ["n01443537", "bee", "crane", "crane"]


@pytest.fixture
def flowing() -> tuple[dict[str, Tensor], dict[str, str]]:
    """A small prior of 10 directions behind a flow of 4 classes, two of them called the same."""
    torch.manual_seed(0)
    flow = CodeFlow(10, FLOW)
    flow.classes.copy_(torch.eye(4)[:, :3])
    flow.exit.weight.data.normal_(std=0.1)
    for block in flow.blocks:
        block.modulation.weight.data.normal_(std=0.1)  # type: ignore[union-attr, operator]
    network = WhitenedDecoder(Decoder(4, 64, 0.125), torch.zeros(4, 4, 4), torch.randn(64, 10), flow=flow)
    config = network.config.to_dict()
    metadata = {"format": FORMAT, "config": json.dumps(config), "classes": json.dumps(KEYS)}
    return {key: value.detach().half() for key, value in network.state_dict().items()}, metadata


def test_behind_a_flow_codes_are_features_and_noise(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path
) -> None:
    save_file(flowing[0], tmp_path / FILE, flowing[1])
    generator = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
    assert generator.code_shape == (3 + 10,)
    assert generator.image_shape() == (64, 64)
    noise = generator.initial_code(5)
    for key, features in (("n01443537", [FEATURE_SCALE, 0, 0]), ("bee", [0, FEATURE_SCALE, 0])):
        code = generator.initial_code(5, key)
        torch.testing.assert_close(code[:3], torch.tensor(features) + FEATURE_STD * noise[:3])
        assert torch.equal(code[3:], noise[3:])
        assert not torch.equal(generator(code[None]), generator(noise[None]))
    assert torch.equal(generator.initial_code(5, "wasp"), noise), "a class that the file does not name"
    assert torch.equal(generator.initial_code(5, "crane"), noise), "a name of two classes says neither"


def test_seeds_of_a_class_take_its_exemplars_in_turn(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path
) -> None:
    tensors, metadata = flowing
    layouts = torch.randint(-127, 128, (4, 2, 10), dtype=torch.int8)
    config = json.loads(metadata["config"])
    config["flow"]["layouts"] = 2
    described = {**metadata, "config": json.dumps(config)}
    save_file({**tensors, "flow.layouts": layouts}, tmp_path / FILE, described)
    generator = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
    chosen = set()
    for seed in range(10):
        code, noise = generator.initial_code(seed, "bee"), generator.initial_code(seed)
        place = seed if seed < 2 else int(noise[3] > 0)
        chosen.add((seed < 2, place))
        form = layouts[1, place].float() * EXEMPLAR_GAIN / EXEMPLAR_STEPS
        mixed = EXEMPLAR_SHARE * form + (1 - EXEMPLAR_SHARE**2) ** 0.5 * noise[3:]
        torch.testing.assert_close(code[3:], form if seed < 2 else mixed)
        torch.testing.assert_close(code[:3], FEATURE_SCALE * torch.tensor([0.0, 1, 0]) + FEATURE_STD * noise[:3])
    assert len(chosen) == 4, "later seeds take either too"
    assert generator.recipe.rate < FLOW_RECIPE.rate, "large steps lose the form"
    with pytest.raises(WeightsError, match=r"here: flow\.layouts is of type torch\.float32, not torch\.int8"):
        read(tmp_path / FILE, {**tensors, "flow.layouts": layouts.float()}, described)
    with pytest.raises(WeightsError, match=r"layouts \[4, 2, 9\] where"):
        read(tmp_path / FILE, {**tensors, "flow.layouts": layouts[..., :9].contiguous()}, described)


def test_a_flow_whose_classes_have_no_names_starts_at_none(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path
) -> None:
    for metadata in ({**flowing[1], "classes": "[]"}, {key: flowing[1][key] for key in ("format", "config")}):
        save_file(flowing[0], tmp_path / FILE, metadata)
        generator = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
        assert torch.equal(generator.initial_code(5, "bee"), generator.initial_code(5))


@pytest.mark.parametrize("classes", ["[1]", '["a", "b", "c", "d", "e"]', "{", "5", "null"])
def test_class_keys_that_do_not_fit_the_flow_are_refused(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, classes: str
) -> None:
    with pytest.raises(WeightsError, match=r"^here (is damaged|names [15] classes, but its flow knows 4)"):
        read(tmp_path / FILE, flowing[0], {**flowing[1], "classes": classes})


@pytest.mark.parametrize(
    "absurd",
    [
        {"features": 0},
        {"features": -3},
        {"features": 10**9},
        {"width": -1},
        {"width": 5000},
        {"depth": 0},
        {"depth": 10**6},
        {"layouts": -1},
        {"layouts": 2},
        {"layouts": 10**9},
        {"classes": 0},
        {"classes": 2**28, "features": 2},
        {"classes": 5},
        {"steps": 0},
        {"steps": -4},
        {"steps": 10**9},
        {"steps": "many"},
        {"steps": float("inf")},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"guidance": 1e30},
        {"guidance": None},
    ],
)
def test_absurd_flows_are_refused(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, absurd: dict[str, Any]
) -> None:
    config = json.loads(flowing[1]["config"])
    with pytest.raises(WeightsError, match=r"^here"):
        read(
            tmp_path / FILE,
            flowing[0],
            {**flowing[1], "config": json.dumps(config | {"flow": FLOW.to_dict() | absurd})},
        )


@pytest.mark.parametrize("name", [name for name in FLOW.to_dict() if name != "layouts"])
def test_a_flow_that_is_described_in_part_is_refused(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, name: str
) -> None:
    config = json.loads(flowing[1]["config"])
    del config["flow"][name]
    with pytest.raises(WeightsError, match=f"here is damaged: '{name}'"):
        read(tmp_path / FILE, flowing[0], {**flowing[1], "config": json.dumps(config)})
    for instead in (None, [1], "flow", 7):
        with pytest.raises(WeightsError, match=r"^here"):
            read(tmp_path / FILE, flowing[0], {**flowing[1], "config": json.dumps(config | {"flow": instead})})


def test_a_flow_may_know_more_classes_than_imagenet(
    flowing: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path
) -> None:
    config = json.loads(flowing[1]["config"]) | {"flow": replace(FLOW, classes=21_841).to_dict()}
    classes = torch.nn.functional.normalize(torch.randn(21_841, 3, generator=torch.Generator().manual_seed(0)))
    keys = [f"class {number}" for number in range(21_841)]
    metadata = {**flowing[1], "config": json.dumps(config), "classes": json.dumps(keys)}
    generator = read(tmp_path / FILE, {**flowing[0], "flow.classes": classes}, metadata)
    last, noise = generator.initial_code(0, keys[-1]), generator.initial_code(0)
    torch.testing.assert_close(last[:3], FEATURE_SCALE * classes[-1] + FEATURE_STD * noise[:3])


def test_the_prior_without_its_flow_has_the_decoders_own_code(tmp_path: Path) -> None:
    behind_flow = gp.load_generator("dgn-lite0", device="cpu")
    plain = gp.load_generator("dgn-lite0-gaussian", device="cpu")
    network: Any = behind_flow.module
    directions, coarse, details = network.basis.shape[1], network.coarse_dims, network.details.dims
    assert plain.code_shape == (directions + details,)
    assert behind_flow.code_shape[0] == coarse + details > directions + details
    assert plain.recipe.edits != behind_flow.recipe.edits
    code = behind_flow.initial_code(0, "n01443537")[None]
    white = torch.cat([network.flow(code[:, :coarse]), code[:, coarse:]], 1)
    assert torch.equal(plain(white), behind_flow(code)), "one decoder"
    assert torch.equal(plain.initial_code(0, "n01443537"), plain.initial_code(0)), "it begins nearer to no class"

    export("dgn-lite0-gaussian", tmp_path / "out", samples=1)
    exported = gp.load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu")
    code = plain.initial_code(1)[None]
    assert torch.equal(exported(code), plain(code))
    assert exported.recipe == plain.recipe
