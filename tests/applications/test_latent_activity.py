"""Dead and dense latents of sparse autoencoders, counted over photographs and said in one line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

import gen_prior as gp
from gen_prior.applications.photograph_pass import matching_layers, statistics_of_units
from gen_prior.applications.photographs import as_seen
from gen_prior.classifiers import Classifier
from gen_prior.errors import TargetError, UnknownNameError
from gen_prior.objectives.natural_statistics import KINDS, LEVELS, NaturalStatistics
from gen_prior.util.image_io import read_image, write_png

DEAD, DENSE = 0, 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(5)
    for number in range(7):
        write_png(tmp_path / "photographs" / f"{number}.png", torch.rand(3, 40, 36, generator=source))
    return tmp_path / "photographs"


@pytest.fixture
def sae(tmp_path: Path, tiny_classifier: Classifier) -> Path:
    """Four latents of conv2: one that is never active, one that always is, and two of single units."""
    units = tiny_classifier.layer_shape("conv2")[0]
    columns, bias = torch.zeros(units, 4), torch.tensor([-1e3, 1e3, 0.0, 0.0])
    columns[[0, 1, 2, 3], [0, 1, 2, 3]] = 1.0
    return gp.Dictionary(columns, bias, decoder=columns.T, layer="conv2").save(tmp_path / "sae")


def test_a_pass_counts_latents(
    tiny_classifier: Classifier, folder: Path, sae: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"conv2/sae:{sae}"
    assert matching_layers(tiny_classifier, [f"conv?/sae:{sae}", "conv1"])[0] == "conv1"
    with pytest.raises(TargetError, match="conv1"):
        statistics_of_units(tiny_classifier, folder, [f"conv1/sae:{sae}"])
    statistics_of_units(tiny_classifier, folder, [name, "conv1"], batch=3).save(tmp_path / "table.safetensors")
    table = NaturalStatistics.load(tmp_path / "table.safetensors")
    images = torch.stack([as_seen(tiny_classifier, read_image(path)) for path in sorted(folder.iterdir())])
    units = tiny_classifier.activations(images, ["conv2"])["conv2"].flatten(2).mT
    latents = gp.load_dictionary(sae)(units)
    for kind, expected in (("anywhere", latents.amax(1)), ("mean", latents.mean(1))):
        levels = expected.quantile(torch.tensor(LEVELS), dim=0)
        torch.testing.assert_close(table.tables[name][KINDS.index(kind)].float(), levels, rtol=2e-3, atol=2e-3)
    (_, height, width) = tiny_classifier.layer_shape("conv2")
    centre = latents[:, height // 2 * width + width // 2].median(0).values
    assert table.activity(name) == (int((latents.amax((0, 1)) <= 0).sum()), int((centre > 0).sum()))
    assert table.activity("conv1") is None, "convolutions have negative values"
    table.attach(tiny_classifier)
    moved = shutil.move(sae, tmp_path / "moved")
    with caplog.at_level(logging.WARNING):
        targets = [f"conv2/sae:{moved}:0-1@mean", "conv2:0"]
        result = gp.synthesize(tiny_classifier, targets, "pixel", steps=1)
    assert [record.getMessage() for record in caplog.records] == [
        "dead latents, never active in the photographs of the table: conv2/sae:0@mean",
        "dense latents, active at the centre of at least half of the photographs: conv2/sae:1@mean",
    ]
    assert result.targets[0]["photographs"]["images"] == 7
    caplog.clear()
    gp.find_exemplars(tiny_classifier, targets, folder)
    assert [record.getMessage() for record in caplog.records] == [
        "dead latents, never active in 7 photographs: conv2/sae:0@mean"
    ]


def test_a_dictionary_of_other_files_has_no_table(
    tiny_classifier: Classifier, folder: Path, sae: Path, tmp_path: Path
) -> None:
    name = f"conv2/sae:{sae}"
    table = statistics_of_units(tiny_classifier, folder, [name])
    assert table.of(gp.parse_target(f"{name}:2", tiny_classifier)) is not None
    own = gp.load_dictionary(sae)
    assert own.bias is not None
    gp.Dictionary(own.encoder, own.bias + 1, decoder=own.decoder).save(tmp_path / "other")
    assert table.of(gp.parse_target(f"conv2/sae:{tmp_path / 'other'}:2", tiny_classifier)) is None
    with pytest.raises(UnknownNameError, match="conv9"):
        matching_layers(tiny_classifier, [f"conv9/sae:{sae}"])
    assert json.loads(table.metadata["dictionaries"]).keys() == {name}
