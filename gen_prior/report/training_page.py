"""The page of a training that grows with each stage: numbers and pictures, in one HTML file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

PAGE = """<!doctype html>
<meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left }} img {{ max-width: 100%; display: block; margin: .5rem 0 }}
</style>
<h1>{title}</h1>
<table><tr>{head}</tr>{rows}</table>
{sections}
"""


def training_page(title: str, stages: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]) -> str:
    """HTML of a training.

    `stages`: of each its `name`, `numbers` (number name -> value or None) and `pictures` (caption -> file name).
    `meanings`: number name -> what it is, one column of the table each.
    """
    head = "".join(f"<th>{html.escape(text)}</th>" for text in ("stage", *meanings.values()))
    rows, sections = "", ""
    for stage in stages:
        values = ["-" if (v := stage["numbers"].get(name)) is None else f"{v:g}" for name in meanings]
        rows += "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in (stage["name"], *values)) + "</tr>"
        pictures = "".join(
            f'<p>{html.escape(caption)}<img src="{html.escape(file)}" alt="{html.escape(caption)}"></p>'
            for caption, file in stage["pictures"].items()
        )
        sections += f"<h2>{html.escape(stage['name'])}</h2>{pictures}\n"
    return PAGE.format(title=html.escape(title), head=head, rows=rows, sections=sections)
