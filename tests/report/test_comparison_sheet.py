"""The contact sheet: drawn from the folder alone, and telling right from wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageColor, ImageDraw

from gen_prior.errors import OutputError
from gen_prior.report.comparison_sheet import CELL, RIGHT, WRONG, _measures, draw_sheet
from gen_prior.util.files import write_json
from gen_prior.util.image_io import write_png
from gen_prior.util.mosaic import TALLEST, wrapped, write_line


def record(*, right: bool, seeds: int = 2, methods: int = 2, **item: Any) -> dict[str, Any]:
    """The part of a comparison's record that a sheet needs."""
    items = [
        {
            "target": 0,
            "seed": seed,
            "image": f"m/goldfish-seed{seed}.png",
            "status": "ok",
            "activation": 12.5,
            "probability": 0.9,
            "judge_class": "goldfish" if right else "stole",
            "judge_probability": 0.7,
            "judge_top1": right,
            "kept_blur": 0.5,
            "kept_jpeg": 0.25,
            "kept_shift": None,
            "high_frequency": 0.1,
            "slope": -2.0,
        }
        | item
        for seed in range(seeds)
    ]
    row = {"diversity": [0.4], "history": [[0.0, 1.0, None, 3.0]], "items": items}
    return {
        "classifier": {"name": "tiny"},
        "judge": {"name": "other"},
        "evaluations": 4,
        "natural": {"size": 32, "high_frequency": 0.03, "slope": -2.5},
        "seeds": list(range(seeds)),
        "targets": [{"name": "goldfish", "target": "logits:1", "judged": True}],
        "methods": [{"name": f"method {m}"} | row for m in range(methods)],
    }


def drawn(
    folder: Path, wanted: dict[str, Any], colour: tuple[float, ...] = (0.2, 0.4, 0.6), size: tuple[int, int] = (16, 16)
) -> Image.Image:
    write_json(folder / "comparison.json", wanted)
    for seed in wanted["seeds"]:
        write_png(folder / "m" / f"goldfish-seed{seed}.png", torch.tensor(colour)[:, None, None].expand(3, *size))
    with Image.open(draw_sheet(folder)[0]) as sheet:
        return sheet.convert("RGB")


def count(sheet: Image.Image, colour: str | tuple[int, ...]) -> int:
    wanted = ImageColor.getrgb(colour) if isinstance(colour, str) else colour
    colours = sheet.getcolors(2**24)
    assert colours is not None
    return sum(number for number, found in colours if found == wanted)


def test_rows_are_methods_and_columns_seeds(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, record(right=True, seeds=3, methods=2))
    assert count(sheet, (51, 102, 153)) == 3 * 2 * CELL**2
    wider, taller = drawn(tmp_path, record(right=True, seeds=5)), drawn(tmp_path, record(right=True, methods=3))
    assert wider.width > sheet.width
    assert taller.height > sheet.height


def test_methods_of_a_single_seed_stand_side_by_side(tmp_path: Path) -> None:
    one, three, four = (drawn(tmp_path, record(right=True, seeds=1, methods=count)) for count in (1, 3, 4))
    assert three.width > one.width
    assert three.height < drawn(tmp_path, record(right=True, seeds=2, methods=2)).height
    assert (four.height > three.height, four.width) == (True, three.width)
    assert count(four, (51, 102, 153)) == 4 * CELL**2


def panel() -> dict[str, Any]:
    return {"path": {"normalised": 0.5}, "two_alternatives": 0.5, "two_alternatives_photographs": 0.4}


def test_rows_are_as_high_as_their_measures_and_none_is_empty(tmp_path: Path) -> None:
    plain = drawn(tmp_path, record(right=True))
    wanted = record(right=True, photograph_ratio=1.5)
    for method in wanted["methods"]:
        method["faithfulness"] = [panel()]
    assert drawn(tmp_path, wanted).height > plain.height
    names = [name for name, _ in _measures(wanted, 0)]
    assert names[-3:] == ["path similarity", "two alternatives", "if shown photographs"]
    assert "kept after shift" not in names, "no image has it"
    assert dict(_measures(wanted, 0))["two alternatives"] == ["50%", "50%"]


def test_pictures_keep_their_proportions(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, record(right=True), size=(8, 16))
    assert count(sheet, (51, 102, 153)) == 2 * 2 * CELL * CELL // 2


def test_verdicts_are_green_or_red(tmp_path: Path) -> None:
    good, bad = drawn(tmp_path, record(right=True)), drawn(tmp_path, record(right=False))
    assert count(good, RIGHT) > 0 == count(good, WRONG)
    assert count(bad, WRONG) > 0 == count(bad, RIGHT)


def test_a_failed_item_is_named_in_red(tmp_path: Path) -> None:
    plain = drawn(tmp_path, record(right=True))
    failed = drawn(tmp_path, record(right=True, status="did not rise"))
    assert count(failed, WRONG) > 0 == count(plain, WRONG)
    assert failed.height > plain.height


