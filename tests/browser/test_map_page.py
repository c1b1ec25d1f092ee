"""The page of an activation map in a real browser: choose, zoom, switch, search, on a phone, in the dark."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen_prior.atlas.map_page import MapCell, write_page
from gen_prior.util.image_io import write_png

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)>"
SIDE = 8
RED, BLUE, PAPER = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9), (1.0, 1.0, 1.0)
FAINT = (0.985, 0.865, 0.865)
"""Red of which 15 % is left, on white."""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of 8 x 8 cells without its corners: red through one generator, blue through another."""
    folder = tmp_path_factory.mktemp("a map # 1")
    files = {}
    for name, colour in (("prior", RED), ("fourier", BLUE)):
        files[name] = folder / f"{name}.png"
        write_png(files[name], torch.tensor(colour)[:, None, None].expand(3, 16, 16))
    activations = {"prior": 3.0, "fourier": 4.0}
    cells = [
        MapCell(row, column, 5, [(f"class {row}-{column}", 1.0), (EVIL, 0.5)], 2.0, activations, files)
        for row in range(SIDE)
        for column in range(SIDE)
        if (row, column) not in ((0, 0), (0, 7), (7, 0), (7, 7))
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "classifier": {"name": EVIL}, "layer": EVIL, "grid": SIDE, "positions": 4, "layout": "pca", "evaluations": 3,
    }  # fmt: skip
    return write_page(folder, "layer", settings, cells, 320)


def opened(page: Page, chart: Path) -> Page:
    page.goto(chart.as_uri())
    shows(page, RED, 0.5, 0.5)
    return page


def shows(page: Page, wanted: tuple[float, ...], x: float, y: float) -> None:
    """Wait until the map has a colour at a share of its width and height; a page from disk may not read its canvas."""
    found = np.zeros(3)
    for _ in range(40):
        with Image.open(io.BytesIO(page.locator("#map").screenshot())) as picture:
            found = np.asarray(picture.convert("RGB"), float)[int(y * picture.height), int(x * picture.width)]
        if np.abs(255 * np.array(wanted) - found).max() < 30:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{found} at {x}, {y}")


def test_the_map_is_drawn_and_switches_between_generators(page: Page, chart: Path) -> None:
    opened(page, chart)
    page.get_by_label("fourier").check()
    shows(page, BLUE, 0.5, 0.5)
    page.locator("#map").press("g")
    shows(page, RED, 0.5, 0.5)
    assert page.get_by_label("prior").is_checked()


def test_a_cell_is_described_when_pointed_at_and_held_when_tapped(page: Page, chart: Path) -> None:
    opened(page, chart)
    box = page.locator("#map").bounding_box()
    assert box is not None
    side = min(box["width"], box["height"]) / SIDE
    left, top = box["x"] + (box["width"] - side * SIDE) / 2, box["y"] + (box["height"] - side * SIDE) / 2
    page.mouse.move(left + 2.5 * side, top + 1.5 * side)
    assert "class 1-2" in page.locator("#cell").inner_text()
    assert EVIL in page.locator("#cell").inner_text()
    page.mouse.click(left + 4.5 * side, top + 6.5 * side)
    page.mouse.move(left + 0.2 * side, top + 0.2 * side)
    assert "Row 7, column 5: 5 points" in page.locator("#cell").inner_text()


def test_keys_choose_cells_and_zoom(page: Page, chart: Path) -> None:
    opened(page, chart)
    page.locator("#map").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    before = page.locator("#cell").inner_text()
    assert before.startswith("Row 6")
    for _ in range(12):
        page.keyboard.press("+")
    shows(page, RED, 0.02, 0.5)
    shows(page, RED, 0.98, 0.5)
    page.keyboard.press("0")
    shows(page, PAPER, 0.02, 0.02)


def test_the_map_moves_but_does_not_get_lost(page: Page, chart: Path) -> None:
    opened(page, chart)
    page.get_by_label("Zoom in").click(click_count=3)
    page.mouse.move(400, 500)
    page.mouse.down()
    page.mouse.move(3000, 3000, steps=3)
    page.mouse.up()
    shows(page, RED, 0.85, 0.85)


def test_a_class_is_found(page: Page, chart: Path) -> None:
    opened(page, chart)
    page.get_by_label("Class").fill("Class 3-4")
    assert page.locator("#matches").inner_text() == "1 cell"
    shows(page, FAINT, 0.52, 0.6)


def test_on_a_phone_in_the_dark(browser: Browser, chart: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    page = context.new_page()
    opened(page, chart)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#map").tap()
    assert "Row " in page.locator("#cell").inner_text()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 20, 21)"
    context.close()
