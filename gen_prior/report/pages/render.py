"""Templates -> HTML: every value is escaped, and a page runs no script and no style but its own."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gen_prior.util import words

PACKAGE = "gen_prior.report.pages"
"""Package with the frame and the style of all pages, in templates/ and assets/."""


def render(template: str, *, package: str = PACKAGE, **values: Any) -> str:
    """The HTML of a template of `package`, which may extend `frame.html`; `values` are shown as text."""
    return _environment(package).get_template(template).render(**values)


def asset(name: str, package: str = PACKAGE) -> str:
    """The text of a style sheet or a script of `package`."""
    return resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")


def inline(name: str) -> Markup:
    """The text of an asset as it stands in a page; such files are ours and hold no closing tag."""
    return Markup(asset(name))


def fingerprint(name: str) -> str:
    """`'sha256-...'` of an asset, by which a Content-Security-Policy allows it inside the page and nothing else."""
    digest = hashlib.sha256(asset(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def number(value: float | None) -> str:
    """`value` with two or three significant digits; a dash where there is none."""
    return "–" if value is None else words.short(value).replace("-", "−")


def percent(value: float | None) -> str:
    """A share in percent, with about two digits; a dash where there is none."""
    return "–" if value is None else words.percent(value).replace("%", " %").replace("-", "−")


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(one) for one in dict.fromkeys((package, PACKAGE))])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"inline": inline, "fingerprint": fingerprint}
    return environment
