"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from gen_prior.errors import OutputError
from gen_prior.util.files import write_bytes, write_files, write_json
from gen_prior.util.reading import read_regular


def test_bytes_are_written_with_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.bin"
    previous = os.umask(0o027)
    try:
        write_bytes(path, b"abc")
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"abc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["fsync", "close"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    error: BaseException, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_files({first: b"old", second: b"old"})
    real = getattr(os, place)
    calls: list[int] = []

    def fail(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(os, place, fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_files({first: b"new", second: b"new"})
    assert (first.read_bytes(), second.read_bytes()) == (b"old", b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write") as caught:
        write_bytes(tmp_path / "file" / "x", b"")
    assert "\n" not in str(caught.value)


def test_a_read_only_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(OutputError, match=r"Permission denied.*--out"):
        write_bytes(tmp_path / "x", b"")


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}


def test_reading_asks_for_no_more_memory_than_the_file_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", limit=2**50) == b"abc"
    with pytest.raises(OSError, match="the limit is 2"):
        read_regular(tmp_path / "a", limit=2)
