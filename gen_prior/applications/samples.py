"""`Sample`: a line of a dataset's `images.jsonl`, possibly untrusted; no file outside `images/` is ever read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from gen_prior.objectives.targets import file_name
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.reading import read_regular, reading

SAMPLES_FILE, CLASSES = "images.jsonl", "classes.json"
MAX_BYTES = 2**32
"""Most bytes that are read of `images.jsonl`."""


@dataclass(frozen=True)
class Sample:
    """One line of `images.jsonl`. An image that is not kept has no file.

    Numbers are None where they are not finite, and `judge_...` also without a judge.
    """

    file: str
    class_index: int
    class_name: str
    seed: int
    activation: float | None
    probability: float | None
    judge_probability: float | None
    judge_rank: int | None
    kept: bool


def read_samples(out: str | Path) -> list[Sample]:
    """The samples of a dataset whose files exist; empty if there is no dataset yet."""
    folder, path = Path(out), Path(out) / SAMPLES_FILE
    if not path.exists():
        return []
    with reading("dataset", folder):
        lines = read_regular(path, limit=MAX_BYTES, within=folder).decode().splitlines()
        samples = [Sample(**json.loads(line)) for line in lines]
        for sample in samples:
            _check_sample(sample, folder)
    return [sample for sample in samples if not sample.kept or (folder / sample.file).is_file()]


def _check_sample(sample: Sample, folder: Path) -> None:
    """Raise `ValueError`, `TypeError` or `AttributeError` for a line that cannot be ours, or a file elsewhere."""
    numbers = (sample.activation, sample.probability, sample.judge_probability)
    if not all(number is None or (isinstance(number, int | float) and math.isfinite(number)) for number in numbers):
        raise ValueError(f"{numbers} are not finite numbers")
    counts = [sample.class_index, sample.seed] + ([] if sample.judge_rank is None else [sample.judge_rank])
    if not all(type(number) is int and 0 <= number < 2**63 for number in counts):
        raise ValueError(f"{counts} are not whole numbers")
    if not isinstance(sample.class_name, str) or not isinstance(sample.kept, bool):
        raise ValueError("class_name is not text, or kept is not true or false")
    place = (folder / "images").resolve()
    if not (folder / sample.file).resolve().is_relative_to(place) or "\0" in sample.file:
        raise ValueError(f"{sample.file!r} lies outside images/")


def folder_of(index: int, name: str) -> str:
    """Name of the class's folder; sorted by name, folders are in the order of the classes."""
    slug = re.sub(r"[-.]+", "-", file_name(name)).encode()[:200].decode(errors="ignore")
    return f"{index:04d}-{slug}"


def write_samples(folder: Path, samples: dict[tuple[int, int], Sample]) -> None:
    """Write `images.jsonl` and `classes.json` of {(class index, seed): sample}. Raises `OutputError`."""
    lines = [json.dumps(asdict(samples[key]), allow_nan=False) + "\n" for key in sorted(samples)]
    write_bytes(folder / SAMPLES_FILE, "".join(lines).encode())
    names = {folder_of(s.class_index, s.class_name): s.class_name for _, s in sorted(samples.items())}
    write_json(folder / CLASSES, names)
