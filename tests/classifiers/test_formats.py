"""`hf-hub:` and `local-dir:`: timm's and torchvision's networks from a configuration and tensors, nothing else."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from hub_server import Hub, left_in_cache
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.errors import GenPriorError, MissingExtraError, UnknownNameError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.objectives.targets import parse_target

Lively = Callable[[nn.Module], nn.Module]
NAMES = ["ant", "bee", "cup", "dog", "elk"]
CFG: dict[str, Any] = {
    "input_size": [3, 96, 96],
    "mean": [0.4, 0.5, 0.6],
    "std": [0.3, 0.2, 0.1],
    "interpolation": "bicubic",
    "num_classes": 5,
    "tag": "in1k",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))


def folder_of(network: nn.Module, where: Path, *, pickled: bool = False, **config: Any) -> Path:
    """A folder as `push_to_hf_hub` or an export would leave it."""
    where.mkdir(exist_ok=True)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    torch.save(state, where / "model.pth") if pickled else save_file(state, where / "model.safetensors")
    described = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": CFG} | config
    (where / "config.json").write_text(json.dumps(described))
    return where


def timm_network(name: str, lively: Lively, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return lively(timm.create_model(name, **({"num_classes": 5} | options))).eval()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("pickled", [False, True])
def test_timm_networks(name: str, pickled: bool, tmp_path: Path, with_lively_norms: Lively) -> None:
    options = {"img_size": 96} if name == "test_vit" else {}
    reference = timm_network(name, with_lively_norms, **options)
    config = {"architecture": name, "label_names": NAMES, "model_args": options, "license": "mit"}
    folder = folder_of(reference, tmp_path / "net", pickled=pickled, **config)
    classifier = load_classifier(f"local-dir:{folder}", device="cpu")
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = reference(normalize(images, CFG["mean"], CFG["std"]))
        torch.testing.assert_close(classifier(images), expected, rtol=1e-3, atol=1e-4)
    assert classifier.input_size == (96, 96)
    assert classifier.interpolation == "bicubic"
    assert list(classifier.labels or ()) == NAMES
    assert classifier.describe()["licence"] == "mit"
    assert list(classifier.describe()["sha256"]) == ["config.json", "model.pth" if pickled else "model.safetensors"]
    if name == "test_vit":
        assert parse_target("blocks.1:3@token=2", classifier).position == 2
    else:
        assert not [m for m in classifier.network.modules() if isinstance(m, nn.BatchNorm2d)]


SAVED = [("test_resnet", {}), ("test_vit", {"img_size": 96}), ("test_efficientnet", {"in_chans": 1})]


@pytest.mark.parametrize("classes", [5, 0])
@pytest.mark.parametrize(("name", "options"), SAVED)
def test_folders_that_timm_itself_saved(
    name: str, options: dict[str, Any], classes: int, tmp_path: Path, with_lively_norms: Lively
) -> None:
    """`save_for_hf` writes num_classes into model_args, too; a backbone has none, and its features are the output."""
    reference = timm_network(name, with_lively_norms, num_classes=classes, **options)
    timm.models.save_for_hf(reference, str(tmp_path), model_config={"label_names": NAMES} if classes else None)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    cfg = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    images = torch.rand(2, 1, *cfg["input_size"][1:]).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = reference(normalize(images[:, : cfg["input_size"][0]], cfg["mean"], cfg["std"]))
        torch.testing.assert_close(classifier(images), expected, rtol=1e-3, atol=1e-4)
    assert expected.shape[1] == (classes or reference.num_features)
    assert classifier.has_classes == (classes > 0)
    assert parse_target(f"{list(classifier.layers())[-2]}:1", classifier).unit == 1


def test_one_channel(tmp_path: Path, with_lively_norms: Lively) -> None:
    reference = timm_network("test_resnet", with_lively_norms, in_chans=1)
    cfg = CFG | {"input_size": [1, 64, 80], "mean": [0.5], "std": [0.25]}
    classifier = load_classifier(
        f"local-dir:{folder_of(reference, tmp_path / 'net', pretrained_cfg=cfg)}", device="cpu"
    )
    grey = torch.rand(2, 1, 64, 80)
    with torch.no_grad():
        expected = reference((grey - 0.5) / 0.25)
        torch.testing.assert_close(classifier(grey.expand(-1, 3, -1, -1)), expected, rtol=1e-3, atol=1e-4)


def test_labels_of_imagenet(tmp_path: Path, with_lively_norms: Lively) -> None:
    reference = timm_network("test_resnet", with_lively_norms, num_classes=1000)
    ids = [label.wordnet_id for label in imagenet().entries]
    cases: list[tuple[dict[str, Any], str, Any]] = [
        ({}, "a1_in1k", imagenet()),
        ({"label_names": ids}, "", imagenet()),
        ({}, "other", None),
    ]
    for number, (config, tag, expected) in enumerate(cases):
        cfg = CFG | {"num_classes": 1000, "tag": tag}
        folder = folder_of(reference, tmp_path / str(number), num_classes=1000, pretrained_cfg=cfg, **config)
        assert load_classifier(f"local-dir:{folder}", device="cpu").labels is expected


@pytest.mark.parametrize("pickled", [False, True])
def test_torchvision_networks(pickled: bool, tmp_path: Path, with_lively_norms: Lively) -> None:
    name = "mnasnet0_5" if pickled else "shufflenet_v2_x0_5"  # mnasnet reads a version that files may lack
    reference = with_lively_norms(torchvision.models.get_model(name, weights=None, num_classes=5)).eval()
    config = {"library": "torchvision", "architecture": name, "label_names": NAMES}
    folder = folder_of(reference, tmp_path / name, pickled=pickled, **config)
    classifier = load_classifier(f"local-dir:{folder}", device="cpu")
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = reference(normalize(images, CFG["mean"], CFG["std"]))
        torch.testing.assert_close(classifier(images), expected, rtol=1e-3, atol=1e-4)
    assert parse_target("cup", classifier).unit == 2


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_lively_norms: Lively) -> None:
    folder = folder_of(timm_network("test_resnet", with_lively_norms), tmp_path / "net")
    asked: list[tuple[str, str | None]] = []

    def from_hub(spec: str, *, revision: str | None = None) -> Files:
        asked.append((spec, revision))
        return Files.from_folder(folder)

    monkeypatch.setattr(Files, "from_hub", from_hub)
    classifier = load_classifier("hf-hub:timm/test_resnet@abc", device="cpu")
    assert classifier.name == "hf-hub:timm/test_resnet@abc"
    assert asked == [("timm/test_resnet@abc", None)]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(GenPriorError, match=r"no model\.safetensors"):
        load_classifier("hf-hub:timm/test_resnet", device="cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{bad", "is not a JSON object"),
        (b'{"architecture": "test_resnt", "num_classes": 5}', "did you mean test_resnet"),
    ],
)
def test_a_refused_classifier_leaves_nothing(hub: Hub, tmp_path: Path, config: bytes, message: str) -> None:
    hub.publish("timm/x", {"config.json": config, "model.safetensors": save({"a": torch.ones(3)})})
    with pytest.raises(WeightsError, match=message):
        load_classifier("hf-hub:timm/x", device="cpu")
    assert left_in_cache(tmp_path) == []


def test_without_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'gen-prior\[timm\]'"):
        load_classifier("hf-hub:timm/resnet50.a1_in1k")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fc.bias": None}, "fc.bias"),
        ({"surplus": torch.zeros(2)}, "surplus"),
        ({"fc.bias": torch.zeros(7)}, "fc.bias"),
        ({"fc.bias": torch.full((5,), torch.inf)}, "not finite"),
    ],
)
def test_weights_of_another_network(
    library: str, change: dict[str, Tensor | None], says: str, tmp_path: Path, with_lively_norms: Lively
) -> None:
    name = "test_resnet" if library == "timm" else "shufflenet_v2_x0_5"
    network = (
        timm_network(name, with_lively_norms)
        if library == "timm"
        else torchvision.models.get_model(name, weights=None, num_classes=5)
    )
    folder = folder_of(network, tmp_path / "net", architecture=name, library=library)
    state = {k: v.contiguous() for k, v in (network.state_dict() | change).items() if v is not None}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=says) as caught:
        load_classifier(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"architecture": "test_resne"}, "did you mean test_resnet"),
        ({"architecture": "hf-hub:someone/else"}, "unknown timm architecture"),
        ({"architecture": None}, "unknown timm architecture"),
        ({"library": "torchvision", "architecture": "resnet5"}, "did you mean resnet50"),
        ({"library": "other"}, "allowed: timm, torchvision"),
        ({"label_names": ["a"]}, "1 label_names for 5 classes"),
        ({"num_classes": -1}, "num_classes at least 0"),
        ({"num_classes": "many"}, "invalid literal"),
        ({"num_classes": 7}, "does not fit test_resnet"),
        ({"pretrained_cfg": CFG | {"std": [0, 0, 0]}}, "must be positive"),
        ({"pretrained_cfg": CFG | {"input_size": [3, 96]}}, "not enough values"),
        ({"model_args": {"checkpoint_path": "/tmp/x.pth"}}, "may not set checkpoint_path"),
        ({"model_args": {"pretrained_cfg": {}}}, "may not set pretrained_cfg"),
        ({"model_args": {"no_such_option": 1}}, "no_such_option"),
    ],
)
def test_impossible_configurations(
    config: dict[str, Any], says: str, tmp_path: Path, with_lively_norms: Lively
) -> None:
    folder = folder_of(timm_network("test_resnet", with_lively_norms), tmp_path / "net", **config)
    with pytest.raises((WeightsError, UnknownNameError), match=says) as caught:
        load_classifier(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "model.pth"])
@pytest.mark.parametrize("content", [None, b"", b"<html>", b"{", b"[1]", b"version https://git-lfs.github.com/spec/v1"])
def test_damaged_files(file: str, content: bytes | None, tmp_path: Path, with_lively_norms: Lively) -> None:
    network = timm_network("test_resnet", with_lively_norms)
    folder = folder_of(network, tmp_path / "net", pickled=file.endswith("pth"))
    path = folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_classifier(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["last.pt", "last.ckpt", "best.pth.tar"])
@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [("state_dict", "module."), ("model_state_dict", "_orig_mod."), ("model", "model."), ("", "model._orig_mod.")],
)
def test_checkpoints_of_training(
    file: str, wrapper: str, prefix: str, tmp_path: Path, with_lively_norms: Lively
) -> None:
    """With the prefixes, wrappers, suffixes and settings that training leaves in them."""
    network = timm_network("test_resnet", with_lively_norms)
    folder = folder_of(network, tmp_path / "net")
    (folder / "model.safetensors").unlink()
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    more = {"args": argparse.Namespace(lr=0.1, names=["a"]), "epoch": 3, "optimizer": {"state": {}}}
    torch.save({wrapper: state, **more} if wrapper else state, folder / file)
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        expected = network(normalize(images, CFG["mean"], CFG["std"]))
    torch.testing.assert_close(
        load_classifier(f"local-dir:{folder}", device="cpu")(images), expected, rtol=1e-3, atol=1e-4
    )


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_checkpoints_that_are_not_read(
    tmp_path: Path, with_lively_norms: Lively, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = timm_network("test_resnet", with_lively_norms)
    folder = folder_of(network, tmp_path / "net")
    (folder / "model.safetensors").unlink()
    holder = argparse.Namespace()
    holder.value = Runs()  # settings may hold anything
    for content, says in [
        (nn.Linear(2, 2), r"holds a torch\.nn\.modules\.linear\.Linear, which could run code when read\. Fix: if you"),
        ({"state_dict": network.state_dict(), "args": holder}, "which could run code when read"),
        (network.state_dict() | {"epoch": 3}, "'epoch' in it is of type int"),
        ([torch.ones(2)], "it holds a list"),
    ]:
        torch.save(content, folder / "last.pt")
        with pytest.raises(WeightsError, match=says):
            load_classifier(f"local-dir:{folder}", device="cpu")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "last.pt")
    with pytest.raises(WeightsError, match="is a TorchScript archive"):
        load_classifier(f"local-dir:{folder}", device="cpu")
    assert not (tmp_path / "executed").exists()


def test_truncated_weights(tmp_path: Path, with_lively_norms: Lively) -> None:
    folder = folder_of(timm_network("test_resnet", with_lively_norms), tmp_path / "net")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_classifier(f"local-dir:{folder}")


def test_no_folder_and_several_weights(tmp_path: Path, with_lively_norms: Lively) -> None:
    with pytest.raises(WeightsError, match="no folder"):
        load_classifier(f"local-dir:{tmp_path / 'absent'}")
    folder = folder_of(timm_network("test_resnet", with_lively_norms), tmp_path / "net", pickled=True)
    (folder / "other.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"several weights: model\.pth, other\.pth"):
        load_classifier(f"local-dir:{folder}")
