"""Folders of other runs than synth's and compare's -> what the gallery shows of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gen_prior.optimise.stored_result import MAX_RECORD_BYTES, UNFINISHED, read_record
from gen_prior.report.pages.gallery_parts import Json, film, picture, section, section_if_any, sheets
from gen_prior.report.pages.render import number, percent
from gen_prior.util.image_io import is_image
from gen_prior.util.reading import read_regular
from gen_prior.util.words import counted

MOST_PICTURES = 600
"""Limit of images on the page of a dataset, which would never load otherwise."""


def inversion(folder: Path) -> Json:
    """A section for each layer, its reconstructions side by side, after the original."""
    record, rows = _json(folder / "inversion.json", folder), _rows(folder)
    pictures = {
        layer: [
            picture(
                folder,
                row["image"],
                f"{layer} through {row['method']}",
                f"{row['method']}: error {_read(row['error'])}",
            )
            for row in rows
            if row["layer"] == layer
        ]
        for layer in record["layers"]
    }
    original = section("original", [picture(folder, "original.png", "the original", "the image that was inverted")])
    made = sum(map(len, pictures.values()))
    return {
        "title": f"What layers of {record['settings']['classifier']['name']} keep of an image",
        "lead": f"{counted(made, 'reconstruction')} from features. Error 0: equal features; 1: features of zero.",
        "sections": [original, *(section(layer, listed) for layer, listed in pictures.items())],
    }


def accentuation(folder: Path) -> Json:
    """A section for each target: the photograph, the altered image, its film."""
    record, rows = _json(folder / "accentuation.json", folder), _rows(folder)
    sections = []
    for row in rows:
        name = row["target"]
        before, after = _read(row["start_activation"]), _read(row["activation"])
        pictures = [
            picture(folder, "photograph.png", "the photograph", f"photograph: activation {before}"),
            picture(folder, row["image"], f"accentuated, {name}", f"accentuated: activation {after}", [
                f"distance {_read(row['distance'])} at {record['settings']['layer']}"
            ]),
            *film(folder, Path(row["image"]).stem, f"film, {name}"),
        ]  # fmt: skip
        sections.append(section(name, pictures))
    return {
        "title": f"What {record['settings']['classifier']['name']} responds to in a photograph",
        "lead": f"Altered towards {counted(len(rows), 'target')} through {record['settings']['generator']['name']}.",
        "sections": sections,
    }


def dream(folder: Path) -> Json:
    """The picture, its film, the strip and the frames."""
    rows = _rows(folder)
    lines = [
        f"{row['target']}: activation {_read(row['activation'])}, before {_read(row['start_activation'])}"
        for row in rows
    ]
    frames = sorted(folder.glob("frame-[0-9][0-9][0-9][0-9].png"))
    pictures = [
        picture(folder, "dream.png", "the dream", "the dream", lines),
        *film(folder, "dream", "film of the dream"),
    ]
    sections = [section("dream", pictures), *sheets(folder, "dream-sheet", "sheet")]
    if frames:
        listed = [picture(folder, path.name, f"frame {n}", f"frame {n}") for n, path in enumerate(frames)]
        sections.append(section("frames", listed))
    return {"title": "A dream", "lead": f"{counted(len(frames) or 1, 'picture')}.", "sections": sections}


def morph(folder: Path) -> Json:
    """The film, then the frames, each with the activations of all units."""
    record, rows = _json(folder / "morph.json", folder), _rows(folder)
    frames: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        frames.setdefault(row["image"], []).append(row)
    listed = [
        picture(folder, name, f"frame {n}", f"position {_read(units[0]['position'])}", [
            f"{row['target']}: {_read(row['activation'])}" for row in units
        ])
        for n, (name, units) in enumerate(frames.items())
    ]  # fmt: skip
    return {
        "title": " to ".join(map(str, record["names"])),
        "lead": f"{counted(len(listed), 'frame')} through {record['settings']['generator']['name']}, with the "
        "activations of the units of the ends.",
        "sections": [*section_if_any("film", film(folder, "morph", "film there and back")), section("frames", listed)],
    }


def evolution(folder: Path) -> Json:
    """For each search its best image; the images of an experiment with their scores, generation by generation."""
    places = sorted({path.parent for path in (*folder.glob("evolution.npz"), *folder.glob("*/evolution.npz"))})
    sections, made = [], 0
    for place in places:
        scores = _scores(place, folder)
        made += len(scores)
        if (place / "best.png").is_file() and scores:
            path, of = (place / "best.png").relative_to(folder).as_posix(), f"of {counted(len(scores), 'scored image')}"
            best = picture(folder, path, "the best image", f"best score {number(max(scores))}", [of])
            sections.append(section(place.name if place != folder else "best", [best]))
    listed, shown, references = _generations(folder)
    lead = f"{counted(shown, 'image')} shown, {made:,} with a score" if shown else f"{counted(made, 'image')} scored"
    beside = f"; {counted(references, 'reference image')} beside them" if references else ""
    return {
        "title": "Preferred inputs without gradients",
        "lead": f"{counted(len(places), 'search')}, {lead}{beside}.",
        "sections": sections + listed,
    }


def _generations(folder: Path) -> tuple[list[Json], int, int]:
    """A section for each generation of an experiment; how many images of searches they show, and how many references.

    An image that waits for its score is shown without one.
    """
    scores: dict[str, list[str]] = {}
    for row in _rows(folder, "responses"):
        neuron = f"{row['neuron']}: " if row.get("neuron", "score") not in ("", "score") else "score "
        scores.setdefault(row.get("image", ""), []).append(f"{neuron}{_read(row['score'])}")
    sections, shown, references = [], 0, set[str]()
    for generation in sorted(folder.glob("gen-[0-9]*")):
        names = sorted(path.name for path in generation.iterdir() if is_image(path.name))
        shown += sum(not name.startswith("reference-") for name in names)
        references |= {name for name in names if name.startswith("reference-")}
        rows = {
            words: [
                picture(
                    folder, f"{generation.name}/{name}", name, "", scores.get(f"{generation.name}/{name}", ["no score"])
                )
                for name in names
                if name.startswith("reference-") == bool(words)
            ]
            for words in ("", "reference images")
        }
        listed = [(words, pictures) for words, pictures in rows.items() if pictures]
        sections.append({"name": f"generation {int(generation.name[4:])}", "target": None, "rows": listed})
    return sections, shown, len(references)


def _scores(place: Path, folder: Path) -> list[float]:
    """Scores of the images of one search, by its own neuron; reference images are no part of it."""
    own = _rows(place, "responses")
    rows = own or [row for row in _rows(folder, "responses") if row["search"] == row["neuron"] == place.name]
    return [float(row["score"]) for row in rows if row["kind"] == "evolved" and row["score"]]


def dataset(folder: Path) -> Json:
    """A section for each class, with the images that were kept."""
    settings = _json(folder / "settings.json", folder)
    lines = read_regular(folder / "images.jsonl", limit=MAX_RECORD_BYTES, within=folder).decode().splitlines()
    samples = [one for one in map(json.loads, lines) if one["kept"]]
    classes: dict[str, list[Json]] = {}
    for one in samples[:MOST_PICTURES]:
        rank = one.get("judge_rank")
        classes.setdefault(str(one["class_name"]), []).append(
            picture(folder, one["file"], f"{one['class_name']}, seed {one['seed']}", f"seed {one['seed']}", [
                f"probability {percent(one['probability'])}",
                *([f"rank {rank} for the judge"] if rank is not None else []),
            ])
        )  # fmt: skip
    more = f" The first {MOST_PICTURES} are shown." if len(samples) > MOST_PICTURES else ""
    return {
        "title": f"Images to train on, synthesised for {settings['classifier']['name']}",
        "lead": f"{counted(len(samples), 'image')} kept of {len(lines):,} made, through "
        f"{settings['generator']['name']}.{more}",
        "sections": [section(name, listed) for name, listed in classes.items()],
    }


def benchmark(folder: Path) -> Json:
    """The table of means, and for each target a row of pictures for each generator."""
    record = _json(folder / "benchmark.json", folder)
    rows: dict[str, list[tuple[str, list[Json]]]] = {}
    for path in sorted(folder.glob("*/*/result.json")):
        place, found = path.parent.relative_to(folder).as_posix(), read_record(path.parent)
        listed = [
            picture(
                folder,
                f"{place}/{item['image']}",
                f"seed {item['seed']}",
                f"seed {item['seed']}: activation {number(item['activation'])}",
            )
            for item in found["items"]
            if item["status"] != UNFINISHED
        ]
        rows.setdefault(found["targets"][0]["name"], []).append((path.parent.parent.name, listed))
    names = list(dict.fromkeys(name for one in record["generators"] for name in one["summary"]))
    table = {
        "title": "Means",
        "names": [one["name"] for one in record["generators"]],
        "rows": [(name, [_mean(one["summary"].get(name)) for one in record["generators"]]) for name in names],
    }
    return {
        "title": f"A benchmark on {record['classifier']['name']}",
        "lead": f"{counted(len(record['targets']), 'target')}, judged by {record['judge']['name']}.",
        "table": table,
        "sections": [{"name": name, "target": None, "rows": listed} for name, listed in rows.items()],
    }


KINDS: dict[str, Callable[[Path], Json]] = {
    "inversion.json": inversion,
    "accentuation.json": accentuation,
    "morph.json": morph,
    "benchmark.json": benchmark,
    "experiment.json": evolution,
    "evolution.npz": evolution,
    "dream.png": dream,
    "images.jsonl": dataset,
    "*/evolution.npz": evolution,
}
"""A file by which a folder holds a run (a pattern) -> what its page shows."""


def _json(path: Path, folder: Path) -> Json:
    found: Json = json.loads(read_regular(path, limit=MAX_RECORD_BYTES, within=folder))
    return found


def _rows(folder: Path, name: str = "numbers") -> list[dict[str, str]]:
    """The rows of a table in `folder`, none where there is no table; apostrophes before formulas are taken away."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        return []
    text = read_regular(path, limit=MAX_RECORD_BYTES, within=folder).decode()
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{key: (value or "").removeprefix("'") for key, value in row.items() if key is not None} for row in rows]


def _read(cell: str) -> str:
    """A cell of a table as a number in words."""
    return number(float(cell) if cell else None)


def _mean(value: Any) -> str:
    return number(value["value"] if isinstance(value, dict) else value)
