"""One pass over photographs against brute force; interrupted and resumed; more photographs than the sample holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gen_prior.applications import photograph_counters
from gen_prior.applications.exemplars import wanted_targets
from gen_prior.applications.photograph_counters import BestPhotographs
from gen_prior.applications.photograph_pass import matching_layers, run_pass, statistics_of_units
from gen_prior.applications.photographs import as_seen
from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, UnknownNameError
from gen_prior.objectives import Objective, units
from gen_prior.objectives.natural_statistics import LEVELS
from gen_prior.objectives.targets import parse_target
from gen_prior.util.image_io import read_image, write_png
from gen_prior.util.progress import Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(5)
    for number in range(11):
        write_png(tmp_path / "photographs" / f"{number:02}.png", torch.rand(3, 40, 36, generator=source))
    return tmp_path / "photographs"


def shown(classifier: Classifier, folder: Path) -> Tensor:
    return torch.stack([as_seen(classifier, read_image(path)) for path in sorted(folder.iterdir())])


@pytest.mark.parametrize("name", ["tiny_classifier", "channels_last"])
def test_statistics_of_every_unit(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    classifier = request.getfixturevalue(name)
    table = statistics_of_units(classifier, folder, batch=4)
    images, levels = shown(classifier, folder), torch.tensor(LEVELS)
    assert {"tiny": "conv2", "channels-last": "norm"}[classifier.name] in table.tables
    assert "logits" in table.tables
    for layer, quantiles in table.tables.items():
        targets = [parse_target(f"{layer}:{unit}", classifier) for unit in range(quantiles.shape[2])]
        values = classifier.activations(images, [layer])
        for unit, target in enumerate(targets):
            maps = target.everywhere(values).flatten(1) if values[layer].ndim > 2 else target.read(values)[:, None]
            for kind, expected in enumerate((target.read(values), maps.amax(1), maps.mean(1))):
                torch.testing.assert_close(
                    quantiles[kind, :, unit], expected.quantile(levels), rtol=2e-3, atol=2e-3, msg=f"{layer}:{unit}"
                )
            torch.testing.assert_close(table.lowest[layer][unit], maps.min(), rtol=1e-4, atol=1e-5)
    assert table.metadata["images"] == "11"


def test_an_interrupted_pass_goes_on_where_it_was(tiny_classifier: Classifier, folder: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 8:
            raise KeyboardInterrupt

    seen: list[int] = []
    options: dict[str, Any] = {"state": tmp_path / "state", "every": 3, "batch": 2}
    with pytest.raises(KeyboardInterrupt):
        statistics_of_units(tiny_classifier, folder, ["conv2"], progress=stop, **options)
    again = statistics_of_units(tiny_classifier, folder, ["conv2"], progress=lambda p: seen.append(p.done), **options)
    whole = statistics_of_units(tiny_classifier, folder, ["conv2"], batch=2)
    assert seen == [10, 11], "the photographs of the last state are not looked at again"
    assert torch.equal(again.tables["conv2"], whole.tables["conv2"])
    seen.clear()
    statistics_of_units(tiny_classifier, folder, ["conv1"], progress=lambda p: seen.append(p.done), **options)
    assert seen[0] == 2, "a state of other layers is not taken"


def test_more_photographs_than_the_sample(
    tiny_classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = statistics_of_units(tiny_classifier, folder, ["conv2"])
    monkeypatch.setattr(photograph_counters, "SAMPLE", 6)
    sampled = statistics_of_units(tiny_classifier, folder, ["conv2"])
    for level in (0, -1):
        assert torch.equal(sampled.tables["conv2"][:, level], whole.tables["conv2"][:, level])
    assert not torch.equal(sampled.tables["conv2"], whole.tables["conv2"])
    assert (sampled.tables["conv2"].diff(dim=1) >= 0).all()


def test_a_pass_keeps_the_best_of_every_target_and_objective(
    tiny_classifier: Classifier, folder: Path, tmp_path: Path
) -> None:
    targets: list[str | Objective] = ["bee", "conv2:3", "conv2:4@mean", "-conv2:5", units("conv1", {1: 1.0, 2: -1.0})]
    best = BestPhotographs(wanted_targets(tiny_classifier, targets), 3)
    run_pass(tiny_classifier, folder, {"best": best}, batch=4)
    images = shown(tiny_classifier, folder)
    values = tiny_classifier.activations(images, ["logits", "conv1", "conv2"])
    means = values["conv1"].mean((2, 3))
    scores = [
        values["logits"][:, 1], values["conv2"][:, 3].amax((1, 2)), values["conv2"][:, 4].mean((1, 2)),
        -values["conv2"][:, 5].amin((1, 2)), means[:, 1] - means[:, 2],
    ]  # fmt: skip
    for row, expected in enumerate(scores):
        top = expected.topk(3)
        torch.testing.assert_close(best.values[row], top.values, rtol=1e-4, atol=1e-5)
        assert best.numbers[row].tolist() == top.indices.tolist()
    assert best.positions[1, 0] == values["conv2"][best.numbers[1, 0], 3].argmax()


def test_patterns_of_layers(tiny_classifier: Classifier, folder: Path) -> None:
    assert matching_layers(tiny_classifier, ["relu*", "conv1"]) == ["conv1", "relu1", "relu2"]
    with pytest.raises(UnknownNameError, match=r"conv9"):
        matching_layers(tiny_classifier, ["conv9*"])


def test_folders_of_unreadable_files(tiny_classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of the 1 image files"):
        statistics_of_units(tiny_classifier, tmp_path, ["conv2"], on_bad=lambda message: None)
