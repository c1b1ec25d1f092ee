"""Kills, full disks, read-only folders, rivals: a command's folder holds what is finished, or nothing, and goes on."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chaos.commands import COMMANDS, Ended, content, equal_images, finished, in_child, killed_at, leftovers
from command_runner import Run

from gen_prior.errors import OutputError
from gen_prior.optimise.load_result import load_result
from gen_prior.util.image_io import write_png

LONG = pytest.mark.chaos
Command = Callable[..., Ended]


@pytest.fixture
def words(tiny: None, tmp_path: Path) -> Callable[..., list[object]]:
    """`words(name, folder)`: the words of a command of `COMMANDS` that writes into `folder`."""
    photo = tmp_path / "photos" / "photo.png"
    write_png(photo, torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)))
    given = {"PHOTO": photo, "PHOTOS": photo.parent}
    return lambda name, folder: [given.get(str(word), word) for word in (*COMMANDS[name], "--out", folder)]


@pytest.fixture
def whole(words: Callable[..., list[object]], tmp_path: Path) -> Callable[[str], Path]:
    """`whole(name)`: the folder of an undisturbed run of that command, in this process, so that children are fast."""

    def run(name: str) -> Path:
        folder = tmp_path / f"whole-{name}"
        if not folder.exists():
            assert Run(*words(name, folder)).code == 0
        return folder

    return run


@pytest.fixture
def command(words: Callable[..., list[object]], whole: Callable[[str], Path]) -> Command:
    """`command(name, folder, prepare=..., **options of in_child)` runs a command of `COMMANDS` in a child."""

    def run(name: str, folder: Path, *more: object, prepare: Callable[[], None] = lambda: None, **given: Any) -> Ended:
        whole(name)
        return in_child(prepare, *words(name, folder), *more, **given)

    return run


def points(name: str, command: Command, folder: Path) -> int:
    """Number of calls by which the command publishes files."""
    low, high = 0, 1
    while command(name, folder / f"{high}", prepare=killed_at(high)).code is None:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        killed = command(name, folder / f"{middle}", prepare=killed_at(middle)).code is None
        low, high = (middle, high) if killed else (low, middle)
    return low


def check_killed_run(
    name: str, folder: Path, before: dict[str, str], expected: dict[str, str], command: Command, figures: Counter[str]
) -> None:
    """What is in the folder of a killed run is right, nothing finished was lost, and the same command completes it."""
    figures["tried"] += 1
    found = finished(name, folder)
    wrong = {item for item, value in found.items() if expected.get(item) != value and name != "evolve"}
    figures["lost"] += len(wrong) + len(before.keys() - found.keys())
    figures["items kept"] += len(found)
    assert not wrong, f"{name}: {wrong} are of another run"
    ended = command(name, folder)
    assert ended.code == 0, ended.complaint
    assert content(name, folder) == expected
    assert not leftovers(folder)
    figures["survived"] += 1


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("count", [1, pytest.param(None, marks=LONG)])
def test_killed_at_a_published_file(
    name: str, count: int | None, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    expected = content(name, whole(name))
    most = 10 if count else points(name, command, tmp_path / "points")
    chosen = random.Random(name).sample(range(1, most + 1), count) if count else range(1, most + 1)
    for point in chosen:
        folder = tmp_path / f"killed-{point}"
        command(name, folder, prepare=killed_at(point))
        check_killed_run(name, folder, {}, expected, command, figures)


@pytest.mark.parametrize("count", [1, pytest.param(60, marks=LONG)])
def test_killed_at_any_time(
    count: int, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    source = random.Random(1)
    for trial in range(count):
        name = source.choice(list(COMMANDS))
        expected, folder = content(name, whole(name)), tmp_path / f"killed-{trial}"
        for _ in range(2):  # the second run is killed too, while it goes on
            before = finished(name, folder)
            command(name, folder, kill_after=source.uniform(0.02, 0.5))
            assert before.keys() <= finished(name, folder).keys() or name == "evolve"
        check_killed_run(name, folder, {}, expected, command, figures)


@pytest.mark.parametrize("count", [2, pytest.param(None, marks=LONG)])
def test_killed_while_it_replaces_another_run(
    count: int | None, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    new = content("synth", whole("synth"))
    other = tmp_path / "other"
    assert command("synth", other, "--steps", 3).code == 0
    old = content("synth", other)
    for point in random.Random(2).sample(range(1, 21), count or 20):
        folder = tmp_path / f"killed-{point}"
        shutil.copytree(other, folder)
        command("synth", folder, "--overwrite", prepare=killed_at(point))
        found = finished("synth", folder)
        figures["tried"] += 1
        figures["old run kept" if found == old else "new run begun" if found else "neither"] += 1
        assert found == old or all(new[item] == value for item, value in found.items()), "a mixture of two runs"
        assert command("synth", folder, "--overwrite").code == 0
        assert content("synth", folder) == new
        figures["survived"] += 1


@pytest.mark.parametrize("count", [1, pytest.param(60, marks=LONG)])
def test_a_full_disk(
    count: int, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    source = random.Random(3)
    for trial in range(count):
        name, limit = source.choice(list(COMMANDS)), int(10 ** source.uniform(0, 4.2))

        def limited(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        folder = tmp_path / f"full-{trial}"
        ended = command(name, folder, prepare=limited)
        assert ended.code in (0, 1)
        assert ended.code == 0 or ("cannot write" in ended.complaint and "Fix:" in ended.complaint), ended.complaint
        assert not leftovers(folder)
        check_killed_run(name, folder, {}, content(name, whole(name)), command, figures)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder(name: str, command: Command, tmp_path: Path, figures: Counter[str]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    folder.chmod(0o555)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    ended = command(name, folder, prepare=lambda: os.setuid(65534) if os.getuid() == 0 else None)
    figures["tried"] += 1
    assert ended.code == 1
    assert "cannot write" in ended.complaint
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    figures["survived"] += 1


@pytest.mark.parametrize("count", [1, pytest.param(30, marks=LONG)])
def test_two_processes_in_one_folder(
    count: int, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    source = random.Random(4)
    for trial in range(count):
        name, folder = source.choice(list(COMMANDS)), tmp_path / f"shared-{trial}"
        ended: list[Ended] = []

        def work(name: str = name, folder: Path = folder, ended: list[Ended] = ended) -> None:
            ended.append(command(name, folder))

        whole(name)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        figures["tried"] += 1
        codes = {one.code for one in ended}
        assert 0 in codes
        assert codes <= ({0} if name == "atlas" else {0, 1}), "processes that make one atlas help each other"
        refused = [one.complaint for one in ended if one.code == 1]
        assert all("another process is writing" in complaint for complaint in refused)
        figures["refused"] += len(refused)
        assert content(name, folder) == content(name, whole(name))
        figures["survived"] += 1


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=LONG)])
def test_a_result_that_is_replaced_while_it_is_read(
    count: int, command: Command, whole: Callable[[str], Path], tmp_path: Path, figures: Counter[str]
) -> None:
    folder, other = tmp_path / "result", tmp_path / "other"
    assert command("synth", other, "--seeds", 3).code == 0
    results = {str(load_result(path).seeds): load_result(path) for path in (whole("synth"), other)}
    results["[0, 1, 2]"].save(folder)
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for result in results.values():
                result.save(folder, overwrite=True)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(count):
            figures["tried"] += 1
            try:
                found = load_result(folder)
                images = found.images
            except OutputError:
                figures["refused"] += 1
            else:
                assert torch.equal(images, results[str(found.seeds)].images), "a mixture"
                figures["whole"] += 1
            figures["survived"] += 1
    finally:
        stop.set()
        thread.join()
    assert equal_images(folder, other) or equal_images(folder, whole("synth"))
