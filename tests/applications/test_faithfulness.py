"""The panel on tiny networks: its photographs, its controls, and where it is recorded."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.applications.compare import compare
from gen_prior.applications.control_networks import with_shuffled_unit, with_shuffled_weights
from gen_prior.applications.faithfulness import REFERENCES, Panel, faithfulness
from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError
from gen_prior.generators import Generator
from gen_prior.objectives.targets import parse_target
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import write_png


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photographs")
    source = torch.Generator().manual_seed(5)
    for number in range(4 * REFERENCES):
        colour = torch.rand(3, 1, 1, generator=source)
        write_png(made / f"{number:02}.png", (colour + 0.4 * torch.randn(3, 32, 32, generator=source)).clamp(0, 1))
    return made


@pytest.fixture
def judge(make_tiny_network: Callable[..., nn.Module]) -> Classifier:
    return Classifier(make_tiny_network(3), input_size=32, name="tiny-judge")


def test_a_result_is_measured_and_keeps_its_measures(
    tiny_classifier: Classifier, judge: Classifier, tiny_generator: Generator, folder: Path, tmp_path: Path
) -> None:
    result = synthesize(tiny_classifier, ["conv2:3", "bee+cup"], tiny_generator, seeds=2, steps=3)
    measured, mixed = faithfulness(result, tiny_classifier, tiny_generator, folder, judge=judge)
    assert mixed is None
    assert measured is not None
    assert set(measured["controls"]) == {"start", "shuffled unit", "random network"}
    for one in (measured, *measured["controls"].values()):
        assert 0 <= one["two_alternatives"] <= 1
        assert -1 <= one["path"]["images"] <= 1
        assert list(one["path"]["layers"])[-1] == "conv2"
    assert measured["activation"] == pytest.approx(result.activations[0].mean().item(), rel=1e-4)
    assert measured["controls"]["start"]["activation"] == pytest.approx(
        result.start_activations[0].mean().item(), rel=1e-4
    )
    result.save(tmp_path)
    assert load_result(tmp_path).targets[0]["faithfulness"] == json.loads(json.dumps(measured))


def test_photographs_of_a_unit_tell_its_photographs_apart(folder: Path) -> None:
    """A unit that wants red without blue: red photographs say which of two is red."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, -1]])[..., None, None]
    classifier, judge = (Classifier(copy.deepcopy(network), input_size=32, name=name) for name in ("one", "other"))
    target = parse_target("0:3@mean", classifier)
    panel = Panel(classifier, judge, [target], folder)
    references = panel.references[target]
    values = [each.activation for each in references.most]
    assert values == sorted(values, reverse=True)
    assert max(each.activation for each in references.least) <= min(values)
    assert panel._photographs(target).two_alternatives > 0.9
    shown = torch.stack([each.image for each in references.most[:4]])
    opposite = torch.stack([each.image for each in references.least[:4]])
    scores = panel._scores(target, shown, panel._features(opposite, target))
    assert scores["two_alternatives"] > 0.9
    assert panel._scores(target, opposite, panel._features(shown, target))["two_alternatives"] < 0.1
    assert scores["ratio"] == pytest.approx(sum(values[:4]) / 4 / values[0], rel=1e-4)


def test_control_networks(tiny_classifier: Classifier) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = parse_target("relu2:3", tiny_classifier)
    twin = with_shuffled_unit(tiny_classifier, target)
    assert twin is not None
    before, after = (one.activations(image, ["relu2"])["relu2"][0] for one in (tiny_classifier, twin))
    others = [unit for unit in range(12) if unit != 3]
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[3], after[3])
    unfolded = [one.activations(image, ["conv2"])["conv2"][0, 3] for one in (tiny_classifier, twin)]
    assert not torch.allclose(unfolded[0], unfolded[1]), (
        "a convolution is read as it was before its norm was folded into it"
    )
    random = with_shuffled_weights(tiny_classifier)
    for old, new in zip(tiny_classifier.network.parameters(), random.network.parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
    assert not torch.allclose(random(image), tiny_classifier(image))
    pool = Classifier(nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), input_size=8)
    assert with_shuffled_unit(pool, parse_target("0:1", pool)) is None, "no weights make this unit"


def test_compare_records_the_panel(
    tiny_classifier: Classifier, judge: Classifier, tiny_generator: Generator, folder: Path, tmp_path: Path
) -> None:
    compared = compare(
        tiny_classifier, ["conv2:3", "bee"], [tiny_generator, "pixel-raw"], judge=judge, seeds=1, evaluations=2,
        faithfulness=True, images=folder, out=tmp_path,
    )  # fmt: skip
    for method in json.loads((tmp_path / "comparison.json").read_text())["methods"]:
        assert [panel["controls"]["start"] is not None for panel in method["faithfulness"]] == [True, True]
        assert method["summary"]["two_alternatives"]["count"] == 2
        for item, panel in zip(method["items"], method["faithfulness"], strict=True):
            best = panel["best_photograph"]
            assert item["photograph_ratio"] == (pytest.approx(item["activation"] / best) if best > 0 else None)
        assert method["summary"]["photograph_ratio"] is not None
    assert compared.summary()["tiny"]["path_similarity"] is not None
    for options, words in (({"images": None}, "--images"), ({"judge": None}, "--judge")):
        settings: dict[str, Any] = {"judge": judge, "images": folder} | options
        with pytest.raises(OptionError, match=words):
            compare(tiny_classifier, "bee", [tiny_generator], faithfulness=True, **settings)


def test_too_few_photographs(tiny_classifier: Classifier, judge: Classifier, folder: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.rand(3, 32, 32))
    with pytest.raises(ImageError, match=f"at least {4 * REFERENCES}"):
        Panel(tiny_classifier, judge, [parse_target("bee", tiny_classifier)], tmp_path)
