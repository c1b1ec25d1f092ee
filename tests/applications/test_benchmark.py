"""The whole protocol on tiny networks: drawn by hash, resumed, and its numbers against their items."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.applications import benchmark as module
from gen_prior.applications.benchmark import benchmark, drawn_classes, drawn_units, spread_layers
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators import Generator
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.benchmark_table import mean, summary
from gen_prior.util.image_io import write_png


@pytest.fixture
def judge(make_tiny_network: Callable[..., nn.Module], tiny_classifier: Classifier) -> Classifier:
    return Classifier(make_tiny_network(3), input_size=32, labels=tiny_classifier.labels, name="tiny-judge")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(5)
    for number in range(32):
        write_png(tmp_path / "photographs" / f"{number:02}.png", torch.rand(3, 32, 32, generator=source))
    return tmp_path / "photographs"


def test_a_benchmark_measures_everything_and_goes_on(
    tiny_classifier: Classifier,
    judge: Classifier,
    tiny_generator: Generator,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, Any] = {
        "judge": judge, "units": 2, "classes": 2, "images": folder, "seeds": 2, "evaluations": 3,
    }  # fmt: skip
    made: list[str] = []

    def counted(*given: Any, **options: Any) -> Result:
        made.append(str(given[1]))
        return synthesize(*given, **options)

    monkeypatch.setattr(module, "synthesize", counted)
    record = benchmark(tiny_classifier, [tiny_generator, "pixel-raw"], tmp_path / "out", **settings)
    assert len(made) == 2 * 4
    found = record["generators"][0]["summary"]
    for name in (
        "classes: judge names it", "classes: diversity over seeds", "classes: kernel distance from photographs",
        "all units: activation / best photograph's", "all units: two alternatives, shown photographs",
        "all units: control: random network, two alternatives", "seconds for an image",
    ):  # fmt: skip
        assert name in found, name
    table = (tmp_path / "out" / "benchmark.md").read_text()
    assert "| | `tiny` | `pixel-raw` |" in table
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == json.loads(json.dumps(record))
    made.clear()
    again = benchmark(tiny_classifier, [tiny_generator, "pixel-raw"], tmp_path / "out", **settings | {"classes": 3})
    assert len(made) == 2, "only the third class is new"
    assert again["generators"][1]["items"][:2] == record["generators"][1]["items"][:2]


@pytest.fixture
def small(
    tiny_classifier: Classifier, judge: Classifier, tiny_generator: Generator, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """`benchmark` of two classes without photographs, in `tmp_path`, with some other settings."""

    def run(**other: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {"judge": judge, "units": 0, "classes": 2, "seeds": 1, "evaluations": 2}
        settings |= {"generators": [tiny_generator], "out": tmp_path} | other
        return benchmark(tiny_classifier, **settings)

    return run


def test_a_stopped_benchmark_has_a_table_and_goes_on(
    small: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(out=tmp_path / "whole")
    measuring = module._Run._measured

    def stopping(self: Any, method: Any, target: Any) -> Any:
        if (tmp_path / "out" / "benchmark.json").exists():
            raise KeyboardInterrupt
        return measuring(self, method, target)

    monkeypatch.setattr(module._Run, "_measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        small(out=tmp_path / "out")
    monkeypatch.undo()
    record = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert len(record["generators"][0]["items"]) == 1
    assert not record["finished"]
    assert "tiny" in (tmp_path / "out" / "benchmark.md").read_text()
    assert len((tmp_path / "out" / "numbers.csv").read_text().splitlines()) == 2
    again = small(out=tmp_path / "out")
    assert again["finished"]
    for record in (again, whole):
        for item in record["generators"][0]["items"]:
            del item["seconds"]
    assert again["generators"][0]["items"] == whole["generators"][0]["items"]


def test_another_benchmark_is_refused(small: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    small()
    before = (tmp_path / "benchmark.json").read_bytes()
    for other, words in (
        ({"seeds": 2}, "other seeds"),
        ({"evaluations": 3}, "other evaluations"),
        ({"classes": 1}, "other targets"),
        ({"generators": ["pixel-raw"]}, "other generators"),
    ):
        with pytest.raises(OptionError, match=rf"holds a benchmark with {words}.*--overwrite"):
            small(**other)
        assert (tmp_path / "benchmark.json").read_bytes() == before
    assert small(seeds=2, overwrite=True)["seeds"] == [0, 1]
    assert small(seeds=2, classes=3)["finished"]


def test_targets_are_drawn_by_their_names_alone(tiny_classifier: Classifier, judge: Classifier) -> None:
    assert [str(one) for one in drawn_classes(tiny_classifier, judge, 2)] == [
        str(one) for one in drawn_classes(tiny_classifier, judge, 4)[:2]
    ]
    units = drawn_units(tiny_classifier, 6, ["conv1", "conv2"])
    assert [unit.layer for unit in units] == ["conv1", "conv2"] * 3
    assert len(set(units)) == 6
    assert drawn_units(tiny_classifier, 4, ["conv1", "conv2"]) == units[:4]
    assert len(drawn_units(tiny_classifier, 99, ["conv1"])) == 8
    assert set(spread_layers(tiny_classifier)) <= {"conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "pool"}


def test_a_benchmark_of_nothing_is_refused(tiny_classifier: Classifier, judge: Classifier, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nothing to measure"):
        benchmark(tiny_classifier, ["pixel-raw"], tmp_path, judge=judge, units=0, classes=0)


def test_summary_counts_what_was_measured() -> None:
    item = {"is_class": False, "layer": "a", "ratios": [0.5, None, 2.0], "seconds": 1.0, "evaluations": 8}
    found = summary([item], [torch.ones(3, 2)], None)
    assert found["a: activation / best photograph's"]["value"] == 1.25
    assert found["a: above the best photograph"] == mean([0.0, 1.0])
    assert not [name for name in found if name.startswith("classes")]


def test_summary_compares_units_with_each_other_and_with_their_own_seeds() -> None:
    """Two units whose seeds agree: images of one unit are alike, those of two units are at a right angle."""
    item = {"is_class": False, "layer": "a", "ratios": [1.0], "seconds": 1.0, "evaluations": 8}
    features = [torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])]
    found = summary([item, item], features, None)
    assert found["a: diversity over seeds of a unit"] == mean([0.0, 0.0])
    assert found["a: diversity over units at a seed"] == mean([1.0, 1.0])
