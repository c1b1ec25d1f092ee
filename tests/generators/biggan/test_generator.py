"""BigGAN-deep: equal to the published PyTorch network on its own checkpoints."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN as PublishedBigGAN
from pytorch_pretrained_biggan import BigGANConfig
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, UnknownNameError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.biggan import format as biggan_format
from gen_prior.generators.biggan import generator as biggan
from gen_prior.generators.shared.checks import class_index
from gen_prior.hub.files import Files
from gen_prior.optimise.presets import preset, preset_options
from gen_prior.optimise.synthesize import synthesize

SMALL: dict[str, Any] = {
    "output_dim": 32,
    "z_dim": 12,
    "class_embed_dim": 12,
    "channel_width": 8,
    "num_classes": 10,
    "layers": [[False, 16, 16], [True, 16, 8], [False, 8, 8], [True, 8, 4], [True, 4, 2], [False, 2, 1]],
    "attention_layer_position": 4,
    "eps": 1e-4,
    "n_stats": 51,
}


def published(config: dict[str, Any] = SMALL, seed: int = 0) -> PublishedBigGAN:
    """The reference network with random weights: spectral norms converged, statistics as of a trained network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PublishedBigGAN(BigGANConfig.from_dict(config))
        for name, tensor in network.state_dict().items():
            if "running_means" in name or name.endswith("bn.bias"):
                tensor.normal_(0, 0.3)
            elif "running_vars" in name or name.endswith("bn.weight"):
                tensor.uniform_(0.5, 2)
            elif name.endswith("gamma"):
                tensor.fill_(0.7)
            elif name == "embeddings.weight":
                tensor.normal_(0, 0.2)
        network.train()
        with torch.no_grad():
            for _ in range(4):  # each training pass is one power iteration of every spectral norm
                network(torch.randn(2, config["z_dim"]), torch.eye(config["num_classes"])[:2], 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def reference() -> PublishedBigGAN:
    return published()


@pytest.fixture(scope="module")
def folder(reference: PublishedBigGAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the published layout."""
    path = tmp_path_factory.mktemp("biggan")
    (path / "config.json").write_text(json.dumps(SMALL))
    torch.save(reference.state_dict(), path / "pytorch_model.bin")
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.hub.convert.cache_folder", lambda: tmp_path / "cache")


def load(folder: Path, **options: Any) -> Generator:
    return biggan.from_files(Files.from_folder(folder), name="biggan", **options)


def reference_images(network: PublishedBigGAN, codes: Tensor, truncation: float) -> Tensor:
    with torch.no_grad():
        images: Tensor = network.generator(codes, truncation)
    return images * 0.5 + 0.5


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.4, 0.37, 0.013])
def test_equal_to_the_published_network(reference: PublishedBigGAN, folder: Path, truncation: float) -> None:
    codes = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    images = load(folder, truncation=truncation)(codes)
    expected = reference_images(reference, codes, truncation)
    assert images.shape == (3, 3, 32, 32)
    assert expected.std() > 0.05
    torch.testing.assert_close(images, expected, atol=2e-6, rtol=0)


def block(*pairs: tuple[int, int]) -> list[tuple[bool, int, int]]:
    """Layers of the published configurations: before each upsampling block one that keeps side and channels."""
    return [layer for a, b in pairs for layer in ((False, a, a), (True, a, b))]


LAYERS = {
    128: block((16, 16), (16, 8), (8, 4), (4, 2), (2, 1)),
    256: block((16, 16), (16, 8), (8, 8), (8, 4), (4, 2), (2, 1)),
    512: block((16, 16), (16, 8), (8, 8), (8, 4), (4, 2), (2, 1), (1, 1)),
}


@pytest.mark.parametrize("side", LAYERS)
def test_full_layout_at_an_eighth_of_the_width(side: int) -> None:
    """The published layers, with the self-attention at 64 px: the same position in all three lists."""
    base = copy.deepcopy(BigGANConfig().to_dict())
    assert base["layers"] == LAYERS[128]
    assert base["attention_layer_position"] == 8
    config = base | {"channel_width": 16, "layers": LAYERS[side], "output_dim": side}
    network = published(config)
    ours = biggan_format.read_config(config, "config.json")
    state = network.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == biggan_format.published_shapes(ours)
    codes = torch.randn(1, 256, generator=torch.Generator().manual_seed(2))
    generator = biggan.assemble(ours, dict(state), Files("test", repo=None, folder=None, known={}), name="x")
    expected = reference_images(network, codes, 0.5)
    assert expected.std() > 0.05
    torch.testing.assert_close(generator(codes), expected, atol=5e-6, rtol=0)
    assert generator.code_shape == (256,)
    assert generator.image_shape() == (side, side)


def test_gradient_of_the_code_is_the_published_one(reference: PublishedBigGAN, folder: Path) -> None:
    codes = torch.randn(2, 24, generator=torch.Generator().manual_seed(3))
    gradients: list[Tensor] = []
    for draw in (load(folder), lambda c: reference.generator(c, 0.5) * 0.5 + 0.5):
        c = codes.clone().requires_grad_()
        gradients += torch.autograd.grad(draw(c)[:, :, 8:20, 4:9].square().sum(), c)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5 * float(gradients[1].abs().max()), rtol=0)


def test_class_is_started_from_held_or_optimised(reference: PublishedBigGAN, folder: Path) -> None:
    embeddings = reference.embeddings.weight.T
    both = load(folder, class_label=7)
    start = both.initial_code(0)
    torch.testing.assert_close(start[12:], embeddings[7])
    assert start[:12].abs().max() <= 2 * 0.5
    assert not torch.equal(start[:12], both.initial_code(1)[:12])

    noise_only = load(folder, class_label=7, optimise="noise")
    assert noise_only.code_shape == (12,)
    torch.testing.assert_close(noise_only(start[None, :12]), both(start[None]), atol=1e-6, rtol=0)

    class_only = load(folder, optimise="class", noise_seed=4)
    embedding = class_only.initial_code(0)
    assert class_only.code_shape == (12,)
    assert (embedding - embeddings.mean(0)).norm() < (embeddings - embeddings.mean(0)).norm(dim=1).mean()
    held = both(torch.cat([class_only.module.held, embedding])[None])  # type: ignore[union-attr, list-item]
    torch.testing.assert_close(class_only(embedding[None]), held, atol=1e-6, rtol=0)


def test_the_preset_climbs_in_the_embedding_alone(folder: Path, tiny_classifier: Classifier) -> None:
    """Over one noise after another, which stays what it was drawn as (Li et al. 2020)."""
    generator = load(folder, **preset_options("biggan-am"))
    seen: list[Tensor] = []
    generator.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))  # type: ignore[union-attr]
    result = synthesize(tiny_classifier, "bee", generator, recipe=preset("biggan-am"), steps=45, start=None)
    noises = torch.cat([codes[:, :12] for codes in seen]).unique(dim=0)
    assert len(noises) == 3  # steps 0 to 19, 20 to 39, 40 to 44
    assert torch.equal(result.codes[0, 0, :12], seen[-1][0, :12])
    assert noises.abs().max() <= 2 * 0.5
    embeddings = torch.cat([codes[:, 12:] for codes in seen]).unique(dim=0)
    assert len(embeddings) == 46
    start = generator.initial_code(0)
    random = torch.Generator().manual_seed(0)
    biggan.truncated_normal(12, random)
    centre = generator.prior.mean[12:]  # type: ignore[index]
    torch.testing.assert_close(start[12:], centre + 0.1 * torch.randn(12, generator=random))


def test_bounds_follow_truncation_and_known_classes(reference: PublishedBigGAN, folder: Path) -> None:
    prior = load(folder, truncation=0.3).prior
    far = prior.project(torch.full((1, 24), 100.0))[0]
    torch.testing.assert_close(far[:12], torch.full((12,), 0.6))
    torch.testing.assert_close(far[12:], reference.embeddings.weight.max().expand(12))


def test_truncated_normal_is_one() -> None:
    sample = biggan.truncated_normal(20_000, torch.Generator().manual_seed(0))
    assert sample.abs().max() <= 2
    assert abs(float(sample.mean())) < 0.02
    assert abs(float(sample.std()) - 0.8796) < 0.01  # of a normal cut at two deviations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 0.0}, "truncation"),
        ({"truncation": 1.5}, "truncation"),
        ({"optimise": "all"}, "both, noise, class"),
        ({"optimise": "noise"}, "class_label"),
        ({"class_label": 10}, "0 to 9"),
        ({"class_label": "bell pepper"}, "without names"),
    ],
)
def test_options_are_checked(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load(folder, **options)


def test_classes_by_name() -> None:
    assert class_index("bell pepper", 1000) == 945
    assert class_index("945", 1000) == 945
    with pytest.raises(UnknownNameError):
        class_index("bell peper", 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [[False, 16, 16], [True, 8, 4]]},
        {"layers": []},
        {"layers": "many"},
        {"layers": [[False, 16, 1]]},
        {"channel_width": 10**12},
        {"channel_width": 4},
        {"n_stats": 1},
        {"attention_layer_position": -1},
        {"num_classes": None},
        {"z_dim": 0},
    ],
)
def test_impossible_configurations_are_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | change))
    (tmp_path / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes())
    with pytest.raises(WeightsError, match=r"config\.json"):
        load(tmp_path)


def test_a_configuration_larger_than_its_file_allocates_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"channel_width": 2**20, "num_classes": 2**20}))
    (tmp_path / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes())
    with pytest.raises(WeightsError, match="does not fit this BigGAN-deep"):
        load(tmp_path)


def test_missing_keys_are_named(reference: PublishedBigGAN, tmp_path: Path) -> None:
    state = dict(reference.state_dict())
    del state["generator.bn.bias"]
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"lacks generator\.bn\.bias"):
        load(tmp_path)