def test_numbers_come_from_the_record(tmp_path: Path) -> None:
    first, again = drawn(tmp_path, record(right=True)), drawn(tmp_path, record(right=True))
    assert first.tobytes() == again.tobytes()
    assert drawn(tmp_path, record(right=True, activation=99.5)).tobytes() != first.tobytes()


def test_what_was_not_measured_leaves_no_hole(tmp_path: Path) -> None:
    wanted = record(right=True, activation=None, probability=None, judge_class=None, judge_top1=None, slope=None)
    wanted["judge"], wanted["targets"][0]["judged"] = None, False
    wanted["methods"][0]["diversity"] = [None]
    wanted["methods"][0]["history"] = [[None, None]]
    assert count(drawn(tmp_path, wanted), (51, 102, 153)) == 2 * 2 * CELL**2


def test_many_targets_go_on_several_sheets(tmp_path: Path) -> None:
    wanted = record(right=True, seeds=1, methods=1)
    first = drawn(tmp_path, wanted)
    wanted["targets"] *= 9
    row = wanted["methods"][0]
    for name in ("diversity", "history"):
        row[name] = row[name] * 9
    row["items"] = [row["items"][0] | {"target": t} for t in range(9)]
    (tmp_path / "contact-sheet-4.png").write_bytes(b"of an earlier run")
    (tmp_path / "contact-sheet-mine.png").write_bytes(b"the user's own")
    drawn(tmp_path, wanted)
    paths = draw_sheet(tmp_path)
    assert [path.name for path in paths] == ["contact-sheet.png", "contact-sheet-2.png", "contact-sheet-3.png"]
    heights = []
    for path in paths:
        with Image.open(path) as sheet:
            assert sheet.width == first.width
            heights.append(sheet.height)
    assert heights[0] == heights[1] <= TALLEST < heights[0] + first.height
    assert heights[2] == first.height
    assert {path.name for path in tmp_path.glob("contact-sheet*")} == {
        *(path.name for path in paths),
        "contact-sheet-mine.png",
    }


def test_one_target_of_many_methods_is_not_split(tmp_path: Path) -> None:
    assert drawn(tmp_path, record(right=True, methods=14)).height > TALLEST
    assert len(draw_sheet(tmp_path)) == 1


def test_long_and_hostile_names_stay_in_their_place(tmp_path: Path) -> None:
    wanted = record(right=True, judge_class="<script>" * 40)
    wanted["targets"][0]["name"] = "layer\n" * 100
    wanted["methods"][0]["name"] = "x" * 500
    assert drawn(tmp_path, wanted).size == drawn(tmp_path, record(right=True)).size


def test_lines_fit() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (400, 50), "white"))
    lines = wrapped("one two three four five six seven eight", 90, 15)
    assert " ".join(lines) == "one two three four five six seven eight"
    assert len(lines) > 2
    write_line(draw, (0, 0), "w" * 300, 15, "black", 200)
    assert draw._image.crop((210, 0, 400, 50)).getcolors() == [(190 * 50, (255, 255, 255))]


def test_a_picture_outside_the_folder_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "secret.png", torch.zeros(3, 8, 8))
    folder = tmp_path / "cmp"
    with pytest.raises(OutputError, match="outside"):
        drawn(folder, record(right=True, image="../secret.png"))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n0000"])
def test_an_image_that_is_not_an_image(tmp_path: Path, content: bytes) -> None:
    drawn(tmp_path, record(right=True))
    before = (tmp_path / "contact-sheet.png").read_bytes()
    (tmp_path / "m" / "goldfish-seed1.png").write_bytes(content)
    with pytest.raises(OutputError, match="goldfish-seed1"):
        draw_sheet(tmp_path)
    assert (tmp_path / "contact-sheet.png").read_bytes() == before


def test_damaged_records(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        draw_sheet(tmp_path)
    wanted = record(right=True)
    for part in ("seeds", "methods", "natural"):
        write_json(tmp_path / "comparison.json", {name: value for name, value in wanted.items() if name != part})
        with pytest.raises(OutputError, match=part):
            draw_sheet(tmp_path)
    (tmp_path / "comparison.json").write_text(json.dumps(wanted)[:-20])
    with pytest.raises(OutputError, match="damaged"):
        draw_sheet(tmp_path)


def test_a_target_that_is_not_judged_shows_no_class_of_the_judge(tmp_path: Path) -> None:
    sheets = []
    for name in ("goldfish", "stole"):
        wanted = record(right=True, judge_class=name, judge_top1=None, judge_probability=None)
        wanted["targets"][0]["judged"] = False
        sheets.append(drawn(tmp_path, wanted))
    assert sheets[0].tobytes() == sheets[1].tobytes()
