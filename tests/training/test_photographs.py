"""Photographs from folders and tar shards, squared, cached, and counted."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gen_prior as gp
from gen_prior.errors import ImageError
from gen_prior.training.photographs import open_photographs


def png(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_nested_folders_and_other_files(tmp_path: Path) -> None:
    source = tmp_path / "tiny-imagenet" / "train"
    for index, name in enumerate(("n01/images/n01_0.JPEG", "n01/images/n01_1.JPEG", "n02/images/n02_0.JPEG")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (index * 100, 0, 0)).save(source / name, quality=95)
    (source / "n01" / "n01_boxes.txt").write_text("n01_0.JPEG 0 0 63 63")
    seen: list[gp.Progress] = []
    photographs = open_photographs(source, 32, tmp_path / "cache", seen.append)
    assert photographs.description.images == 3
    assert photographs.description.unreadable == 0
    assert photographs.description.source == "train"
    assert seen == [gp.Progress(3, 3, "reading photographs")]
    batch = photographs.batch(torch.tensor([2, 0]))
    assert batch.shape == (2, 3, 32, 32)
    torch.testing.assert_close(batch[:, 0].mean((1, 2)), torch.tensor([200 / 255, 0.0]), rtol=0, atol=0.02)


def test_unreadable_images_are_skipped_and_counted_and_the_cache_knows_it(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for index in range(6):
        (source / f"{index}.png").write_bytes(png((index, 0, 0)))
    (source / "2.png").write_bytes(b"<html>")
    (source / "5.png").write_bytes(png((5, 0, 0))[:60])
    for _ in range(2):  # read, then from the cache
        photographs = open_photographs(source, 64, tmp_path / "cache")
        assert len(photographs) == 4
        assert photographs.description.unreadable == 2
        reds = (photographs.batch(torch.arange(4))[:, 0, 0, 0] * 255).round().int()
        assert reds.tolist() == [0, 1, 3, 4]


def test_the_cache_is_read_again_only_while_it_fits(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for index in range(3):
        (source / f"{index}.png").write_bytes(png((index, 0, 0)))
    open_photographs(source, 64, tmp_path / "cache")
    read: list[int] = []
    open_photographs(source, 64, tmp_path / "cache", lambda progress: read.append(progress.done))
    assert not read
    (tmp_path / "cache" / "photographs-64.json").write_text('{"torn": ')
    open_photographs(source, 64, tmp_path / "cache", lambda progress: read.append(progress.done))
    assert read == [3]
    data = tmp_path / "cache" / "photographs-64.npy"
    data.write_bytes(data.read_bytes()[:5000])
    open_photographs(source, 64, tmp_path / "cache", lambda progress: read.append(progress.done))
    assert read == [3, 3]
    (source / "3.png").write_bytes(png((9, 0, 0)))
    assert len(open_photographs(source, 64, tmp_path / "cache")) == 4
    assert not list((tmp_path / "cache").glob("*partial*"))


def test_tar_shards(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    for shard in range(2):
        with tarfile.open(source / f"{shard:05d}.tar", "w") as archive:
            for index in range(2):
                for name, data in ((f"{index}.png", png((100 * shard + index, 0, 0))), (f"{index}.cls", b"7")):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    photographs = open_photographs(source, 64, tmp_path / "cache")
    assert (photographs.batch(torch.arange(4))[:, 0, 0, 0] * 255).round().int().tolist() == [0, 1, 100, 101]
    single = open_photographs(source / "00001.tar", 64, tmp_path / "other")
    assert len(single) == 2
    (source / "00002.tar").write_bytes(b"not a tar archive" * 100)
    with pytest.raises(ImageError, match=r"00002\.tar is not an uncompressed tar archive"):
        open_photographs(source, 64, tmp_path / "cache")


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        open_photographs(tmp_path / "nowhere", 64, tmp_path / "cache")
    source = tmp_path / "photographs"
    source.mkdir()
    with pytest.raises(ImageError, match="no images"):
        open_photographs(source, 64, tmp_path / "cache")
    for index in range(9):
        (source / f"{index}.jpg").write_bytes(b"junk" if index else png((1, 2, 3)))
    with pytest.raises(ImageError, match="only 1 of 9 images"):
        open_photographs(source, 64, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_mirroring(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    for index in range(2):
        Image.fromarray(ramp).save(source / f"{index}.png")
    photographs = open_photographs(source, 64, tmp_path / "cache")
    plain, mirrored = photographs.batch(torch.tensor([0, 1]), torch.tensor([False, True]))
    assert torch.equal(plain.flip(-1), mirrored)
    assert json.loads((tmp_path / "cache" / "photographs-64.json").read_text())["images"] == 2
