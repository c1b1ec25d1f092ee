"""DCGAN: sizes inferred from a state dict; equal to the network that the state dict came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators import dcgan
from gen_prior.generators.base import Generator
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import save_safetensors


def network(
    latent: int, side: int, width: int = 4, channels: int = 3, kernel: int = 4, bias: bool = False
) -> nn.Sequential:
    """The usual DCGAN generator, written out, with batch norms that do something."""
    torch.manual_seed(latent + side)
    layers: list[nn.Module] = []
    inputs, size = latent, 1
    while size < side:
        last = size * 2 == side
        outputs = channels if last else width * max(1, side // (size * 4))
        outputs = min(outputs, 32)
        stride, padding = (1, 0) if size == 1 else (2, 1)
        layers.append(nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=bias))
        size = 4 if size == 1 else size * 2
        if last:
            layers.append(nn.Tanh())
        else:
            norm = nn.BatchNorm2d(outputs)
            for tensor, low, high in (
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 2),
                (norm.weight, 0.8, 2),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
            layers += [norm, nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers).eval()


def generator_of(state: dict[str, Tensor], **options: int | None) -> Generator:
    return dcgan.assemble(state, Files("test", repo=None, folder=None, known={}), name="dcgan:test", **options)


@pytest.mark.parametrize(
    ("latent", "side", "channels", "bias"),
    [(64, 32, 3, False), (100, 64, 3, False), (128, 64, 1, True), (256, 128, 3, False), (512, 256, 3, True)],
)
@torch.no_grad()
def test_equal_to_the_network_it_came_from(latent: int, side: int, channels: int, bias: bool) -> None:
    reference = network(latent, side, channels=channels, bias=bias)
    generator = generator_of({f"main.{key}": value for key, value in reference.state_dict().items()})
    codes = torch.randn(2, latent)
    assert generator.code_shape == (latent,)
    assert generator.image_shape() == (side, side)
    expected = (reference(codes[:, :, None, None]) * 0.5 + 0.5).expand(-1, 3, -1, -1)
    torch.testing.assert_close(generator(codes), expected, atol=2e-6, rtol=0)


@torch.no_grad()
def test_one_hot_labels_are_held_or_optimised() -> None:
    reference = network(64 + 10, 32)
    codes = torch.randn(2, 64)
    one_hot = torch.eye(10)[3].expand(2, -1)
    expected = reference(torch.cat([codes, one_hot], 1)[:, :, None, None]) * 0.5 + 0.5
    held = generator_of(dict(reference.state_dict()), label_channels=10, class_label=3)
    torch.testing.assert_close(held(codes), expected, atol=2e-6, rtol=0)
    free = generator_of(dict(reference.state_dict()), label_channels=10)
    torch.testing.assert_close(free(torch.cat([codes, one_hot], 1)), expected, atol=2e-6, rtol=0)
    for options in ({"class_label": 3}, {"class_label": 10, "label_channels": 10}, {"label_channels": 74}):
        with pytest.raises(OptionError):
            generator_of(dict(reference.state_dict()), **options)


@torch.no_grad()
def test_label_embedding_is_found() -> None:
    reference = network(64 + 6, 32)
    table = torch.randn(5, 6)
    state = {f"main.{key}": value for key, value in reference.state_dict().items()} | {"label_emb.weight": table}
    codes = torch.randn(2, 64)
    expected = reference(torch.cat([codes, table[4].expand(2, -1)], 1)[:, :, None, None]) * 0.5 + 0.5
    torch.testing.assert_close(generator_of(state, class_label=4)(codes), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_numbers_of_another_kind_are_refused(kind: torch.dtype) -> None:
    state = {key: value.to(kind) for key, value in network(64, 32).state_dict().items()}
    with pytest.raises(WeightsError, match=r"0\.weight is of type torch\.\w+64, not torch\.float32"):
        generator_of(state)


@torch.no_grad()
def test_a_table_of_one_class_is_no_reason_for_nan() -> None:
    state = dict(network(64 + 6, 32).state_dict()) | {"label_emb.weight": torch.randn(1, 6)}
    assert torch.isfinite(generator_of(state).initial_code(0)).all()


def test_more_than_ten_layers_keep_their_order() -> None:
    reference = network(64, 256)
    names = [f"main.{key}" for key in reference.state_dict()]
    layout = dcgan.infer({name: tuple(reference.state_dict()[name[5:]].shape) for name in sorted(names)}, "x")
    assert [layer.name for layer in layout.layers] == [f"main.{index}" for index in (0, 3, 6, 9, 12, 15, 18)]


def test_from_file_folder_and_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.hub.convert.cache_folder", lambda: tmp_path / "cache")
    state = dict(network(64, 32).state_dict())
    for folder in ("pickled", "wrapped", "safe"):
        (tmp_path / folder).mkdir()
    torch.save(state, tmp_path / "pickled" / "netG_epoch_24.pth")
    torch.save({"state_dict": state, "epoch": 24}, tmp_path / "wrapped" / "generator.pth")
    save_safetensors(tmp_path / "safe" / "model.safetensors", state, {})
    codes = torch.randn(1, 64)
    images = [
        dcgan.load(str(tmp_path / "pickled" / "netG_epoch_24.pth"))(codes),
        dcgan.load(str(tmp_path / "pickled"), file="netG_epoch_24.pth")(codes),
        dcgan.load(str(tmp_path / "wrapped"))(codes),
        dcgan.load(str(tmp_path / "safe"))(codes),
    ]
    for image in images[1:]:
        assert torch.equal(image, images[0])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "none"),
        (
            {"a.weight": (100, 8, 4, 4), "b.weight": (9, 8, 4, 4), "c.weight": (8, 3, 4, 4)},
            "b takes 9 channels, a gives 8",
        ),
        ({"a.weight": (100, 8, 4, 4), "b.weight": (8, 8, 4, 4), "c.weight": (8, 4, 4, 4)}, "100 -> 8 -> 8 -> 4"),
        ({"a.weight": (100, 8, 4, 4), "b.weight": (8, 8, 5, 5), "c.weight": (8, 3, 4, 4)}, "kernel of 5"),
        (
            {"a.weight": (100, 8, 4, 4), "a.bias": (5,), "b.weight": (8, 8, 4, 4), "c.weight": (8, 3, 4, 4)},
            r"a\.bias has shape \[5\], not \[8\]",
        ),
        ({"a.running_mean": (8,), "b.weight": (8, 8, 4, 4)}, "batch norm a"),
        ({"a.weight": (100, 8, 4, 4), "fc.weight": (8,)}, "not belong"),
        ({"a.weight": (100, 8, 4, 4), "a.weight_g": (8,)}, "not belong"),
    ],
)
def test_what_is_no_dcgan_is_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        dcgan.infer(shapes, "model.pth")
