"""Images are written and read back, with limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen_prior.errors import ImageError
from gen_prior.util.image_io import centre_square, image_files, read_image, to_pil, write_png


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
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path)
    path.write_bytes(whole)
    for limit in (1000, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match="too many pixels"):
            read_image(path)


def test_image_files_are_those_named_and_those_in_folders(tmp_path: Path) -> None:
    inside = [tmp_path / "a.PNG", tmp_path / "deep" / "b.jpeg"]
    (tmp_path / "deep").mkdir()
    for path in (*inside, tmp_path / "notes.txt"):
        path.touch()
    assert image_files([tmp_path]) == inside
    assert image_files([tmp_path / "notes.txt", tmp_path / "deep"]) == [tmp_path / "notes.txt", inside[1]]
    with pytest.raises(ImageError, match="no images"):
        image_files([])


def test_centre_square() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    assert np.asarray(centre_square(Image.fromarray(wide), 8)).min() == 255
    assert np.asarray(centre_square(Image.fromarray(wide), 4)).min() > 200
    assert np.asarray(centre_square(Image.new("L", (6, 9), 7), 4)).shape == (4, 4, 3)
