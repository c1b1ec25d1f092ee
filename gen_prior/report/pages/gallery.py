"""A result folder as one HTML page: its pictures with their numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gen_prior.errors import OutputError
from gen_prior.optimise.stored_result import MAX_RECORD_BYTES, UNFINISHED, read_record
from gen_prior.optimise.stored_result import RECORD as RESULT
from gen_prior.report.comparison_film import film_stem
from gen_prior.report.comparison_sheet import RECORD as COMPARISON
from gen_prior.report.measures import MEASURES
from gen_prior.report.pages.gallery_kinds import KINDS
from gen_prior.report.pages.gallery_parts import FILMS, Json, film, picture, place_of, sheets, side_by_side
from gen_prior.report.pages.render import number, percent, render
from gen_prior.util.files import write_bytes
from gen_prior.util.reading import read_regular, reading
from gen_prior.util.words import best_in_words, counted

PAGE = "gallery.html"
PREFERRED = "Preferred input of "
BESIDE = {"in-place": "in place", "field": "receptive field", "rgba": "transparent"}
"""Ending of a further picture's name, as `synth` writes it -> what it shows."""


def gallery(folder: str | Path) -> Path:
    """Write `gallery.html` into the folder of a run of any command but `atlas`, and return its path.

    The page shows every finished picture with its numbers, opens from disk, and needs the folder's pictures beside it
    and nothing else. Raises `OutputError` if there is no result in `folder`, if it is damaged, or if it cannot be
    written to.
    """
    folder = Path(folder)
    kinds = {COMPARISON: _of_comparison, RESULT: _of_result} | KINDS
    kind = next((name for name in kinds if any(folder.glob(name))), None)
    if kind is None:
        raise OutputError(f"no result in {folder}", fix="name a folder that a command of gen-prior wrote")
    with reading("result", folder):
        content = {"table": None, "shows": ""} | kinds[kind](folder)
        page = render("gallery.html", **content | {"sections": side_by_side(content["sections"])})
    path = folder / PAGE
    write_bytes(path, page.encode(errors="backslashreplace"))
    return path


def keep_gallery(folder: Path, asked: bool) -> None:
    """Write the gallery of a run if it is `asked` for, or if there is one of an earlier call, which this one outdates.

    Raises as `gallery` does.
    """
    if asked or (folder / PAGE).is_file():
        gallery(folder)


def _of_result(folder: Path) -> Json:
    """Content of the page of a synthesis: a section for each target, its seeds side by side."""
    record = read_record(folder)
    with reading("result", folder):
        seeds, settings = record["seeds"], record["settings"]
        items = [record["items"][t * len(seeds) : (t + 1) * len(seeds)] for t in range(len(record["targets"]))]
        made = sum(item["status"] != UNFINISHED for item in record["items"])
        lead = (
            f"{counted(made, 'picture')} by {settings['generator']['name']}, {counted(record['steps'], 'step')} each."
        )
        if made < len(record["items"]):
            lead += f" {len(record['items']) - made:,} more not finished."
        return {
            "title": f"What {settings['classifier']['name']} wants to see",
            "lead": lead,
            "shows": PREFERRED,
            "sections": [
                _section(target, [("", [_picture(folder, item, target, "") for item in listed])])
                for target, listed in zip(record["targets"], items, strict=True)
            ]
            + sheets(folder, "exemplars", "photographs of the given folder"),
        }


def _of_comparison(folder: Path) -> Json:
    """Content of the page of a comparison: a table of medians, and for each target a row for each method."""
    with reading("comparison", folder):
        record = json.loads(read_regular(folder / COMPARISON, limit=MAX_RECORD_BYTES, within=folder))
        methods = record["methods"]
        sections = []
        for t, target in enumerate(record["targets"]):
            items = [[item for item in method["items"] if item["target"] == t] for method in methods]
            rows = [
                (
                    method["name"],
                    [_picture(folder, item, target, method["name"], _panel(method, item)) for item in listed],
                )
                for method, listed in zip(methods, items, strict=True)
            ]
            if stem := next((film_stem(listed) for listed in items if listed), None):
                films = film(folder, stem, f"film, {target['name']}", wide=True)
                rows += [("film", [one | {"caption": "the methods, step by step"} for one in films])] if films else []
            sections.append(_section(target, rows))
        judge = record["judge"]["name"] if record.get("judge") else None
        lead = (
            f"{counted(len(methods), 'method')}, {counted(record['evaluations'], 'evaluation')} of the network for each"
        )
        return {
            "title": f"What {record['classifier']['name']} wants to see",
            "lead": f"{lead} picture." + (f" Judge, which no method optimises: {judge}." if judge else ""),
            "shows": PREFERRED,
            "table": _medians(methods),
            "sections": sections,
        }


def _section(target: Mapping[str, Any], rows: Sequence[tuple[str, list[Json]]]) -> Json:
    """A target with rows of pictures by name."""
    text = target.get("target")
    return {"name": target["name"], "target": text if text != target["name"] else None, "rows": rows}


def _picture(
    folder: Path,
    item: Mapping[str, Any],
    target: Mapping[str, Any],
    method: str,
    panel: Mapping[str, Any] | None = None,
) -> Json:
    """A picture: where it lies, its words, and the pictures beside it; without a place if it is not finished."""
    words = f"{target['name']}, seed {item['seed']}" + (f", by {method}" if method else "")
    if item["status"] == UNFINISHED:
        return picture(folder, "", words, f"seed {item['seed']}: not finished")
    path = place_of(item["image"])
    lines = []
    if (ratio := item.get("photograph_ratio")) is not None:
        lines.append(f"{number(ratio)} times {best_in_words(target.get('photographs'), panel)}")
    if item.get("probability") is not None:
        lines.append(f"probability {percent(item['probability'])}")
    if item.get("judge_class") is not None and item.get("judge_top1") is not None:
        lines.append(f"judge: {item['judge_class']} ({'right' if item['judge_top1'] else 'wrong'})")
    if item["status"] != "ok":
        lines.append(str(item["status"]))
    shown = picture(folder, path, words, f"seed {item['seed']}: activation {number(item['activation'])}", lines)
    beside = [(path.with_name(f"{path.stem}-{kind}.png"), shows) for kind, shows in BESIDE.items()]
    beside += [(path.with_suffix(kind), "film") for kind in FILMS]
    there = [(str(file), shows) for file, shows in beside if (folder / file).is_file()]
    return shown | {"path": str(path), "beside": there}


def _panel(method: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The faithfulness of an item's target, where it was measured."""
    panels = method.get("faithfulness")
    panel: Mapping[str, Any] | None = panels[item["target"]] if panels else None
    return panel


def _medians(methods: Sequence[Mapping[str, Any]]) -> Json:
    """The table of a comparison: names of methods, and a row for each measure that one of them has."""
    rows = []
    for measure in MEASURES:
        shown = percent if measure.percent else number
        found = [method["summary"].get(measure.name) for method in methods]
        if measure.label and any(found):
            rows.append((measure.label, [shown(one["value"]) if one else "–" for one in found]))
    return {"title": "Medians", "names": [method["name"] for method in methods], "rows": rows}
