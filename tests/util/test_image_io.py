"""Files: whole or not at all; images read with limits."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from PIL import Image

from gen_prior.errors import ImageError, OutputError
from gen_prior.util import image_io as files
from gen_prior.util.image_io import read_image, to_pil, write_bytes, write_files, write_json, write_png


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
@pytest.mark.parametrize("place", ["fsync", "fdopen"])
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

    monkeypatch.setattr(files.os, place, fail)
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

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(OutputError, match=r"Permission denied.*--out"):
        write_bytes(tmp_path / "x", b"")


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}


def test_png_round_trip(tmp_path: Path) -> None:
    image = torch.arange(3 * 8 * 9).view(3, 8, 9) / 255
    write_png(tmp_path / "a.png", image)
    torch.testing.assert_close(read_image(tmp_path / "a.png"), image)
    assert to_pil(torch.tensor([[[-1.0]], [[0.5]], [[2.0]]])).getpixel((0, 0)) == (0, 128, 255)


def test_modes_of_images(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (4, 3), 51).save(path)
    torch.testing.assert_close(read_image(path), torch.full((3, 3, 4), 0.2))
    Image.new("RGBA", (4, 3), (255, 0, 0, 0)).save(path)
    torch.testing.assert_close(read_image(path), torch.ones(3, 3, 4))  # transparency is white
    Image.new("I;16", (4, 3), 13107).save(path)
    torch.testing.assert_close(read_image(path), torch.full((3, 3, 4), 0.2))
    Image.new("P", (4, 3)).save(path)
    torch.testing.assert_close(read_image(path), torch.zeros(3, 3, 4))
    turned = Image.new("RGB", (4, 3))
    turned.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned.save(path, exif=exif)
    assert read_image(path).shape == (3, 4, 3)
    assert read_image(path)[0, 0, 2] == 1


def test_files_that_are_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="no such image"):
        read_image(path)
    Image.new("RGB", (40, 30)).save(path)
    whole = path.read_bytes()
    for data in (b"", b"hello", b"<html>", whole[:40], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        path.write_bytes(data)
        with pytest.raises(ImageError, match="not an image"):
            read_image(path)
    with pytest.raises(ImageError, match="not an image"):
        read_image(tmp_path)
    path.write_bytes(whole)
    for limit in (1000, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="too many pixels"):
            read_image(path)
