"""torchvision's classifiers: their own settings and labels, files checked, every failure one line."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
import torchvision.transforms.v2
from torch import nn

from gen_prior.classifiers import load_classifier
from gen_prior.classifiers import torchvision_classification as classification
from gen_prior.classifiers.labels import imagenet
from gen_prior.errors import DownloadError, GenPriorError, OptionError, UnknownNameError, WeightsError
from gen_prior.hub.tensors import file_sha256

SMALL = "shufflenet_v2_x0_5"


def publish(network: nn.Module, folder: Path, change: dict[str, torch.Tensor | None] | None = None) -> Path:
    """The network's weights in a file that is named by its digest, as torchvision's are."""
    state = network.state_dict()
    for key, value in (change or {}).items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"network-{digest[:8]}.pth")


@pytest.mark.parametrize(
    ("name", "size", "interpolation"),
    [(SMALL, 224, "bilinear"), ("swin_t", 224, "bicubic"), ("vit_b_32", 224, "bilinear")],
)
def test_random_weights(name: str, size: int, interpolation: str) -> None:
    classifier = load_classifier(f"torchvision:{name}", device="cpu", weights=None)
    assert classifier.input_size == (size, size)
    assert classifier.interpolation == interpolation
    assert classifier.labels is imagenet()
    assert classifier.describe()["revision"] == "random weights"
    assert classifier(torch.rand(1, 3, 64, 48)).shape == (1, 1000)


def test_sizes_follow_the_weights() -> None:
    transforms = torchvision.models.get_model_weights("inception_v3")["DEFAULT"].transforms()
    inception = load_classifier("torchvision:inception_v3@none", device="cpu")
    assert inception.input_size == (transforms.crop_size[0],) * 2 == (299, 299)
    assert inception(torch.rand(1, 3, 80, 80)).shape == (1, 1000)
    assert not [layer for layer in inception.layers() if "Aux" in layer]


@pytest.mark.parametrize("name", [SMALL, "googlenet"])
def test_published_weights_give_torchvisions_own_logits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"aux_logits": True, "init_weights": True, "transform_input": True} if name == "googlenet" else {}
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name, weights=None, **options).eval()
    without_counters: dict[str, torch.Tensor | None] = {
        key: None for key in reference.state_dict() if key.endswith("num_batches_tracked")
    }
    path = publish(reference, tmp_path, without_counters)
    monkeypatch.setattr(classification, "download", lambda url: path)
    classifier = load_classifier(f"torchvision:{name}", device="cpu")
    transforms = torchvision.models.get_model_weights(name)["DEFAULT"].transforms()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        normalised = torchvision.transforms.v2.functional.normalize(images, transforms.mean, transforms.std)
        torch.testing.assert_close(classifier(images), reference(normalised), rtol=1e-4, atol=1e-4)
    assert classifier.describe()["sha256"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    assert classifier.describe()["revision"] == "IMAGENET1K_V1"


def test_old_densenet_names(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"features.denseblock1.denselayer1.norm.1.weight": torch.ones(2), "a.1.b": torch.ones(1)}, path)
    assert set(classification.read(path, file_sha256(path))) == {
        "features.denseblock1.denselayer1.norm1.weight",
        "a.1.b",
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fc.bias": None}, "lacks fc.bias"),
        ({"more": torch.zeros(1)}, "has unexpected more"),
        ({"fc.bias": torch.zeros(7)}, r"fc.bias \[7\] where \[1000\] is expected"),
        ({"fc.bias": torch.full((1000,), torch.nan)}, "fc.bias holds values that are not finite"),
    ],
)
def test_weights_of_another_network(
    change: dict[str, torch.Tensor | None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish(torchvision.models.get_model(SMALL, weights=None), tmp_path, change)
    monkeypatch.setattr(classification, "download", lambda url: path)
    with pytest.raises(WeightsError, match=says):
        load_classifier(f"torchvision:{SMALL}")


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("canary"),))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "content", [b"", b"<html>no</html>", b"version https://git-lfs", pickle.dumps({"a": Canary()})]
)
def test_files_that_are_no_weights(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"network-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    monkeypatch.setattr(classification, "download", lambda url: path)
    with pytest.raises(WeightsError, match=r"not a pickled dictionary of tensors\. Fix: delete"):
        load_classifier(f"torchvision:{SMALL}")
    assert not (tmp_path / "canary").exists()
    path.write_bytes(content + b"x")
    with pytest.raises(WeightsError, match="is damaged: its SHA-256 starts with"):
        load_classifier(f"torchvision:{SMALL}")


def test_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    source = tmp_path / f"file-{hashlib.sha256(b'abc').hexdigest()[:8]}.pth"
    source.write_bytes(b"abc")
    found = classification.download(source.as_uri())
    assert found.read_bytes() == b"abc"
    assert found.is_relative_to(tmp_path / "cache")
    wrong = tmp_path / "file-0123456789.pth"
    wrong.write_bytes(b"abc")
    with pytest.raises(DownloadError, match="invalid hash value"):
        classification.download(wrong.as_uri())
    assert [path.name for path in found.parent.iterdir()] == [found.name]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(DownloadError, match=r"no route to host\. Fix: check the network") as caught:
        load_classifier(f"torchvision:{SMALL}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("torchvision:resnet5", UnknownNameError, "did you mean resnet50"),
        ("torchvision:", UnknownNameError, "known: alexnet"),
        ("torchvision:raft_large", UnknownNameError, "unknown torchvision network"),
        ("torchvision:resnet50@V9", UnknownNameError, "known: DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2, none"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", OptionError, "no classifier"),
    ],
)
def test_unknown_names(spec: str, error: type[GenPriorError], says: str) -> None:
    with pytest.raises(error, match=says):
        load_classifier(spec)


def test_every_classifier_of_torchvision_has_settings() -> None:
    for name in classification.names():
        for entry in torchvision.models.get_model_weights(name):
            transforms = entry.transforms()
            assert len(transforms.crop_size) == 1
            assert transforms.interpolation.value in ("bilinear", "bicubic")
            if entry.meta["categories"] is not None:
                assert classification.match_labels(entry.meta["categories"]) is imagenet()
