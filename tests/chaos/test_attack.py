"""An attack on all commands: hostile words and files end in one line and an exit code, in time, and write nowhere else.

The short form spoils a few commands, the long form a thousand (`pytest -m chaos tests/chaos/test_attack.py`).
"""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from pathlib import Path

import pytest
import typer
from chaos.attack_calls import KINDS
from chaos.attack_inputs import FILES, NAMES, VALID, spoiled, write_inputs
from command_runner import Run
from limits import TooSlowError, bounded
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.cli import app
from gen_prior.errors import GenPriorError
from gen_prior.generators import Generator

LONG = pytest.mark.chaos


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> kind, size and time of each file below a folder."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def options_of(command: str) -> list[str]:
    """All options of a command, but those that start many processes or train."""
    group = typer.main.get_command(app)
    parameters = group.commands[command].params  # type: ignore[attr-defined]
    named = [name for one in parameters if one.param_type_name == "option" for name in one.opts]
    return [name for name in named if name not in ("--executor", "--workers", "--compile")]


def attack(words: list[str], box: Path, figures: Counter[str]) -> None:
    """Run a command in `box/here`; see that it ends as it should."""
    before = listing(box / "here" / "inputs")
    figures["tried"] += 1
    with bounded():
        done = Run(*words)
    figures[f"exit code {done.code}"] += 1
    assert done.code in (0, 1, 2), words
    assert "Traceback" not in done.err, words
    assert "\x1b" not in done.out + done.err, f"escape sequences reach the terminal: {words}"
    assert listing(box / "here" / "inputs") == before, f"{words} wrote into the inputs"
    assert (box / "here" / "secret.txt").read_text() == "secret"
    figures["survived"] += 1


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that an attacker left there, and no network."""
    here = tmp_path / "box" / "here"
    (here / "inputs").mkdir(parents=True)
    write_inputs(here / "inputs")
    monkeypatch.chdir(here)
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return here.parent


def seeded() -> random.Random:
    """The attack's choices; another attack by GEN_PRIOR_CHAOS_SEED."""
    return random.Random(int(os.environ.get("GEN_PRIOR_CHAOS_SEED", "25")))


def shown(error: BaseException) -> str:
    """The kind and beginning of an error."""
    return f"{type(error).__name__}: {str(error)[:300]}"


KNOWN = [
    ("synth", "-o", "a" * 300),
    ("compare", "-o", "a" * 300),
    ("natural", "--out", "a" * 300),
    ("natural", "-o", "inputs/loop"),
    ("natural", "-o", "inputs/dangling"),
    *(("accentuate", "--labels", name) for name in ("inputs/huge", "inputs/zero", "inputs/deep.json", "/dev/full")),
    ("doctor", "--set", "image_size=" + "[" * 5000),
    ("dataset", "--per-class", str(2**64)),
    ("synth", "--candidates", "9" * 30),
    ("synth", "--trials", "9" * 30),
    *(("dream", option, "9" * 30) for option in ("--seed", "--steps", "--frames")),
    ("morph", "--frames", "9" * 30),
    ("evolve", "--evaluations", "9" * 30),
    ("evolve", "--ask", "a" * 300),
    ("export", "export", "(" * 3000),
    ("synth", "--images", "a" * 300),
    ("natural", "--images", "a" * 300),
    ("natural", "-o", "a/" * 2000),
    ("natural", "-o", "inputs/plain.txt"),
    *((command, "--set", f"{name}=x") for command in ("calibrate", "export") for name in ("name", "spec", "device")),
    ("train-prior", "--images", "a" * 300),
    ("train-prior", "--large", "a" * 300),
    ("replay", "replay", "a" * 300),
    ("atlas", "-o", "a" * 300),
]
"""Command, option and value of attacks that once succeeded."""


@pytest.mark.parametrize(("command", "option", "value"), KNOWN)
def test_attacks_that_once_succeeded(
    command: str, option: str, value: str, tiny: None, box: Path, figures: Counter[str]
) -> None:
    words = [command, *VALID[command]]
    if option in words:
        words[words.index(option) + 1] = value
    attack(words if option in words else [command, option, value, *words[1:]], box, figures)


@pytest.mark.parametrize("count", [6, pytest.param(1000, marks=LONG)])
def test_hostile_commands(count: int, tiny: None, box: Path, figures: Counter[str]) -> None:
    assert Run("synth", *VALID["synth"], "--out", box / "here" / "inputs" / "result").code == 0
    source, failures = seeded(), []
    for _ in range(count):
        command = source.choice(list(VALID))
        words = spoiled(source, command, options_of(command))
        try:
            attack(words, box, figures)
        except (Exception, TooSlowError) as error:
            failures.append(f"{[word[:60] for word in words]}: {shown(error)}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=LONG)])
def test_hostile_calls(
    count: int, tiny_classifier: Classifier, tiny_generator: Generator, tiny: None, box: Path, figures: Counter[str]
) -> None:
    source, failures, inputs = seeded(), [], box / "here" / "inputs"
    before = listing(inputs)
    for trial in range(count):
        kind = source.choice(list(KINDS))
        calls, values = KINDS[kind]
        number = source.randrange(len(calls))
        value = source.choice(values or (FILES if kind == "files" else NAMES))
        (folder := box / f"calls-{trial}").mkdir()
        figures["tried"] += 1
        try:
            with bounded(), warnings.catch_warnings(action="ignore"):
                calls[number](value, tiny_classifier, tiny_generator, folder)
            figures["returned"] += 1
        except GenPriorError:
            figures["refused"] += 1
        except (Exception, TooSlowError) as error:
            given = f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)[:80]
            failures.append(f"{kind} {number}, {given}: {shown(error)}")
    assert listing(inputs) == before, "a call wrote into the inputs"
    assert not failures, "\n".join(sorted(failures))
