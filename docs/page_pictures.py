"""Pictures of pages, taken by a Chromium without a window (Debian's, with the package playwright)."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import gen_prior as gp

NAMES = ("chromium", "chromium-browser", "google-chrome")
CELL = (0.685, 0.365)
"""Where the map is clicked, as shares of its width and height."""


def atlas_overview() -> Tensor:
    """The top of the sample atlas."""
    return _taken(Path(__file__).parent / "extra" / "atlas" / "index.html", 1180, 625)


def activation_atlas(classifier: gp.Classifier, prior: gp.Generator, photographs: Path) -> Tensor:
    """The activation atlas of blocks.12 through the prior, with one cell described."""
    with tempfile.TemporaryDirectory() as folder:
        made = gp.make_activation_map(
            classifier, "blocks.12", images=photographs, out=folder, generators=prior, on_bad=print
        )
        return _taken(made.page, 1320, 1010, CELL)


def _taken(file: Path, width: int, height: int, click: tuple[float, float] | None = None) -> Tensor:
    """A page from disk, `[3, height, width]`; with `click`, after a click on its map."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(file.resolve().as_uri())
        page.wait_for_timeout(2000)
        if click is not None:
            box = page.locator("#map").bounding_box()
            page.mouse.click(box["x"] + click[0] * box["width"], box["y"] + click[1] * box["height"])
            page.wait_for_timeout(500)
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        browser.close()
    return pixels.view(height, width, 3).permute(2, 0, 1).float() / 255
