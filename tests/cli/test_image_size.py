"""`--image-size`, one option of all commands that draw by a generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_runner import Run

from gen_prior.optimise.load_result import load_result
from gen_prior.util.image_io import read_image, write_png

ONE = ("--steps", "1", "--quiet")


def test_every_method_of_a_comparison(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = ("compare", "bee", "-m", "pixel-raw", "-m", "fourier", "--judge", "none", "--seeds", "1", *tiny, *ONE)
    done = run(*words, "--image-size", "20x24", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    for method in ("pixel-raw", "fourier"):
        assert load_result(tmp_path / "out" / method).images.shape[-2:] == (20, 24)
    other = run(*words, "--image-size", "16", "--out", tmp_path / "out")
    assert other.code == 2
    assert "another image size" in other.complaint


def test_a_search(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = ("evolve", "bee", "-g", "pixel-raw", "--image-size", "20", "--dims", "10", "--population", "4", *tiny[:4])
    done = run(*words, "--evaluations", "4", "--out", tmp_path / "out", "--quiet")
    assert done.code == 0, done.err
    assert read_image(tmp_path / "out" / "best.png").shape == (3, 20, 20)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_png(tmp_path / "photo.png", torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0)))
    return tmp_path / "photo.png"


def test_a_dream_through_a_prior_but_no_other(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    words = ("dream", photo, "--layer", "conv2", "--image-size", "20", "--out", tmp_path / "out", *tiny, *ONE)
    plain = run(*words)
    assert plain.code == 2
    assert "size of its photograph" in plain.complaint
    assert "--through dgn-lite0" in plain.complaint
    through = run(*words, "--through", "tiny")
    assert "tiny draws 16 x 16 px only, got image_size=20" in through.complaint
