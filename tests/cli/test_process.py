"""The command as a process: start-up, Ctrl-C, broken pipes, a full disk."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_runner import Run
from torch import Tensor

from gen_prior.generators import Generator
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.result_folder import UNFINISHED

COMMAND = [sys.executable, "-c", "from gen_prior.cli import main; main()"]


WITH_TINY_CLASSIFIER = """
from torch import nn
from gen_prior import classifiers
from gen_prior.classifiers import Classifier
network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
classifiers.NAMED["tiny"] = lambda name: Classifier(network, input_size=16, labels=("ant", "bee"), name=name)
from gen_prior.cli import main
main()
"""


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from gen_prior.cli import app\n"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'torchvision', 'PIL', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("gen-prior 0.")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "gen_prior", "labels", "goldfish"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "n01443537" in done.stdout


def test_a_reader_that_leaves_is_not_told() -> None:
    process = subprocess.Popen([*COMMAND, "labels", "a", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) in (0, 1)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    arguments = ["synth", "bee", "--classifier", "tiny", "--generator", "pixel-raw", "--set", "image_size=16"]
    arguments += ["--seeds", "4000", "--steps", "1", "--batch", "2", "--device", "cpu", "--out", str(tmp_path)]
    command = [sys.executable, "-c", WITH_TINY_CLASSIFIER, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 120
    while len(list(tmp_path.glob("*.png"))) < 3 and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "finished images in" in err
    assert str(tmp_path) in err
    assert "Traceback" not in err
    status = load_result(tmp_path).status[0]
    assert 2 <= sum(one != UNFINISHED for one in status) < 4000
    assert not list(tmp_path.glob(".*.part")), "a file half written"


def test_ctrl_c_in_the_middle_of_a_batch(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_generator: Generator
) -> None:
    from gen_prior import generators
    from gen_prior.generators import Generator

    calls = []

    def decode(code: Tensor) -> Tensor:
        calls.append(len(code))
        if len(calls) == 20:  # one image each
            signal.raise_signal(signal.SIGINT)
        return tiny_generator.module(code)

    monkeypatch.setitem(generators.NAMED, "stopping", lambda name: Generator(decode, (8,), name=name))
    done = run("synth", "bee", "--generator", "stopping", "--seeds", "8", "--batch", "2", "--out", tmp_path, *tiny)
    assert done.code == 130
    assert "stopped; 2 finished images in" in done.complaint
    assert sum(one != UNFINISHED for one in load_result(tmp_path).status[0]) == 2


def test_ctrl_c_before_anything_is_finished(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen_prior import generators

    monkeypatch.setitem(generators.NAMED, "stopping", lambda name: signal.raise_signal(signal.SIGINT))
    done = run("synth", "bee", "--generator", "stopping", "--out", tmp_path / "out", *tiny)
    assert done.code == 130
    assert "nothing was finished" in done.complaint


def test_a_full_disk_is_one_line_and_spares_what_was_there(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("synth", "--generator", "tiny", "--seeds", "2", "--out", tmp_path, *tiny)
    assert run(*arguments, "bee").code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        done = run(*arguments, "cup", "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert done.code == 1
    assert "cannot write" in done.complaint
    assert {path: path.read_bytes() for path in before} == before
    assert load_result(tmp_path).targets[0]["name"] == "bee"
    assert not list(tmp_path.glob(".*.part")), "a file half written"
