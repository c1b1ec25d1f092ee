"""A result as people look at it: items by name, pictures, sheets, tables, and what a notebook shows."""

from __future__ import annotations

import base64
import csv
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import gen_prior as gp
from gen_prior.optimise import stored_result
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.result_folder import UNFINISHED
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import read_image


@pytest.fixture
def result(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> gp.Result:
    targets = ["golden retriever", "conv2:3@mean", "ant+0.5*bee"]
    return synthesize(tiny_classifier, targets, tiny_generator, seeds=[5, 7], steps=3)


def test_items_are_called_by_target_and_seed(result: gp.Result) -> None:
    item = result["golden retriever", 7]
    assert torch.equal(item.image, result.images[0, 1])
    assert torch.equal(item.code, result.codes[0, 1])
    assert torch.equal(item.history, result.history[0, 1])
    assert item.activation == float(result.activations[0, 1])
    assert item.start_activation == float(result.start_activations[0, 1])
    assert (item.target, item.seed, item.name, item.status) == (
        "golden retriever", 7, "golden-retriever-seed7", "ok",
    )  # fmt: skip
    for name in ("logits:3", 3, "golden-retriever"):
        assert [one.name for one in result[name]] == ["golden-retriever-seed5", "golden-retriever-seed7"]
    assert list(result["ant + 0.5*bee", 5].terms) == ["ant", "bee"]
    assert result["conv2:3@mean", 5].terms == {}
    assert [one.name for one in result] == result.names()


def test_a_target_is_found_as_it_was_typed(result: gp.Result) -> None:
    assert result["conv2:3", 7].name == result["conv2:3@mean", 7].name
    assert result.image("ant+0.5*bee", 5).tobytes() == result.image("ant + 0.5*bee", 5).tobytes()
    assert [result[number, 5].target for number in range(3)] == [result[t["name"], 5].target for t in result.targets]
    assert result[3, 5].target == "golden retriever", "the number of its class"
    result.targets[2] = result.targets[1] | {"target": "conv2:3@1,1", "name": "conv2:3@1,1"}
    with pytest.raises(gp.GenPriorError, match=r"did you mean conv2:3@"):
        _ = result["conv2:3", 7]


def test_names_that_a_result_does_not_have(result: gp.Result, tiny_classifier: gp.Classifier) -> None:
    with pytest.raises(gp.GenPriorError, match="unknown target of this result 'retriever'; did you mean golden retr"):
        _ = result["retriever"]
    with pytest.raises(gp.GenPriorError, match=r"no seed 1.*its seeds are 5, 7"):
        _ = result["conv2:3@mean", 1]
    with pytest.raises(gp.GenPriorError, match="a target and a seed"):
        _ = result["ant", 5, 5]  # type: ignore[index]
    objective = gp.objectives.channel("conv1", 1)
    twice = synthesize(tiny_classifier, [objective, objective], "pixel-raw", steps=1)
    with pytest.raises(gp.GenPriorError, match=r"2 targets are called .*channel-conv1-1-2"):
        _ = twice[twice.targets[0]["name"]]
    assert twice["channel-conv1-1-2", 0].name == "channel-conv1-1-2-seed0"


def test_pictures(result: gp.Result, tmp_path: Path) -> None:
    for picture in (result.image("conv2:3@mean", 7), result["conv2:3@mean", 7].picture()):
        picture.save(tmp_path / "picture.png")
        assert torch.equal(read_image(tmp_path / "picture.png"), (result.images[1, 1] * 255).round() / 255)
    assert result.image().tobytes() == result.image("golden retriever", 5).tobytes()
    result.save(tmp_path)
    with Image.open(tmp_path / "contact-sheet.png") as written:
        assert result.sheet().tobytes() == written.tobytes()
    with pytest.raises(gp.GenPriorError, match="pages 1 to 1, got 2"):
        result.sheet(2)


def test_a_table_of_pandas_has_the_columns_of_numbers_csv(result: gp.Result, tmp_path: Path) -> None:
    table = result.to_dataframe()
    assert table["target"].tolist() == [item.target for item in result]
    assert table["seed"].tolist() == [5, 7] * 3
    assert table["activation"].tolist() == [item.activation for item in result]
    result.save(tmp_path)
    with (tmp_path / "numbers.csv").open(encoding="utf-8") as file:
        known = next(csv.reader(file))
    assert list(table) == [name for name in known if name in table]
    assert "photograph_ratio" not in table  # there is no table of photographs


def test_without_pandas(result: gp.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(gp.GenPriorError, match=r"needs pandas.*gen-prior\[tables\]"):
        result.to_dataframe()


def test_a_line_for_a_result_and_for_an_item(result: gp.Result) -> None:
    assert repr(result) == "<Result: 6 images of golden retriever, conv2:3@mean, ant + 0.5*bee; tiny for tiny, 3 steps>"
    item = result["golden retriever", 5]
    assert repr(item) == f"<golden retriever, seed 5: activation {item.activation:.4g}>"
    result.status[2][1] = UNFINISHED
    assert repr(result).startswith("<Result: 5 of 6 images of ")


def pictures(html: str) -> list[Image.Image]:
    """The images inside a page."""
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([\w+/=]+)", html)]


def test_what_a_notebook_shows(result: gp.Result) -> None:
    result.targets[0]["name"] = "<script>alert(1)</script>"
    result.status[1][0] = UNFINISHED
    html = result._repr_html_()
    assert len(pictures(html)) == 5
    assert f"{result.activations[2, 1].item():.4g}" in html
    assert "seed 5" in html
    assert UNFINISHED in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    html = result["conv2:3@mean", 7]._repr_html_()
    assert pictures(html)[0].size == (16, 16)


def test_a_notebook_is_not_flooded(tiny_classifier: gp.Classifier) -> None:
    wide = gp.load_generator("pixel-raw", device="cpu", image_size=140)
    many = synthesize(tiny_classifier, "conv2:0-10", wide, seeds=9, steps=1, recipe=gp.Recipe(steps=1))
    html = many._repr_html_()
    assert len(pictures(html)) == 80
    assert "and 19 more images" in html
    assert max(pictures(html)[0].size) == 128
    assert len(html) < 2_000_000


def test_a_result_in_a_folder_reads_one_item_at_a_time(
    result: gp.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_result(result.save(tmp_path))
    read: list[Any] = []
    reading = stored_result.read_item

    def counted(folder: Path, item: Any, shapes: Any) -> Any:
        read.append(item["data"])
        return reading(folder, item, shapes)

    monkeypatch.setattr("gen_prior.optimise.result.read_item", counted)
    assert torch.equal(loaded["golden retriever", 7].image, result.images[0, 1])
    assert read == ["golden-retriever-seed7.safetensors"]
    assert "images" not in vars(loaded)


def test_out_leaves_the_folder_of_the_command(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, result: gp.Result, tmp_path: Path
) -> None:
    synthesize(
        tiny_classifier,
        [t["target"] for t in result.targets],
        tiny_generator,
        seeds=[5, 7],
        steps=3,
        out=tmp_path / "a",
    )
    result.save(tmp_path / "b")
    left = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in "ab"]
    assert left[0] == left[1]
    assert {"contact-sheet.png", "numbers.csv", "result.json"} < set(left[0])
    for name in ("contact-sheet.png", "numbers.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_after_ctrl_c_there_is_a_sheet_of_what_is_finished(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    def stop(report: gp.Progress) -> None:
        if report.done > 3 * 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tiny_classifier, "ant", tiny_generator, seeds=4, steps=2, batch=1, out=tmp_path, progress=stop)
    assert repr(load_result(tmp_path)).startswith("<Result: 3 of 4 images")
    assert (tmp_path / "contact-sheet.png").exists()
    assert len((tmp_path / "numbers.csv").read_text().splitlines()) == 5
