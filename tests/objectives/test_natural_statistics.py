"""Tables of what photographs reach: saved and loaded, looked up by target, and the installed ones."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators import Generator
from gen_prior.hub.tensors import read_shapes
from gen_prior.objectives import natural_statistics as module
from gen_prior.objectives.natural_statistics import (
    INPUT_KEY,
    KINDS,
    LEVELS,
    NaturalStatistics,
    PhotographActivations,
    described_input,
    natural_statistics,
)
from gen_prior.objectives.targets import parse_target
from gen_prior.optimise.synthesize import synthesize


@pytest.fixture
def table() -> NaturalStatistics:
    source = torch.Generator().manual_seed(0)
    conv2 = torch.rand(3, len(LEVELS), 12, generator=source).sort(1).values
    tables = {"conv2": conv2, "relu2": conv2.clone(), "logits": torch.full((3, len(LEVELS), 5), 1e6)}
    lowest = {layer: values[1, 0] - 1 for layer, values in tables.items()}
    return NaturalStatistics(tables, lowest, {"images": "10", "source": "noise"})


def test_a_saved_table_loads_and_equal_layers_are_stored_once(table: NaturalStatistics, tmp_path: Path) -> None:
    table.save(tmp_path / "table.safetensors")
    again = NaturalStatistics.load(tmp_path / "table.safetensors")
    assert again.metadata == table.metadata
    for layer in table.tables:
        torch.testing.assert_close(again.tables[layer].float(), table.tables[layer], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(again.lowest[layer].float(), table.lowest[layer], rtol=1e-3, atol=1e-3)
    assert "quantiles/relu2" not in read_shapes(tmp_path / "table.safetensors")
    assert again.tables["logits"].max() == 1e6  # beyond the range of half precision


def test_a_position_is_compared_with_any_and_a_mean_with_means(
    table: NaturalStatistics, tiny_classifier: Classifier
) -> None:
    for text, kind in (("conv2:3", 1), ("conv2:3@0,5", 1), ("conv2:3@mean", 2)):
        found = table.of(parse_target(text, tiny_classifier))
        assert found is not None
        assert found.quantiles == pytest.approx(table.tables["conv2"][kind, :, 3].tolist())
        assert found.best == found.quantiles[-1]
    assert table.of(parse_target("conv1:3", tiny_classifier)) is None


def test_quantile_and_ratio() -> None:
    found = PhotographActivations((0.0, 1.0, 2.0, 3.0, 3.0, 4.0), 1000)
    expected = {-1.0: 0.0, 0.0: 0.0, 0.5: 0.25, 1.0: 0.5, 1.5: 0.7, 3.0: 0.999, 3.5: 0.9995, 4.0: 1.0, 9.0: 1.0}
    for activation, share in expected.items():
        assert found.quantile(activation) == pytest.approx(share), activation
    assert found.ratio(6.0) == 1.5
    assert PhotographActivations((0.0,) * 6, 1000).ratio(1.0) is None


def test_a_table_is_found_by_the_weights_or_attached(table: NaturalStatistics, tiny_classifier: Classifier) -> None:
    assert natural_statistics(tiny_classifier) is None
    table.attach(tiny_classifier)
    assert natural_statistics(tiny_classifier) is table


def test_a_table_of_another_input_is_refused(table: NaturalStatistics, tmp_path: Path) -> None:
    """Ratios to photographs that the network saw at another size, or normalised otherwise, mean nothing."""

    def made(**options: Any) -> Classifier:
        described: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "input_size": 32}
        return Classifier(nn.Conv2d(3, 12, 3), **described | options)

    table.metadata[INPUT_KEY] = described_input(made())
    table.save(tmp_path / "table.safetensors")
    again = NaturalStatistics.load(tmp_path / "table.safetensors")
    again.attach(made())
    cases: dict[str, dict[str, Any]] = {
        "input size 32, 32, and custom has input size 16, 32": {"input_size": (16, 32)},
        "mean 0.5, 0.4, 0.3, and custom has mean 0, 0, 0": {"mean": (0.0,) * 3},
        "std 0.2, 0.2, 0.2, and custom has std 1, 1, 1": {"std": (1.0,) * 3},
    }
    for name, options in cases.items():
        with pytest.raises(OptionError, match=f"made at {name}.*--input-size"):
            again.attach(made(**options))
    table.metadata[INPUT_KEY] = '{"mean": 3}'
    table.save(tmp_path / "table.safetensors")
    with pytest.raises(WeightsError, match="mean of the input is 3"):
        NaturalStatistics.load(tmp_path / "table.safetensors")


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no such table"):
        NaturalStatistics.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no table")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        NaturalStatistics.load(tmp_path / "text")
    with pytest.raises(WeightsError, match="no table of natural"):
        NaturalStatistics.load(Path(str(resources.files("gen_prior.weights") / "natural-statistics.safetensors")))


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_the_installed_tables(name: str) -> None:
    classifier = load_classifier(name, device="cpu")
    table = natural_statistics(classifier)
    assert table is not None
    assert table.metadata["images"] == "1000"
    assert table.metadata["source"].endswith("EliSchwartz/imagenet-sample-images")
    for layer, quantiles in table.tables.items():
        shape = classifier.layer_shape(layer)
        assert quantiles.shape == (len(KINDS), len(LEVELS), shape[0])
        assert (quantiles.float().diff(dim=1) >= 0).all()
        assert (quantiles[1, -1] >= quantiles[0, -1]).all(), "the best position is at least the centre"
        assert (table.lowest[layer] <= quantiles[0, 0]).all()
    logits = classifier(torch.full((1, 3, 224, 224), 0.5))[0]
    assert (logits < table.tables["logits"][0, -1]).float().mean() > 0.99, "a grey image excites no class"


def test_a_changed_installed_table_is_refused() -> None:
    (file, _), *_ = module.EMBEDDED.values()
    with pytest.raises(WeightsError, match="expected beef"):
        module._embedded(file, "beef")


def test_a_capped_score_climbs_to_the_best_photograph_and_stays(
    table: NaturalStatistics, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    plain = synthesize(tiny_classifier, "conv2:3", tiny_generator, steps=40, rate=0.05)
    start, end = plain.start_activations.item(), plain.activations.item()
    limit = (start + end) / 2
    table.tables["conv2"][KINDS.index("anywhere"), -1, 3] = limit
    table.attach(tiny_classifier)
    capped = synthesize(tiny_classifier, "conv2:3", tiny_generator, steps=40, rate=0.05, score="capped")
    assert start < capped.activations.item()
    assert abs(capped.activations.item() - limit) < 0.25 * abs(end - limit)
    with pytest.raises(OptionError, match="no table holds"):
        synthesize(tiny_classifier, "conv1:3", tiny_generator, steps=2, score="capped")
