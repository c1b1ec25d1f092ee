"""Pictures of pages, taken by a Chromium without a window (Debian's, with the package playwright)."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import gen_prior as gp

NAMES = ("chromium", "chromium-browser", "google-chrome")
CELL = (0.685, 0.365)
"""Where the map is clicked, as shares of its width and height."""


def atlas_overview() -> Tensor:
    """Two layers of the sample atlas."""
    return _taken(
        Path(__file__).parent / "extra" / "atlas" / "index.html", 1180, 625,
        lambda page: page.select_option("#layer", label="blocks.12"),
    )  # fmt: skip


def activation_atlas(classifier: gp.Classifier, prior: gp.Generator, photographs: Path) -> Tensor:
    """The activation atlas of blocks.12 through the prior, with one cell described."""
    with tempfile.TemporaryDirectory() as folder:
        made = gp.make_activation_map(
            classifier, "blocks.12", images=photographs, out=folder, generators=prior, on_bad=print
        )
        return _taken(made.page, 1320, 1010, _choose_a_cell)


def _choose_a_cell(page: Any) -> None:
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + CELL[0] * box["width"], box["y"] + CELL[1] * box["height"])


def _taken(file: Path, width: int, height: int, prepare: Callable[[Any], object]) -> Tensor:
    """A page from disk after `prepare(page)`, `[3, height, width]`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(file.resolve().as_uri())
        page.wait_for_timeout(2000)
        prepare(page)
        page.wait_for_timeout(1000)
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        browser.close()
    return pixels.view(height, width, 3).permute(2, 0, 1).float() / 255
