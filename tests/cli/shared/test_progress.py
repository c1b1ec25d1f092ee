"""The progress bar: what it shows, and how seldom it looks at the device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gen_prior.cli.shared import progress
from gen_prior.cli.shared.progress import ProgressBar, keeping
from gen_prior.util.progress import Progress


class Watched(torch.Tensor):
    """Stands for activations on a device; counts how often they are read."""

    reads = 0

    def mean(self, *_: Any, **__: Any) -> torch.Tensor:
        Watched.reads += 1
        return torch.tensor(1.5)


@pytest.fixture(autouse=True)
def _count_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "reads", 0)


def test_the_device_is_read_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with ProgressBar() as bar:
        for step in range(1, 1000):
            clock[0] += 0.01
            bar.show(Progress(step, 1000, activations=Watched()))
    assert 30 <= Watched.reads <= 41  # ten seconds


def test_a_quiet_bar_never_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(quiet=True) as bar:
        bar.show(Progress(5, 5, activations=Watched()))
    assert Watched.reads == 0
    assert capsys.readouterr().err == ""


def test_shows_label_activation_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as bar:
        bar.show(Progress(12, 12, "image 3-4 of 4, step 3/3", Watched()))
    shown = capsys.readouterr().err
    for words in ("image 3-4 of 4", "step 3/3", "activation 1.5", "100%", "left"):
        assert words in shown


def test_an_error_before_the_first_step_leaves_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="early"), ProgressBar():
        raise ValueError("early")
    assert capsys.readouterr().err == ""


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar() as bar:
        bar.show(Progress(4, 4, "local-dir:[bold]", Watched()))
    assert "[bold]" in capsys.readouterr().err


def test_only_what_is_new_counts_as_finished(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "method").mkdir()
        (tmp_path / "method" / "new.png").write_bytes(b"")
        (tmp_path / "contact-sheet.png").write_bytes(b"")
        (tmp_path / "dream.png").write_bytes(b"")  # a copy of the last frame, which is old
        raise KeyboardInterrupt

    (tmp_path / "frame-0000.png").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt, match="stopped; 1 finished image in"), keeping(tmp_path):
        work()


@pytest.mark.parametrize(("width", "shown"), [(100, "━"), (80, "activation 12.35"), (50, "30%"), (34, "left")])
def test_a_narrow_line_loses_the_end_of_its_label_only(
    width: int, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr(progress, "errors", console)
    bar = progress.ProgressBar()
    label = "efficientnet-lite0+deepdream2015: image 1-8 of 24, step 13/128"
    bar._bar.update(bar._task, description=label, completed=30, total=100, activation="activation 12.35")
    console.print(bar._bar.get_renderable())
    (line,) = capsys.readouterr().out.splitlines()
    assert shown in line
    assert "30%" in line
    assert line.rstrip().endswith("left")
    assert line.count("…") == 1
