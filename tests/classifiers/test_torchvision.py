"""torchvision's networks for detection and segmentation: hidden units exact and raised, classes refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import gen_prior as gp
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers import torchvision_classification as classification
from gen_prior.errors import OptionError, TargetError, UnknownNameError

DETECTION, SEGMENTATION = "fasterrcnn_mobilenet_v3_large_320_fpn", "lraspp_mobilenet_v3_large"


def plain_hook(network: Any, layer: str, images: torch.Tensor) -> Any:
    found: list[Any] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, args, output: found.append(output))
    with torch.no_grad():
        network(images)
    handle.remove()
    return found[-1]


@pytest.mark.parametrize(("name", "layer"), [(DETECTION, "backbone.body.3"), (SEGMENTATION, "backbone.4")])
def test_hidden_units(name: str, layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    options = {"num_classes": 91 if name == DETECTION else 21}
    reference = torchvision.models.get_model(name, weights=None, weights_backbone=None, **options).eval()
    torch.save(reference.state_dict(), tmp_path / "new.pth")
    digest = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()
    path = (tmp_path / "new.pth").rename(tmp_path / f"network-{digest[:8]}.pth")
    monkeypatch.setattr(classification, "download", lambda url: path)
    classifier = load_classifier(f"torchvision:{name}", device="cpu", input_size=64)
    assert classifier.describe()["sha256"] == {path.name: digest}
    if name == DETECTION:
        reference.transform.min_size = (64,)  # as input_size sets it; images are normalised inside
    images = torch.rand(1, 3, 64, 64)
    expected = plain_hook(reference, layer, images if name == DETECTION else classifier.normalise(images))
    torch.testing.assert_close(classifier.activations(images, [layer])[layer], expected, rtol=1e-4, atol=1e-4)
    generator = gp.load_generator("pixel-raw", image_size=64, device="cpu")
    result = gp.synthesize(classifier, f"{layer}:1@mean", generator, steps=4, rate=0.01, scale="image")
    assert result.activations[0, 0] > result.history[0, 0, 0]
    with pytest.raises(TargetError, match=r"has no classes|has no logits"):
        gp.parse_target("goldfish", classifier)


def test_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean fcn_resnet50"):
        load_classifier("torchvision:fcn_resnet5", device="cpu")
    with pytest.raises(UnknownNameError, match="known: DEFAULT, COCO_V1, none"):
        load_classifier(f"torchvision:{DETECTION}@V3", device="cpu")
    with pytest.raises(OptionError, match="fixed input size"):
        load_classifier("torchvision:resnet18@none", device="cpu", input_size=64)
