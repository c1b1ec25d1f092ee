"""Commands that write, run in forked children that can be killed or limited, and what must hold of their folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from command_runner import Run

from gen_prior.applications.compare import load_comparison
from gen_prior.applications.dataset import read_samples
from gen_prior.atlas.photographs import PhotographPass
from gen_prior.atlas.reader import load_atlas
from gen_prior.atlas.shards import NeuronRecord, neuron_file, read_rows
from gen_prior.errors import GenPriorError, OutputError
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.util.files import PARTIAL

TINY = ("--classifier", "tiny", "--device", "cpu", "-q")
SHORT = ("--seeds", 2, "--steps", 2)
COMMANDS: dict[str, tuple[object, ...]] = {
    "synth": ("synth", "bee", "cup", "-g", "tiny", "--batch", 2, *SHORT, *TINY),
    "compare": ("compare", "bee", "-m", "tiny", "-m", "pixel-raw", "--judge", "none", *SHORT, *TINY),
    "invert": ("invert", "PHOTO", "--layer", "conv2", "-g", "pixel-raw", "-g", "tiny", "--steps", 2, *TINY),
    "evolve": ("evolve", "bee", "-g", "tiny", "--evaluations", 24, "--population", 8, *TINY),
    "atlas": (
        "atlas",
        "tiny",
        "--layers",
        "conv2",
        "logits",
        "--units",
        "0-4",
        "-g",
        "tiny",
        "--steps",
        2,
        "--images",
        "PHOTOS",
        "--judge",
        "none",
        "--workers",
        1,
        *TINY[2:],
    ),
    "dataset": ("dataset", "tiny", "--per-class", 2, "--classes", "bee", "-g", "tiny", "--steps", 2, *TINY[2:]),
}
"""The commands that go on where they were; PHOTO stands for a picture, PHOTOS for its folder, `--out` is added."""


class Ended(NamedTuple):
    """How a child ended: exit code of its command, None if it was killed; its last line on stderr."""

    code: int | None
    complaint: str


def in_child(prepare: Callable[[], None], *arguments: object, kill_after: float | None = None) -> Ended:
    """Run a command in a fork of this process after `prepare()`; with `kill_after`, SIGKILL it so many seconds later.

    Raises `AssertionError` for a traceback.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code, text = 70, "no answer"
        try:
            prepare()
            done = Run(*arguments)
            code, text = done.code, done.err
        except BaseException as error:
            text = f"Traceback: {error!r}"
        with contextlib.suppress(OSError):
            os.write(writer, text.encode()[-4000:])
        os._exit(code)
    os.close(writer)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    assert "Traceback" not in text, text
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WIFEXITED(status), f"the child ended by signal {os.WTERMSIG(status)}"
    return Ended(None if killed else os.WEXITSTATUS(status), text.strip().splitlines()[-1] if text.strip() else "")


def killed_at(point: int) -> Callable[[], None]:
    """Patches the calls by which files are published: the child is killed right before the one with this number."""

    def prepare() -> None:
        count = 0
        for name in ("fsync", "replace", "rename", "unlink"):
            real = getattr(os, name)

            def call(*arguments: object, real: Callable[..., None] = real, **options: object) -> None:
                nonlocal count
                count += 1
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(*arguments, **options)

            setattr(os, name, call)

    return prepare


def content(name: str, folder: Path) -> dict[str, str]:
    """Item -> hash of what the finished run of command `name` in `folder` holds; times and paths are left out.

    Raises `OutputError` where there is no such run, `AssertionError` for one that contradicts itself.
    """
    if name == "synth":
        return _result(folder)
    if name == "compare":
        record = load_comparison(folder).record
        found: dict[str, str] = {}
        for method in record["methods"]:
            images = _result(folder / method["folder"])
            found |= {f"{method['name']}/{item}": value for item, value in images.items()}
            activations = load_result(folder / method["folder"]).activations.flatten().tolist()
            assert [item["activation"] for item in method["items"]] == activations, "numbers of other images"
        return found
    if name == "invert":
        path = folder / "inversion.json"
        if not path.is_file():
            raise OutputError("none")
        record = json.loads(path.read_text())
        return {
            method: _hash((folder / f"{method}.safetensors").read_bytes()) + str(errors)
            for method, errors in record["feature_error"].items()
        }
    if name == "evolve":
        if not (folder / "evolution.npz").is_file():
            raise OutputError("none")
        return {"search": _hash((folder / "evolution.npz").read_bytes())}
    if name == "atlas":
        return _atlas(folder)
    samples = read_samples(folder)
    if not samples:
        raise OutputError("none")
    return {sample.file: _hash((folder / sample.file).read_bytes()) for sample in samples}


def _result(folder: Path) -> dict[str, str]:
    result = load_result(folder)
    names, states = result.names(), [status for row in result.status for status in row]
    images, codes = result.images.flatten(0, 1), result.codes.flatten(0, 1)
    return {
        name: _hash(images[n].numpy().tobytes() + codes[n].numpy().tobytes())
        for n, (name, status) in enumerate(zip(names, states, strict=True))
        if status != UNFINISHED
    }


def _atlas(folder: Path) -> dict[str, str]:
    """Finished neurons, those of a shard that is being made too, and all files of finished shards and of the pass."""
    atlas = load_atlas(folder)
    records, found = atlas.records, dict[str, str]()
    for index in range(records.manifest.shards):
        shard = records.manifest.shard(index)
        if (record := records.read(index)) is not None:
            rows = {
                row["target"]: {name: row[name] for name in row if name != "tile"}
                for row in read_rows(records, index, record)
            }
            found |= {name: _hash(json.dumps(row, sort_keys=True).encode()) for name, row in rows.items()}
            found |= {f"{shard.name}/{name}": digest for name, digest in record["files"].items()}
            assert all(_hash((records.shard_folder(index) / n).read_bytes()) == h for n, h in record["files"].items())
            continue
        for unit in shard.units:
            if (neuron := NeuronRecord.load(neuron_file(records, shard, unit), records.manifest.identity)) is not None:
                found[f"{shard.layer}:{unit}"] = _hash(json.dumps(neuron.row, sort_keys=True).encode())
    if PhotographPass(folder, records.manifest).is_done:
        local = [path for path in (folder / "photographs").rglob("*") if path.is_file()]
        found |= {
            str(path.relative_to(folder)): _hash(path.read_bytes()) for path in local if "state" not in path.parts
        }
    if not found:
        raise OutputError("none")
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def finished(name: str, folder: Path) -> dict[str, str]:
    """As `content`, empty where there is no run."""
    try:
        return content(name, folder)
    except GenPriorError:
        return {}


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder."""
    return list(folder.rglob(f".*{PARTIAL}"))


def equal_images(first: Path, second: Path) -> bool:
    """True if two results hold the same images to the bit."""
    return torch.equal(load_result(first).images, load_result(second).images)
