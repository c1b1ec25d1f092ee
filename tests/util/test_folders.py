"""Only one process writes to a folder: of several that open a new one at once, each gets it or is refused."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gen_prior.errors import OutputError
from gen_prior.util.folders import InUseError, only_writer

ENTRIES = 40


def enter(folder: Path, begin: Any, outcomes: Any) -> None:
    """Take and release the lock of the folder many times; count how often it was given, refused, or failed."""
    seen: Counter[str] = Counter()
    begin.wait(30)
    for _ in range(ENTRIES):
        try:
            with only_writer(folder):
                seen["entered"] += 1
        except InUseError:
            seen["refused"] += 1
        except BaseException as error:
            seen[repr(error)] += 1
    outcomes.put(seen)


@pytest.mark.parametrize("is_new", [True, False])
def test_writers_that_race_for_a_folder(is_new: bool, tmp_path: Path) -> None:
    folder, context = tmp_path / "out", multiprocessing.get_context("fork")
    if not is_new:
        (folder / "mine").mkdir(parents=True)
    begin, outcomes = context.Event(), context.Queue()
    processes = [context.Process(target=enter, args=(folder, begin, outcomes)) for _ in range(4)]
    for process in processes:
        process.start()
    begin.set()
    found = sum((outcomes.get(timeout=30) for _ in processes), Counter[str]())
    for process in processes:
        process.join()
    assert found.keys() <= {"entered", "refused"}
    assert found["entered"] > 0
    assert found.total() == 4 * ENTRIES
    assert [path.name for path in folder.glob("*")] == ([] if is_new else ["mine"]), "no probe is left"


def test_the_lock_of_a_folder_that_was_deleted_is_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    lock = "gen_prior.util.folders._lock"
    monkeypatch.setattr(lock, lambda *given: folder.rmdir())  # another writer leaves between opening and locking
    with pytest.raises(InUseError, match="another process is writing to"), only_writer(folder):
        pytest.fail("entered a folder that is gone")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_what_is_no_folder_is_not_in_use(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot write") as caught, only_writer(tmp_path / place):
        pytest.fail("entered a file")
    assert not isinstance(caught.value, InUseError)
    assert (tmp_path / "file").read_text() == "mine"
