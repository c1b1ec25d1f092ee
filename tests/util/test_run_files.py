"""A run lists its files; another one replaces all of them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_prior.errors import OptionError
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.folders import check_kind, only_writer, remove_run, run_writer
from gen_prior.util.run_files import LIST


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in a folder that also holds a file of the user's."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with run_writer(folder), run_writer(folder / "method"):
        write_json(folder / "result.json", {})
        write_bytes(folder / "deep" / "er" / "image.png", b"1")
        write_bytes(folder / "method" / "image.png", b"1")
        write_bytes(folder / "image.png", b"1")
        write_bytes(tmp_path / "elsewhere.png", b"1")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_run_is_removed_as_a_whole_and_nothing_else(run: Path) -> None:
    assert remove_run(run)
    assert files(run) == {"notes.txt"}
    assert (run.parent / "elsewhere.png").is_file()
    assert not remove_run(run), "there is no list"


def test_a_run_that_went_on_is_one_run(run: Path) -> None:
    with run_writer(run):
        write_bytes(run / "later.png", b"1")
        write_bytes(run / "image.png", b"2")
    listed = (run / LIST).read_text().splitlines()
    assert len(listed) == len(set(listed)) == 5
    with run_writer(run):
        remove_run(run)
        write_bytes(run / "image.png", b"3")
    assert files(run) == {"notes.txt", LIST, "image.png"}
    assert (run / LIST).read_text() == "image.png\n"


def test_what_other_writers_write_is_not_listed(tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"):
        write_bytes(tmp_path / "out" / "a", b"1")
    assert files(tmp_path / "out") == {"a"}


def test_a_list_leads_nowhere_else(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    for name in ("one", "precious/two", "three"):
        (tmp_path / name).write_text("mine")
    (run / "link").symlink_to(tmp_path / "precious")
    with (run / LIST).open("a") as file:
        file.write(f"../one\nlink/two\n{tmp_path / 'three'}\ndeep/../../one\n")
    remove_run(run)
    assert all((tmp_path / name).is_file() for name in ("one", "precious/two", "three"))


@pytest.mark.parametrize("name", ["evolution.npz", "experiment.json", "settings.json", "manifest.json"])
def test_runs_of_days_are_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(OptionError, match=name):
        check_kind(tmp_path, "result.json", overwrite=True)
    remove_run(tmp_path)
    assert (tmp_path / name).is_file()
