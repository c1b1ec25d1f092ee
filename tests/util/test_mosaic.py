"""Mosaics and contact sheets: every picture in its place, words that never run into the next one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.optimise.contact_sheet import _caption, contact_sheet, write_contact_sheets
from gen_prior.optimise.result import Result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import from_pil, read_image
from gen_prior.util.mosaic import GAP, LINE, TALLEST, TEXT_SIZE, font, mosaic, pages, row_pages

SIDE = 144


def plain(*levels: float, size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.tensor(levels)[:, None, None].expand(3, *size)


def test_pictures_stand_where_they_belong() -> None:
    red, green, wide = plain(1.0, 0.0, 0.0), plain(0.0, 1.0, 0.0), plain(0.0, 0.0, 1.0, size=(4, 8))
    sheet = mosaic([[red, None], [green, wide]], side=20)
    step = 20 + GAP
    assert sheet.shape == (3, 4 + 2 * step + 4, 8 + 2 * step)
    assert sheet[:, 4 + 10, 8 + 10].tolist() == [1, 0, 0]
    assert (sheet[:, 4:24, 8 + step :] == 1).all()  # an empty place stays white
    assert sheet[:, 4 + step + 10, 8 + 10].tolist() == [0, 1, 0]
    assert sheet[:, 4 + step + 10, 8 + step + 10].tolist() == [0, 0, 1]
    assert sheet[:, 4 + step + 2, 8 + step + 10].tolist() == [1, 1, 1]  # half as high as wide: in the middle


def test_long_captions_are_cut() -> None:
    sheet = mosaic([[plain(0.0, 0.0, 0.0), plain(0.0, 0.0, 0.0)]], captions=[["w" * 99, ""]], side=40)
    words = sheet[:, 4 + 40 + 1 :]
    assert (words[:, :, 8:48] < 1).any()
    assert (words[:, :, 48:] == 1).all()


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(OptionError, match="at least one"):
        mosaic([[]])


@pytest.fixture
def result(tiny_classifier: Classifier, tiny_generator: Generator) -> Result:
    made = synthesize(tiny_classifier, ["bee", "conv2:3"], tiny_generator, seeds=3, steps=2)
    made.images = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 3, 16, 16) / 5
    return made


def levels(sheet: Tensor, *, left: int, top: int, columns: int, rows: int, height: int) -> list[list[float]]:
    middles = [
        [sheet[0, top + r * height + SIDE // 2, left + c * (SIDE + GAP) + SIDE // 2].item() for c in range(columns)]
        for r in range(rows)
    ]
    return [[round(5 * level, 2) for level in row] for row in middles]


def test_a_contact_sheet_has_a_row_for_each_target(result: Result) -> None:
    sheet = from_pil(contact_sheet(result))
    left = sheet.shape[2] - 3 * (SIDE + GAP)
    assert left > 8
    places = levels(sheet, left=left, top=22, columns=3, rows=2, height=SIDE + GAP + LINE)
    assert places == [[0, 1, 2], [3, 4, 5]]


def test_of_one_seed_the_targets_stand_side_by_side(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    made = synthesize(tiny_classifier, ["bee"] * 9, tiny_generator, steps=1)
    made.images = torch.arange(9.0).view(9, 1, 1, 1, 1).expand(9, 1, 3, 16, 16) / 10
    sheet = from_pil(contact_sheet(made))
    places = levels(sheet, left=8, top=4, columns=8, rows=2, height=SIDE + GAP + LINE)
    assert places[0] == [pytest.approx(place / 2, abs=0.02) for place in range(8)]
    assert places[1] == [pytest.approx(4, abs=0.02), *[5] * 7]


@pytest.mark.parametrize("name", ["blocks.6/direction:1@7,7", "W" * 99, "conv2/sae:a/sae:3@mean - 0.5*bee", "bee"])
def test_a_long_name_leaves_room_for_the_activation(name: str) -> None:
    caption = _caption(name, "-1.23e+04")
    assert caption.endswith(": -1.23e+04")
    assert font(TEXT_SIZE).getlength(caption) <= SIDE
    assert caption[0] == name[0]
    assert caption.removesuffix(": -1.23e+04")[-1] == name[-1]
    assert ("..." in caption) == (len(name) > 3)


@pytest.mark.parametrize("count", [1, 17, 18, 19, 200])
def test_pages_hold_every_target_once_and_are_not_too_high(count: int) -> None:
    for columns in (1, 8):
        parts = row_pages(count, columns=columns)
        assert [t for part in parts for t in part] == list(range(count))
        rows = max(-(-len(part) // columns) for part in parts)
        assert mosaic([[plain(0.0, 0.0, 0.0)]] * rows, captions=[["x"]] * rows, column_names=["y"]).shape[1] <= TALLEST
    assert pages(3, TALLEST + 1) == [range(1), range(1, 2), range(2, 3)]


def test_many_targets_take_several_contact_sheets(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    made = synthesize(tiny_classifier, ["bee"] * 20, tiny_generator, seeds=2, steps=1)
    paths = write_contact_sheets(made, tmp_path)
    assert [path.name for path in paths] == ["contact-sheet.png", "contact-sheet-2.png"]
    assert torch.equal(read_image(paths[1]), from_pil(contact_sheet(made, range(len(row_pages(20)[0]), 20))))
