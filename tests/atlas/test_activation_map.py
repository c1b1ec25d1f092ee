"""Activation maps of a tiny network: the samples, the files of the page, and going on cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gen_prior.applications.photograph_pass import run_pass
from gen_prior.applications.photographs import as_seen
from gen_prior.atlas.activation_map import ActivationMap, make_activation_map
from gen_prior.atlas.activation_samples import SampledActivations, inner_positions
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.generators import Generator
from gen_prior.hub.tensors import read_tensors
from gen_prior.objectives.units import direction
from gen_prior.util.image_io import read_image, write_png
from gen_prior.util.progress import Progress


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    source = torch.Generator().manual_seed(0)
    for number in range(10):
        write_png(folder / f"{number}.png", torch.rand(3, 40, 36, generator=source))
    return folder


def small(classifier: Classifier, generator: Generator, images: Path, out: Path, **more: Any) -> ActivationMap:
    settings: dict[str, Any] = {"layout": "pca", "grid": 3, "smallest": 2, "evaluations": 3}
    return make_activation_map(
        classifier, "conv2", images=images, out=out, generators=[generator, "fourier"], **(settings | more)
    )


def pages(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("*.html"), *(folder / "data").rglob("*"), *(folder / "assets").rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def test_samples_are_the_activations_at_the_drawn_positions(
    tiny_classifier: Classifier, photographs: Path, tmp_path: Path
) -> None:
    samples = SampledActivations(tiny_classifier, "conv2", tmp_path, 10, positions=3, seed=5)
    run_pass(tiny_classifier, photographs, {"samples": samples}, batch=4)
    files = sorted(photographs.iterdir())
    images = torch.stack([as_seen(tiny_classifier, read_image(path)) for path in files])
    values = tiny_classifier.activations(images, ["conv2"])["conv2"].flatten(2)
    drawn = [samples.drawn(number) for number in range(10)]
    expected = torch.stack([values[n, :, position] for n in range(10) for position in drawn[n]])
    torch.testing.assert_close(torch.from_numpy(samples.rows[:30]), expected, rtol=1e-4, atol=1e-5)
    assert len({position for row in drawn for position in row}) > 20
    assert {position for row in drawn for position in row} <= set(inner_positions((16, 16)))
    assert SampledActivations(tiny_classifier, "conv2", tmp_path, 10, positions=3, seed=6).drawn(0) != drawn[0]


def test_positions_at_the_edges_are_left_out_of_layers_that_are_large_enough() -> None:
    assert inner_positions((5, 6)) == [row * 6 + column for row in (1, 2, 3) for column in (1, 2, 3, 4)]
    assert inner_positions((4,)) == [0, 1, 2, 3]
    assert inner_positions(()) == [0]


def test_a_map_has_cells_pictures_and_a_page(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    seen: list[Progress] = []
    made = small(tiny_classifier, tiny_generator, photographs, out, progress=seen.append)
    assert made.page == out / "map-conv2.html"
    assert made.places.shape == (40, 2)
    assert sum(cell.points for cell in made.cells) <= 40
    assert (seen[-1].done, seen[-1].total) == (2 * len(made.cells),) * 2
    text = (out / "data" / "map-conv2" / "cells.js").read_text()
    described = json.loads(text.removeprefix("window.activationMap = ").removesuffix(";\n"))
    assert [one["name"] for one in described["generators"]] == ["tiny", "fourier"]
    for cell, shown in zip(made.cells, described["cells"], strict=True):
        assert (shown["row"], shown["column"], shown["points"]) == (cell.row, cell.column, cell.points)
        assert [name for name, _ in cell.classes] == [name for name, _ in shown["classes"]]
        assert sorted((effect for _, effect in cell.classes), reverse=True) == [effect for _, effect in cell.classes]
    first = made.cells[0]
    sheet = Image.open(out / "data" / "map-conv2" / "fourier" / "0-0.webp")
    tile = described["tile"]
    place = (first.column * tile, first.row * tile, (first.column + 1) * tile, (first.row + 1) * tile)
    before = Image.open(first.pictures["fourier"]).resize((tile, tile), Image.Resampling.LANCZOS)
    differences = torch.tensor(list(sheet.crop(place).tobytes())).float() - torch.tensor(list(before.tobytes()))
    assert differences.abs().mean() < 4, "of the compression only"
    html = made.page.read_text()
    assert "<td>" + "; ".join(name for name, _ in first.classes) + "</td>" in html
    assert not any(path.name in html + text for path in photographs.iterdir())


def test_the_recorded_activation_is_the_projection_of_the_picture(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    made = small(tiny_classifier, tiny_generator, photographs, tmp_path / "out", evaluations=20)
    raised = [cell.activations["tiny"] for cell in made.cells]
    (chart,) = (tmp_path / "out" / "maps" / "conv2").glob("chart-*")
    vector = read_tensors(chart)["directions"][0]
    image = read_image(made.cells[0].pictures["tiny"])[None]
    activations = tiny_classifier.activations(image, ["conv2"])
    found = direction("conv2", vector, "centre")(activations, image, torch.zeros(1, 8))
    assert float(found) == pytest.approx(raised[0], rel=0.2, abs=0.2)


def test_an_interrupted_map_goes_on_and_ends_with_the_same_files(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if "fourier" in progress.label and progress.done % 2 == 0:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made = small(tiny_classifier, tiny_generator, photographs, whole)
    with pytest.raises(KeyboardInterrupt):
        small(tiny_classifier, tiny_generator, photographs, parts, progress=stop)
    seen: list[str] = []
    small(tiny_classifier, tiny_generator, photographs, parts, progress=lambda p: seen.append(p.label))
    assert 0 < len(seen) < len(made.cells), "neither the pass nor drawn cells are made again"
    assert pages(parts) == pages(whole)
    damaged = made.cells[1].pictures["tiny"]
    before = damaged.read_bytes()
    damaged.write_bytes(before[:40])
    seen.clear()
    small(tiny_classifier, tiny_generator, photographs, whole, progress=lambda p: seen.append(p.label))
    assert len(seen) == 1
    assert damaged.read_bytes() == before


def test_another_map_of_the_layer_is_refused_or_replaced(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    small(tiny_classifier, tiny_generator, photographs, out)
    with pytest.raises(OptionError, match=r"holds a map of conv2 with another grid"):
        small(tiny_classifier, tiny_generator, photographs, out, grid=2)
    made = small(tiny_classifier, tiny_generator, photographs, out, grid=2, overwrite=True)
    assert len(made.cells) <= 4


def test_a_network_without_classes_and_hostile_names(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    bare = Classifier(tiny_classifier.network, input_size=32, has_classes=False, name="<script>alert(1)</script>")
    made = small(bare, tiny_generator, photographs, tmp_path / "out")
    assert made.cells[0].classes == []
    html = made.page.read_text()
    assert "<script>alert" not in html
    assert 'id="search"' not in html


def test_unknown_layouts_and_layers(tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown layout 'tsne'"):
        small(tiny_classifier, tiny_generator, photographs, photographs.parent / "out", layout="tsne")
    with pytest.raises(UnknownNameError, match=r"conv9"):
        make_activation_map(tiny_classifier, "conv9", images=photographs, out=photographs.parent / "out")
    with pytest.raises(OptionError, match=r"grid must be at least 1"):
        small(tiny_classifier, tiny_generator, photographs, photographs.parent / "out", grid=0)
    assert not (photographs.parent / "out").exists()
