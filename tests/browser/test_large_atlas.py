"""The overview of 100,000 units: painted, searched and scrolled fast enough to be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import until
from synthetic_atlas import write_large_overview

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
LAYERS, UNITS = 100, 1000
FIRST_PAINT, SEARCH = 2000.0, 200.0
"""Milliseconds."""
UNCOVERED = """
window.uncovered = 0;
addEventListener("scroll", () => {  // before the page itself draws: what the reader saw when the window had moved
  const rows = [...document.querySelectorAll("#bands .row")].map(row => row.getBoundingClientRect());
  const list = document.getElementById("bands").getBoundingClientRect();
  const from = Math.max(list.top, document.getElementById("bar").getBoundingClientRect().bottom);
  const to = Math.min(list.bottom, innerHeight);
  const top = Math.min(...rows.map(row => row.top)), bottom = Math.max(...rows.map(row => row.bottom));
  window.uncovered = Math.max(window.uncovered, top - from - 40, to - bottom - 40);
}, { capture: true });
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overview of 100 layers of 1000 units."""
    folder = tmp_path_factory.mktemp("large")
    size = write_large_overview(folder, LAYERS, UNITS)
    assert size < 50 * LAYERS * UNITS  # bytes a unit
    return folder


def test_paints_searches_and_scrolls(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector(".tile")
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < FIRST_PAINT
    until(page, "document.documentElement.dataset.ready === '1'", 30)
    for query in ("goldfish", "golden retriever 17", "blocks.42.conv:999"):
        milliseconds = page.evaluate(
            "query => { const field = document.getElementById('q'), before = performance.now(); field.value = query;"
            " field.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - before }",
            query,
        )
        assert milliseconds < SEARCH, query
        assert page.locator("#nothing").is_hidden()
    assert page.locator(".tile").count() == 1
    page.fill("#q", "")
    page.check("#whole")
    page.evaluate(UNCOVERED)
    page.mouse.move(600, 600)
    for _ in range(40):
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(16)
    assert page.evaluate("window.scrollY") > 20000
    assert page.evaluate("window.uncovered") <= 0
    assert page.locator("#bands .tile").count() < 3000
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_selector('.tile[href="#/blocks.99.conv/999"]')
