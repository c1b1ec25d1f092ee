"""Pictures as people have them: each is read right or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen_prior.errors import ImageError, OptionError
from gen_prior.util.image_io import as_image, read_image

RED = torch.tensor([1.0, 0.0, 0.0])


def saved(tmp_path: Path, picture: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    picture.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "a.png"),
        ("RGB", "a.bmp"),
        ("RGB", "a.webp"),
        ("P", "a.gif"),
        ("P", "a.png"),
        ("CMYK", "a.tif"),
        ("CMYK", "a.jpg"),
        ("RGBA", "a.png"),
    ],
)
def test_every_mode_and_format_of_red_is_red(tmp_path: Path, mode: str, name: str) -> None:
    image = read_image(saved(tmp_path, Image.new("RGB", (12, 10), (255, 0, 0)).convert(mode), name))
    assert image.shape == (3, 10, 12)
    assert image.dtype == torch.float32
    assert torch.allclose(image[:, 5, 5], RED, atol=0.02)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((1, 1), (0, 0, 0, 255))
    if mode == "P":
        picture = picture.quantize(8)
    image = read_image(saved(tmp_path, picture.convert(mode)))
    assert image[:, 0, 0].tolist() == [1, 1, 1]
    assert image[:, 1, 1].max() < 0.01


def test_half_transparent_is_mixed_with_white(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 128))))
    assert image[:, 0, 0].tolist() == pytest.approx([1, 0.5, 0.5], abs=0.01)


def test_sixteen_bits_keep_their_levels(tmp_path: Path) -> None:
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    image = read_image(saved(tmp_path, Image.fromarray(levels)))
    assert image[0, 0].tolist() == pytest.approx([0, 257 / 65535, 0.5, 1], abs=1e-4)
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_of_thirty_two_bits_are_refused(tmp_path: Path, kind: Any) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 1], [1, 70_000]], kind)), "depth.tif")
    with pytest.raises(ImageError, match=r"depth\.tif has 32 bits a channel.*8 or 16 bits") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_in_every_format_are_read(tmp_path: Path, name: str) -> None:
    image = read_image(saved(tmp_path, Image.fromarray(np.array([[0, 65535]], np.uint16)), name))
    assert image[0, 0].tolist() == [0, 1]


@pytest.mark.parametrize(("orientation", "place"), [(1, (0, 0)), (3, (9, 19)), (6, (0, 9)), (8, (19, 0))])
def test_a_camera_held_sideways(tmp_path: Path, orientation: int, place: tuple[int, ...]) -> None:
    picture = Image.new("RGB", (20, 10), "white")
    picture.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(saved(tmp_path, picture, exif=exif))
    assert image.shape == ((3, 10, 20) if orientation in (1, 3) else (3, 20, 10))
    assert image[:, place[0], place[1]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (1, 20_000)])
def test_one_pixel_and_twenty_thousand(tmp_path: Path, size: tuple[int, int]) -> None:
    image = read_image(saved(tmp_path, Image.new("RGB", size, (255, 0, 0))))
    assert image.shape == (3, size[1], size[0])
    assert torch.equal(image[:, -1, -1], RED)


def test_twenty_thousand_each_way_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("1", (20_000, 20_000)))
    with pytest.raises(ImageError, match="too many pixels") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["words.png", "empty.jpg", "cut.png", "drawing.svg", "page.html"])
def test_what_is_no_image_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes({"words.png": b"hello", "empty.jpg": b"", "drawing.svg": b"<svg/>"}.get(name, b"<html><script>"))
    if name == "cut.png":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=name) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such image"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError):
        read_image(tmp_path)


def test_an_image_may_be_a_file_a_picture_or_a_tensor(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3))
    path = saved(tmp_path, picture)
    for given in (path, str(path), picture, read_image(path)):
        assert torch.equal(as_image(given), read_image(path))
    assert as_image(picture.convert("L")).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros(1, 3, 4, 4), r"got \[1, 3, 4, 4\]. Fix: image\[0\]"),
        (torch.zeros(4, 4, 3), r"got \[4, 4, 3\]. Fix: image.permute"),
        (torch.full((3, 4, 4), 200.0), "got 200 to 200. Fix: divide by 255"),
        (torch.full((3, 4, 4), -1.0), "got -1 to -1. Fix: image.clamp"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "Fix: image.float"),
        (np.zeros((4, 4, 3)), "got ndarray"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        as_image(image)
