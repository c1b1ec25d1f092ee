"""`MODULE:NAME`: a network from the user's own code, in the current directory or installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.classifiers import Classifier, as_classifier, load_classifier, load_described
from gen_prior.errors import GenPriorError, OptionError, UnknownNameError
from gen_prior.objectives.expressions import parse_targets

CODE = """
import torch
from torch import nn
import gen_prior as gp

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*build())

made = build()
wrapped = gp.Classifier(build(), input_size=8)
number = 3

def broken():
    return 1 / 0

def needs(width):
    return build()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package in the current directory; its name."""
    name = f"pack_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "nets.py").write_text(CODE)
    (tmp_path / name / "lacks.py").write_text("import not_installed\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("name", ["build", "Net", "made"])
def test_what_a_name_may_be(name: str, package: str) -> None:
    settings: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "input_size": (16, 24)}
    settings["labels"] = ["a", "b", "c"]
    classifier = load_classifier(f"{package}.nets:{name}", device="cpu", **settings)
    build = sys.modules[f"{package}.nets"].build
    images = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        expected = build()((images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5)
        torch.testing.assert_close(classifier(images), expected)
    assert classifier.class_index("b") == 1
    assert classifier.name == f"{package}.nets:{name}"
    assert load_classifier(f"{package}.nets:wrapped", device="cpu").input_size == (8, 8)


def test_an_assumed_input_is_said(package: str, caplog: pytest.LogCaptureFixture) -> None:
    known: dict[str, Any] = {"mean": (0.1,) * 3, "std": (0.5,) * 3, "input_size": (16, 24)}
    load_classifier(f"{package}.nets:build", device="cpu", **known)
    load_classifier(f"{package}.nets:wrapped", device="cpu")
    assert not caplog.text
    load_classifier(f"{package}.nets:build", device="cpu", mean=(0.1,) * 3)
    assert "nets:build: std 0.229,0.224,0.225, input size 224 x 224 assumed" in caplog.text
    assert "--mean, --std and --input-size" in caplog.text


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("nets:biuld", {}, UnknownNameError, "did you mean build"),
        ("nets:number", {}, OptionError, r"gives a int\. Fix: let it be, or return, a torch\.nn\.Module"),
        ("nets:broken", {}, OptionError, r"failed: ZeroDivisionError: division by zero \(nets.py, line 19\)"),
        ("nets:needs", {}, OptionError, "missing 1 required positional argument"),
        ("nets:wrapped", {"input_size": 9}, OptionError, "has its own input_size"),
        ("nets:build", {"colour": 9}, OptionError, "does not take 'colour' as an option"),
        (
            "netz:build",
            {},
            UnknownNameError,
            r"unknown module 'pack_\w+.netz'; did you mean pack_\w+\.nets\? Fix: .*MODULE",
        ),
        ("nets.deeper:build", {}, UnknownNameError, "unknown module .*nets.deeper'"),
        ("nets:biuld", {}, UnknownNameError, "Fix: write MODULE:NAME, a module that can be imported"),
        (
            "lacks:build",
            {},
            OptionError,
            r"failed: ModuleNotFoundError: No module named 'not_installed' \(lacks.py, line 1",
        ),
    ],
)
def test_what_it_may_not_be(
    name: str, options: dict[str, Any], error: type[GenPriorError], says: str, package: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        load_classifier(f"{package}.{name}", device="cpu", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{}/nets.py:build", r"is a file, but a network of your own is MODULE:NAME, .* Fix: write {}\.nets:build$"),
        ("{}/nets:build", r"Fix: write {}\.nets:build$"),
        ("./{}/nets.py:build", r"Fix: write {}\.nets:build$"),
        ("{}/nets.py", r"Fix: write {}\.nets:NAME$"),
        ("nets.py:build", r"Fix: write nets:build$"),
        ("/there/{}/nets.py:build", r"Fix: write nets:build, and run this in the folder /there/{}$"),
        ("my-nets.py:build", r"Fix: rename my-nets\.py so that it can be imported"),
        ("{}x.nets:build", r"unknown module '{}x'; did you mean {}\?"),
        ("{}.nets.build", r"Fix: name the source"),
        ("{}.nets", r"Fix: write {}:nets, if it is code of your own"),
        ("timm:resnet50", r"or hf-hub:timm/resnet50 for a published network"),
    ],
)
def test_other_ways_to_write_it(written: str, says: str, package: str) -> None:
    with pytest.raises((OptionError, UnknownNameError), match=says.replace("{}", package)):
        load_classifier(written.replace("{}", package), device="cpu")


def test_a_network_that_no_name_loads_is_said_to_be_the_users_own() -> None:
    with pytest.raises(OptionError, match=r"network of your own, 'w3'.*replay FOLDER --classifier my_module:build"):
        load_described(Classifier(nn.Conv2d(3, 4, 3), name="w3").describe(), device="cpu")
    with pytest.raises(OptionError, match=r"got a Conv2d\. Fix: wrap it: gp\.Classifier"):
        as_classifier(nn.Conv2d(3, 4, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mean": (128.0,) * 3, "std": (64.0,) * 3}, "divide .* by 255"),
        ({"std": (64.0,) * 3}, "divide .* by 255"),
        ({"mean": (-0.5,) * 3}, r"pixels in \[0, 1\]"),
        ({"mean": 0.5}, r"one number per channel, got 0\.5"),
        ({"mean": "0.5"}, r"one number per channel, got '0\.5'"),
        ({"std": None}, r"one number per channel, got None"),
        ({"std": ("a",) * 3}, r"one number per channel, got \('a'"),
        ({"input_size": "64"}, r"a side or \(height, width\) in pixels, got '64'"),
        ({"input_size": 64.5}, r"got 64\.5"),
        ({"input_size": None}, r"got None"),
        ({"input_size": (36, "64")}, r"got \(36, '64'\)"),
        ({"input_size": (3, 36, 64)}, r"got \(3, 36, 64\)"),
        ({"labels": {"a": "b"}}, r"labels are names in order, or \{number: name\}, got \{'a': 'b'\}"),
        ({"labels": "abc"}, r"got 'abc'"),
        ({"labels": 5}, r"labels are names in order, or \{number: name\}, got 5"),
        ({"unit_axis": "conv"}, r"unit_axis is \{layer: axis\}, got 'conv'"),
    ],
)
def test_a_wrong_description_of_a_network(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Classifier(nn.Conv2d(3, 4, 3), **options)


def test_fixes_for_a_network_made_in_python_are_calls(package: str) -> None:
    made = Classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), input_size=8, labels=["cat"] * 72)
    for call, fix in (
        (lambda: made.layer_shape("9"), r"list the layers: classifier\.layers\(\)"),
        (lambda: parse_targets("9?:0", made), r"list the layers: classifier\.layers\(\)"),
        (lambda: made.class_index("giraffe"), r"search the names: classifier\.labels\.search\('giraffe'\)"),
    ):
        with pytest.raises(GenPriorError, match=f"Fix: {fix}$"):
            call()
    own = load_classifier(f"{package}.nets:build", device="cpu", input_size=8, labels=["a", "b", "c"])
    with pytest.raises(UnknownNameError, match=rf"Fix: list the layers: gen-prior layers {package}\.nets:build$"):
        own.layer_shape("9")
    with pytest.raises(UnknownNameError, match=rf"gen-prior labels 'giraffe' --classifier {package}\.nets:build$"):
        own.class_index("giraffe")


def test_a_source_that_is_misspelt() -> None:
    with pytest.raises(UnknownNameError, match="did you mean torchvision"):
        load_classifier("torchvison:resnet50", device="cpu")
    with pytest.raises(UnknownNameError, match="did you mean resnet50"):  # the source, not the package of that name
        load_classifier("torchvision:resnet5", device="cpu")
