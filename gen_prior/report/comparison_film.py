"""The films of a comparison: for each target its methods side by side, climbing together, a row for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gen_prior.report.animation import write_animation
from gen_prior.util.image_io import read_image
from gen_prior.util.mosaic import mosaic

FRAMES = 24
"""Frames of an image's own film, about, besides that of the result."""
FPS = 12.0
KEPT_AS = "webp"
"""Kind of the images' own films, which lie beside them."""
SEEDS_SHOWN = 4
CELL = 192
"""Pixels: side of an image."""

Timed = list[tuple[int, Tensor]]
"""Steps taken before each frame, and the frame, uint8 `[3, H, W]`."""


def recorded_every(evaluations: int) -> int:
    """Steps between two frames of a comparison with so many evaluations."""
    return max(1, evaluations // FRAMES)


def write_films(record: Mapping[str, Any], folder: Path, kind: str) -> list[Path]:
    """Write `film-TARGET.KIND` for each target of a comparison in `folder`, and return the paths.

    Needs the films of its images, `METHOD/NAME.webp`; at most `SEEDS_SHOWN` seeds are shown. A method that takes fewer
    steps waits with its result. Raises `OutputError` if a film cannot be written.
    """
    paths = []
    for t in range(len(record["targets"])):
        shown = [[item for item in method["items"] if item["target"] == t] for method in record["methods"]]
        columns = [[_frames(record, m, item, folder) for item in row[:SEEDS_SHOWN]] for m, row in enumerate(shown)]
        length = max(len(frames) for column in columns for frames in column)
        path = folder / f"{film_stem(shown[0])}.{kind}"
        paths.append(write_animation(path, (_picture(record, columns, moment) for moment in range(length)), fps=FPS))
    return paths


def film_stem(items: Sequence[Mapping[str, Any]]) -> str | None:
    """Name without its ending of the film of a target, whose items these are; None where none of them is finished."""
    images = [item["image"] for item in items if "image" in item]
    return f"film-{Path(images[0]).stem.rpartition('-seed')[0]}" if images else None


def _frames(record: Mapping[str, Any], m: int, item: Mapping[str, Any], folder: Path) -> Timed:
    """The frames of one image's film; the last one is the result, as exact as it is."""
    image = folder / item["image"]
    history = record["methods"][m]["history"][item["target"]]
    steps, every = sum(value is not None for value in history), recorded_every(record["evaluations"])
    frames: list[Tensor] = []
    with Image.open(image.with_suffix(f".{KEPT_AS}")) as film:
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            frame = torch.from_numpy(np.array(film.convert("RGB"))).movedim(2, 0)
            # The encoder joins frames that are equal; how long one is shown says how many it was.
            frames += [frame] * max(1, round(film.info["duration"] * FPS / 1000))
    result = (read_image(image) * 255).round().to(torch.uint8)
    return [*zip(range(0, steps, every), frames, strict=False), (steps, result)]


def _picture(record: Mapping[str, Any], columns: list[list[Timed]], moment: int) -> Tensor:
    """One frame of the film: what each method had at `moment`, or its result if it ended before."""
    cells = [[frames[min(moment, len(frames) - 1)] for frames in column] for column in columns]
    return mosaic(
        [[column[s][1] / 255 for column in cells] for s in range(len(cells[0]))],
        captions=[[f"step {column[s][0]}" for column in cells] for s in range(len(cells[0]))],
        row_names=[f"seed {seed}" for seed in record["seeds"][: len(cells[0])]],
        column_names=[method["name"] for method in record["methods"]],
        side=CELL,
    )
