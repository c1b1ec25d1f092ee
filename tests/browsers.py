"""Where the browser of this machine is, for the tests marked `browser`."""

from __future__ import annotations

import importlib.util
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """Path of an installed Chromium; None without one, or without playwright, which drives it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found if importlib.util.find_spec("playwright") is not None else None


def until(page: Page, expression: str, seconds: float = 10) -> None:
    """Wait until a JavaScript expression is true; the pages' own policy forbids playwright's `wait_for_function`."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(10)
