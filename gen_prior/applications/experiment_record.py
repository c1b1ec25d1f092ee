"""Record of an experiment besides its searches: neurons, reference images, and every score."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_prior.errors import ImageError, OptionError, OutputError
from gen_prior.hub.tensors import file_sha256
from gen_prior.objectives.targets import file_name
from gen_prior.util.files import as_output_errors, is_file, is_folder, write_json
from gen_prior.util.image_io import image_files, read_image
from gen_prior.util.reading import read_regular, reading

RECORD, REFERENCES = "experiment.json", "references"
FORMAT = "gen-prior/experiment-1"
MAX_BYTES = 2**30
"""Most bytes that are read of `experiment.json`."""
MAX_NAME_BYTES = 100
"""Most bytes of the name of a neuron, which is part of file names."""
SCORE = "score"
"""Name of the column of scores, and of the neuron, where there is one neuron without a name."""
Table = dict[str, dict[str, float]]
"""`gen-0003/image-00.png` -> neuron -> score; images and neurons without a score are missing."""


@dataclass
class Record:
    """Neurons; reference images (`name` in the generations, `file` in `references/`); a table for each generation."""

    neurons: list[str]
    references: list[dict[str, str]]
    generations: list[Table]

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """The record in `folder`, None if there is none. Raises `OutputError` if it is damaged."""
        path = folder / RECORD
        if not is_file(path):
            return None
        with reading("experiment", folder):
            found = json.loads(read_regular(path, limit=MAX_BYTES, within=folder))
            if found["format"] != FORMAT:
                raise OutputError(f"{path} is not an experiment of format {FORMAT}")
            references = [{key: str(one[key]) for key in ("name", "file", "sha256")} for one in found["references"]]
            if any(one[key] != Path(one[key]).name for one in references for key in ("name", "file")):
                raise ValueError("a reference image has the name of a folder")
            generations = [
                {str(image): {str(name): float(score) for name, score in row.items()} for image, row in table.items()}
                for table in found["generations"]
            ]
            scores = [score for table in generations for row in table.values() for score in row.values()]
            if not all(map(math.isfinite, scores)):
                raise ValueError("a score is not finite")
            if not (neurons := check_neurons(found["neurons"])):
                raise ValueError("it names no neurons")
            return cls(neurons, references, generations)

    def write(self, folder: Path) -> None:
        """Write the record. Raises `OutputError` if that fails."""
        described: dict[str, Any] = {"format": FORMAT, "neurons": self.neurons, "references": self.references}
        write_json(folder / RECORD, described | {"generations": self.generations})


def generation_name(number: int) -> str:
    """Name of the folder of generation `number`, from 0."""
    return f"gen-{number:04d}"


def check_neurons(names: Sequence[str]) -> list[str]:
    """Names of neurons as a list. Raises `OptionError` for those that cannot be names of files, or come twice."""
    listed = [str(name) for name in names]
    for name in listed:
        if (
            file_name(name) != name
            or len(name.encode()) > MAX_NAME_BYTES
            or name.lower() in ("image", REFERENCES)
            or name.lower().startswith("gen-")
        ):
            raise OptionError(
                f"a neuron cannot be called {name!r}",
                fix=f"use at most {MAX_NAME_BYTES} letters, digits, dots and dashes: V4-12, IT-3",
            )
    if len({name.lower() for name in listed}) < len(listed):
        raise OptionError(f"neurons need different names, got {', '.join(listed)}")
    return listed


def reference_files(paths: Sequence[Path]) -> list[Path]:
    """The image files among `paths`, and those of the folders there. Raises `ImageError` for a path that is neither."""
    for path in paths:
        if not is_folder(path) and not is_file(path):
            raise ImageError(
                f"no such folder of reference images: {path}",
                fix="--reference DIR, a folder of images or an image file",
            )
    return image_files(paths)


def copy_references(paths: Sequence[Path], folder: Path) -> list[dict[str, str]]:
    """Copy image files, and those of folders, to `references/` in `folder`; returns the record's entries for them.

    Raises `ImageError` for a file that is no image, `OutputError` if it cannot be written.
    """
    listed: list[dict[str, str]] = []
    for path in reference_files(paths):
        read_image(path)  # a file that is no image is refused now, not during the experiment
        stem, taken = file_name(path.stem), {one["file"].lower() for one in listed}
        candidates = [f"{stem}{path.suffix}", *(f"{stem}-{again}{path.suffix}" for again in range(2, len(listed) + 3))]
        file = next(name for name in candidates if name.lower() not in taken)
        with as_output_errors(folder):
            (folder / REFERENCES).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / REFERENCES / file)
        listed.append({"name": f"reference-{file}", "file": file, "sha256": file_sha256(path)})
    return listed


def check_references(paths: Sequence[Path], record: Record, folder: Path) -> None:
    """Raise `OptionError` unless the images are the references of the experiment, `ImageError` where there is none."""
    if sorted(map(file_sha256, reference_files(paths))) != sorted(one["sha256"] for one in record.references):
        raise OptionError(
            f"{folder} holds an experiment with other reference images",
            fix="leave --reference out, or pass another --out",
        )


def show_references(record: Record, folder: Path, generation: Path) -> None:
    """Put the reference images into the folder of a generation: as links to the same file where that works."""
    for one in record.references:
        source, shown = folder / REFERENCES / one["file"], generation / one["name"]
        if not shown.exists():
            with as_output_errors(shown):
                with suppress(OSError):
                    os.link(source, shown)
                if not shown.exists():
                    shutil.copyfile(source, shown)


__all__ = ["RECORD", "SCORE", "Record", "Table", "generation_name"]
