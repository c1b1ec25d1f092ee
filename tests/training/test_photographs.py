"""Photographs from folders and tar shards, squared, cached, and counted."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gen_prior as gp
from gen_prior.errors import ImageError, OutputError
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
    (data,) = (tmp_path / "cache").glob("*.rgb")
    data.with_suffix(".json").write_text('{"torn": ')
    open_photographs(source, 64, tmp_path / "cache", lambda progress: read.append(progress.done))
    assert read == [3]
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
    (record,) = (tmp_path / "cache").glob("*.json")
    assert json.loads(record.read_text())["images"] == 2


def test_photographs_are_read_as_any_image_is(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    Image.fromarray(np.full((64, 64), 13107, np.uint16)).save(source / "0-grey16.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(source / "1-transparent.png")
    turned = Image.new("RGB", (64, 64))
    turned.paste((255, 255, 255), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    turned.save(source / "2-turned.png", exif=exif)
    for crops in (1, 2):
        images = open_photographs(source, 64, tmp_path / f"cache-{crops}", crops=crops).batch(torch.arange(3 * crops))
        torch.testing.assert_close(images[0], torch.full((3, 64, 64), 0.2))
        assert (images[crops] == 1).all(), "transparency is white"
        assert images[-1, :, :, 0].max() < 0.5 < images[-1, :, :, -1].min()


def test_linked_folders_are_read_once_each(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "photographs", tmp_path / "elsewhere"
    (source / "ant").mkdir(parents=True)
    elsewhere.mkdir()
    for index in range(3):
        (source / "ant" / f"{index}.png").write_bytes(png((index, 0, 0)))
        (elsewhere / f"{index}.png").write_bytes(png((10 + index, 0, 0)))
    (source / "bee").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(source)
    (source / "ant" / "nowhere.png").symlink_to(tmp_path / "missing")
    photographs = open_photographs(source, 64, tmp_path / "cache")
    assert (photographs.batch(torch.arange(6))[:, 0, 0, 0] * 255).round().int().tolist() == [0, 1, 2, 10, 11, 12]
    assert photographs.description.unreadable == 0


def test_several_folders_are_one_set(tmp_path: Path) -> None:
    for folder, reds in (("a", (0, 1)), ("b", (10, 11, 12))):
        (tmp_path / folder).mkdir()
        for red in reds:
            (tmp_path / folder / f"{red}.png").write_bytes(png((red, 0, 0)))
    photographs = open_photographs([tmp_path / "b", tmp_path / "a"], 64, tmp_path / "cache")
    assert (photographs.batch(torch.arange(5))[:, 0, 0, 0] * 255).round().int().tolist() == [10, 11, 12, 0, 1]
    assert photographs.description.source == "b, a"


def test_hostile_files_are_counted_and_cost_no_memory(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for index in range(5):
        (source / f"{index}.png").write_bytes(png((index, 0, 0)))
    Image.new("1", (13_000, 13_000)).save(source / "bomb.png")
    with (source / "sparse.png").open("wb") as sparse:
        sparse.truncate(2**40)
    (source / "3.png").rename(os.fsdecode(os.fsencode(source) + b"/\xff\xfe.png"))
    with tarfile.open(source / "shard.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for headers in ({}, {"GNU.sparse.major": "0", "GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,1"}):
            member = tarfile.TarInfo(f"{len(headers)}.png")
            member.size, member.pax_headers = len(png((9, 0, 0))), headers
            archive.addfile(member, io.BytesIO(png((9, 0, 0))))
    photographs = open_photographs(source, 64, tmp_path / "cache")
    assert photographs.description.images == 6
    assert photographs.description.unreadable == 2, "the sparse member is no image"
    assert open_photographs(source, 64, tmp_path / "cache").description == photographs.description


def test_a_full_disk_is_found_before_the_work_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for index in range(3):
        (source / f"{index}.png").write_bytes(png((index, 0, 0)))

    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    read: list[gp.Progress] = []
    with pytest.raises(OutputError, match=r"No space left on device\. Fix: free 0\.000 GB"):
        open_photographs(source, 64, tmp_path / "cache", read.append)
    assert not read
    assert not list((tmp_path / "cache").iterdir())


def test_a_limit_takes_that_many_photographs_evenly_spaced(tmp_path: Path) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for index in range(11):
        (source / f"{index:02d}.png").write_bytes(png((index, 0, 0)))
    photographs = open_photographs(source, 64, tmp_path / "cache", limit=5)
    reds = (photographs.batch(torch.arange(5))[:, 0, 0, 0] * 255).round().int()
    assert reds.tolist() == [0, 2, 4, 6, 8]
