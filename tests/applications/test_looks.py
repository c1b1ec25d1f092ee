"""Comparisons, inversions, exemplars and chains as people look at them: a line, a notebook's table, sheets."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import gen_prior as gp
from gen_prior.applications.exemplar import Exemplars
from gen_prior.report.measures import best_photograph
from gen_prior.util.image_io import write_png


@pytest.fixture
def comparison(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, make_tiny_network: Callable[..., nn.Module]
) -> gp.Comparison:
    labels = [tiny_classifier.class_name(number) for number in range(5)]
    judge = gp.Classifier(make_tiny_network(1), input_size=32, labels=labels, name="judge")
    return gp.compare(
        tiny_classifier, ["bee", "conv2:3"], [tiny_generator, "pixel-raw"], judge=judge, seeds=2, evaluations=2
    )


def pictures(html: str) -> list[Image.Image]:
    """The images inside a page."""
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([\w+/=]+)", html)]


def test_a_comparison(comparison: gp.Comparison, tmp_path: Path) -> None:
    assert repr(comparison) == "<Comparison: 2 targets x 2 seeds through tiny, pixel-raw; for tiny, judged by judge>"
    html = comparison._repr_html_()
    assert len(pictures(html)) == 8
    assert "judge top1" in html
    assert "judge: " in html
    assert comparison["tiny"] is comparison.results["tiny"]
    with pytest.raises(gp.GenPriorError, match="unknown method of this comparison 'pixel'; did you mean pixel-raw"):
        _ = comparison["pixel"]
    table = comparison.to_dataframe()
    assert len(table) == 8
    assert table["method"].tolist() == ["tiny"] * 4 + ["pixel-raw"] * 4
    comparison.save(tmp_path)
    with Image.open(tmp_path / "contact-sheet.png") as written:
        assert comparison.sheet().tobytes() == written.tobytes()
    with pytest.raises(gp.GenPriorError, match="pages 1 to 1, got 0"):
        comparison.sheet(0)


@pytest.mark.parametrize("kind", ["comparison", "inversion", "accentuation", "morph"])
def test_nothing_is_saved_over_another_run(
    kind: str, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    photo = torch.rand(3, 32, 32)
    make: dict[str, Callable[[int], Any]] = {
        "comparison": lambda seed: gp.compare(tiny_classifier, "bee", [tiny_generator], seeds=[seed], evaluations=2),
        "inversion": lambda seed: gp.invert(tiny_classifier, photo, ["conv1"], tiny_generator, steps=1, seed=seed),
        "accentuation": lambda seed: gp.accentuate(
            tiny_classifier, photo, ["bee"], layer="conv1", steps=1, nearness=float(seed)
        ),
        "morph": lambda seed: gp.morph(tiny_classifier, ["bee", "ant"], tiny_generator, frames=2, steps=1, seed=seed),
    }
    first, other = (make[kind](seed) for seed in (1, 2))
    first.save(tmp_path)
    (tmp_path / "mine.txt").touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(gp.GenPriorError, match=rf"holds an? {kind} with (an)?other .*overwrite=True"):
        other.save(tmp_path)
    first.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    other.save(tmp_path, overwrite=True)
    assert (tmp_path / f"{kind}.json").read_bytes() != before[tmp_path / f"{kind}.json"]
    assert (tmp_path / "mine.txt").exists()


def test_a_loaded_comparison_shows_the_same(comparison: gp.Comparison, tmp_path: Path) -> None:
    loaded = gp.load_comparison(comparison.save(tmp_path))
    assert repr(loaded) == repr(comparison)
    assert loaded._repr_html_() == comparison._repr_html_()
    assert loaded.sheet().tobytes() == comparison.sheet().tobytes()
    assert torch.equal(loaded["tiny"]["bee", 1].image, comparison["tiny"]["bee", 1].image)


def test_a_comparison_of_a_stranger_shows_nothing_outside_its_folder(comparison: gp.Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path / "out")
    write_png(tmp_path / "secret.png", torch.rand(3, 8, 8))
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    record["targets"][0]["name"] = "<b>bee</b>"
    record["methods"][0]["items"][0]["image"] = "../secret.png"
    (tmp_path / "out" / "tiny" / "bee-seed1.png").unlink()
    (tmp_path / "out" / "comparison.json").write_text(json.dumps(record))
    html = gp.load_comparison(tmp_path / "out")._repr_html_()
    assert len(pictures(html)) == 6
    assert "&lt;b&gt;bee" in html


def test_an_inversion(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path) -> None:
    inversion = gp.invert(
        tiny_classifier, torch.rand(3, 40, 40), ["conv1", "conv2"], {"<tiny>": tiny_generator}, steps=2
    )
    assert repr(inversion) == "<Inversion: 32 x 32 image from conv1, conv2 through <tiny>>"
    html = inversion._repr_html_()
    assert len(pictures(html)) == 3
    assert "<tiny>" not in html
    found = inversion["<tiny>", "conv2"]
    assert f"error {found.error:.3g}" in html
    assert repr(found) == f"<conv2 through <tiny>: error {found.error:.3g}>"
    assert found.picture().size == (16, 16)
    with pytest.raises(gp.GenPriorError, match="unknown layer of this inversion 'conv'; did you mean"):
        _ = inversion["<tiny>", "conv"]
    inversion.save(tmp_path)
    with Image.open(tmp_path / "inversion.png") as written:
        assert inversion.sheet().tobytes() == written.tobytes()


def test_exemplars(tiny_classifier: gp.Classifier, tmp_path: Path) -> None:
    for number in range(14):
        write_png(tmp_path / f"{number} & more.png", torch.rand(3, 32, 32))
    found = gp.find_exemplars(tiny_classifier, "conv2:3", tmp_path, count=14)
    assert (
        repr(found)
        == f"<Exemplars of conv2:3: 14 photographs, activation {found[0].activation:.4g} to {found[-1].activation:.4g}>"
    )
    assert repr(found[0]) == f"<{found[0].path.name}: activation {found[0].activation:.4g}>"
    html = found._repr_html_()
    assert len(pictures(html)) == 12
    assert "and 2 more" in html
    assert "&amp; more.png" in html
    assert found.sheet().width > found[0].picture().width == found[0].patch.shape[2]
    assert len(pictures(found[0]._repr_html_())) == 1
    assert {picture.width for picture in pictures(html)} == {128}  # of a patch of a few pixels
    several = gp.find_exemplars(tiny_classifier, ["conv2:3", "-conv2:3@2,2"], tmp_path, count=3)
    assert repr(several) == "<Exemplars of 2 targets: conv2:3, -conv2:3>"
    assert len(pictures(several._repr_html_())) == 6  # type: ignore[attr-defined]
    assert several.sheet().height > found.sheet().height  # type: ignore[attr-defined]
    assert repr(Exemplars()) == "<Exemplars: none>"
    with pytest.raises(gp.GenPriorError, match="no photograph"):
        Exemplars().sheet()


def test_a_chain(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    chain = gp.sample_chain(tiny_classifier, "bee", tiny_generator, iterations=20, threshold=0.0, apart=0.0)
    assert repr(chain) == "<Chain: 2 samples kept of 2 checks>"
    assert len(pictures(chain._repr_html_())) == 2
    assert chain.sheet().width > 2 * 144


@pytest.mark.parametrize("name", gp.PRESETS)
def test_a_recipe_is_one_line_that_gives_it_back(name: str) -> None:
    line = repr(gp.PRESETS[name])
    assert "\n" not in line
    assert eval(line, {"Recipe": gp.Recipe}) == gp.PRESETS[name]


def test_models_are_one_line(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    assert repr(tiny_classifier) == "<Classifier tiny: 5 classes, input 32 x 32, on cpu>"
    wide = gp.Classifier(nn.Conv2d(3, 4, 3), input_size=(36, 64))  # (height, width), as shapes have them
    assert repr(wide) == "<Classifier custom: input 36 x 64, on cpu>"
    assert repr(tiny_generator) == "<Generator tiny: codes of 8, on cpu>"
    assert repr(gp.Recipe(rate=0.2)) == "Recipe(steps=128, rate=0.2)"


def test_a_judge_is_not_quoted_on_hidden_units(comparison: gp.Comparison) -> None:
    for item in comparison.record["methods"][0]["items"]:
        item["judge_class"] = "prayer rug"
    html = comparison._repr_html_()
    assert html.count("judge: prayer rug") == 2  # of the class, not of conv2:3, by one method
    assert html.count("not judged") == 4
    assert "95 % interval" in html


def test_a_ratio_says_which_photographs_it_is_to(
    comparison: gp.Comparison, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    result = gp.synthesize(tiny_classifier, "bee", tiny_generator, steps=1)
    assert "best photograph" not in result._repr_html_()
    result.targets[0]["photographs"] = {"quantiles": [0.0] * 5 + [1.0], "images": 1000}
    assert "best photograph: the best of the table&#x27;s 1,000 photographs" in result._repr_html_()
    assert best_photograph(comparison.record) == ""
    comparison.record["targets"][0]["photographs"] = {"images": 1000}
    comparison.record["methods"][0]["faithfulness"] = [{"photographs": 40}, {"photographs": 40}]
    words = "the best of the table's 1,000 photographs, else the best of the folder's 40 photographs"
    assert best_photograph(comparison.record) == words


def test_the_summary_of_one_image_has_no_interval() -> None:
    shown = {}
    for count in (1, 2):
        measure = {"statistic": "median", "value": 12.75, "low": 12.5, "high": 12.75, "count": count}
        record = {"methods": [{"name": "pixel", "summary": {"activation": measure}}]}
        shown[count] = gp.Comparison(record)._summary()
    assert "12.5 to 12.8" in shown[2]
    assert " to " not in shown[1]
