"""The gallery of a result folder: every picture, every number, and names that are text, whatever they hold."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import gen_prior
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OutputError
from gen_prior.generators.base import Generator
from gen_prior.report.pages.gallery import PAGE, gallery
from gen_prior.report.pages.render import number, percent

HOSTILE = "<script>alert(1)</script> \"a\" & 'b'"


@pytest.fixture
def folder(tmp_path: Path, tiny_classifier: Classifier, tiny_generator: Generator) -> Path:
    """A result of two targets and two seeds."""
    gen_prior.synthesize(tiny_classifier, ["bee", "conv2:3"], tiny_generator, seeds=2, steps=2, out=tmp_path / "a run")
    return tmp_path / "a run"


def test_shows_every_picture_with_its_activation(folder: Path) -> None:
    page = gallery(folder).read_text(encoding="utf-8")
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    sources = [unquote(html.unescape(found)) for found in re.findall(r'<img src="([^"]*)"', page)]
    assert sources == [item["image"] for item in record["items"]]
    assert all((folder / source).is_file() for source in sources)
    for item in record["items"]:
        assert f"seed {item['seed']}: activation {number(item['activation'])}" in page
    assert "4 pictures by tiny, 2 steps each." in page


def test_shows_what_is_finished(folder: Path) -> None:
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    record["items"][3] = {"target": 1, "seed": 1, "status": "not finished"}
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    page = gallery(folder).read_text(encoding="utf-8")
    assert len(re.findall("<img ", page)) == 3
    assert "3 pictures by tiny, 2 steps each. 1 more not finished." in page


def test_pictures_beside_a_picture_are_shown(folder: Path) -> None:
    (folder / "bee-seed0-in-place.png").write_bytes((folder / "bee-seed0.png").read_bytes())
    page = gallery(folder).read_text(encoding="utf-8")
    assert 'alt="bee, seed 0, in place"' in page
    assert len(re.findall("<img ", page)) == 5


def comparison(**item: Any) -> dict[str, Any]:
    """What a gallery reads of a comparison."""
    items = [{"target": 0, "seed": 0, "status": "ok", "activation": 12.5, "image": "m/it's # 1.png"} | item]
    summary = {"activation": {"value": 12.5}, "kept_blur": {"value": 0.043}, "slope": None}
    return {
        "classifier": {"name": HOSTILE},
        "judge": {"name": HOSTILE},
        "evaluations": 64,
        "targets": [{"name": HOSTILE, "target": "logits:1"}],
        "methods": [{"name": HOSTILE, "summary": summary, "items": items}],
    }


def test_single_pictures_share_the_width(
    tmp_path: Path, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    gen_prior.synthesize(tiny_classifier, ["bee", "conv2:3"], tiny_generator, steps=2, out=tmp_path)
    (tmp_path / "bee-seed0.mp4").touch()
    page = gallery(tmp_path).read_text(encoding="utf-8")
    assert page.count('<div class="pictures">') == 1
    assert page.count("<h2>") == 0
    assert all(f"<h3>{name}" in page for name in ("bee", "conv2:3"))
    assert '<a href="bee-seed0.mp4">film</a>' in page


def test_methods_share_the_width_above_the_film(tmp_path: Path) -> None:
    record = comparison(image="m/ant-seed0.png")
    record["methods"] += [record["methods"][0] | {"name": "second"}]
    (tmp_path / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "film-ant.gif").touch()
    page = gallery(tmp_path).read_text(encoding="utf-8")
    pictures = [re.findall(r'src="([^"]*)"', row) for row in page.split('<div class="pictures">')[1:]]
    assert pictures == [["m/ant-seed0.png"] * 2, ["film-ant.gif"]]
    assert "<h3>second</h3>" in page
    (tmp_path / "film-ant.gif").rename(tmp_path / "film-ant.mp4")
    assert '<video src="film-ant.mp4"' in gallery(tmp_path).read_text(encoding="utf-8")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    record = comparison(judge_class=HOSTILE, judge_top1=False)
    (tmp_path / "comparison.json").write_text(json.dumps(record), encoding="utf-8")
    page = gallery(tmp_path).read_text(encoding="utf-8")
    assert page.count("<script>") == 1  # our own
    assert page.count(html.escape("<script>alert(1)</script>")) >= 6
    assert 'src="m/it%27s%20%23%201.png"' in page
    assert "4.3 %" in page  # of the table of medians
    assert "spectrum slope" not in page


def test_runs_no_script_but_its_own(folder: Path) -> None:
    page = gallery(folder).read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "unsafe" not in page


def test_pictures_outside_the_folder_are_refused(tmp_path: Path) -> None:
    for path in ("../secret.png", "/etc/secret.png"):
        (tmp_path / "comparison.json").write_text(json.dumps(comparison(image=path)), encoding="utf-8")
        with pytest.raises(OutputError, match="outside the folder"):
            gallery(tmp_path)


def test_damaged_and_missing_results(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no result in .*command of gen-prior"):
        gallery(tmp_path)
    (tmp_path / "comparison.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="damaged"):
        gallery(tmp_path)
    assert not (tmp_path / PAGE).exists()


def test_numbers_and_shares_in_words() -> None:
    assert [number(value) for value in (None, 0.1234, 12.34, -123.4)] == ["–", "0.12", "12.3", "−123"]
    assert [percent(value) for value in (None, 0, 0.043, 0.5, 0.997, 1)] == [
        "–", "0 %", "4.3 %", "50 %", "99.7 %", "100 %",
    ]  # fmt: skip
