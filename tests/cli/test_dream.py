"""`dream`: the picture, the film of the feedback loop, the climb through a generator, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runner import Run
from PIL import Image
from torch import Tensor

from gen_prior.util.image_io import read_image


def test_dream_writes_the_picture(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    done = run("dream", photo, "--layer", "conv2", "--octaves", 1, "--out", tmp_path / "out", *tiny)
    assert done.code == 0, done.err
    assert str(tmp_path / "out" / "dream.png") in done.out
    assert read_image(tmp_path / "out" / "dream.png").shape == (3, 40, 50)
    assert not torch.equal(read_image(tmp_path / "out" / "dream.png"), read_image(photo))


def test_dream_films_the_feedback_loop(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    done = run(
        "dream",
        photo,
        "--layer",
        "conv2",
        "--octaves",
        1,
        "--frames",
        3,
        "--film",
        "webp",
        "--json",
        "--out",
        tmp_path,
        *tiny,
    )
    assert done.json["files"] == [str(tmp_path / name) for name in ("dream.png", "dream.webp", "dream-strip.png")]
    assert read_image(tmp_path / "dream-strip.png").shape == (3, 40, 3 * 50 + 2 * 2)
    assert [path.name for path in sorted(tmp_path.glob("frame-*"))] == [f"frame-000{n}.png" for n in range(3)]
    with Image.open(tmp_path / "dream.webp") as film:
        assert getattr(film, "n_frames", 1) == 3


def test_a_film_that_was_interrupted_is_playable(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen_prior.applications import dream as dreaming

    whole = dreaming.dream_frames

    def two_frames(*arguments: Any, **options: Any) -> Iterator[Tensor]:
        for number, frame in enumerate(whole(*arguments, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(dreaming, "dream_frames", two_frames)
    done = run("dream", photo, "--layer", "conv2", "--octaves", 1, "--frames", 9, "--out", tmp_path / "out", *tiny)
    assert done.code == 130
    assert "stopped; 3 finished images" in done.complaint
    with Image.open(tmp_path / "out" / "dream.gif") as film:
        assert getattr(film, "n_frames", 1) == 2


def test_a_slip_of_the_pen_costs_nothing_of_the_run_before(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    common = ("dream", photo, "--octaves", 1, "--out", tmp_path, *tiny)
    assert run(*common, "--layer", "conv2", "--frames", 3).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert len(before) == 6
    for wrong in (("--layer", "conv9"), ("--layer", "conv2", "--rotate", "nan"), ("--layer", "conv2", "--zoom", 0)):
        assert run(*common, *wrong, "--frames", 2).code == 2
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    refused = run(*common, "--layer", "conv1")
    assert refused.code == 2
    assert "holds a dream (dream.png)" in refused.complaint
    common = (*common, "--overwrite")
    assert run(*common, "--layer", "conv9").code == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert run(*common, "--layer", "conv1").code == 0  # a single picture leaves the frames
    assert len(list(tmp_path.glob("frame-*"))) == 3
    assert run(*common, "--layer", "conv1", "--frames", 2).code == 0
    assert len(list(tmp_path.glob("frame-*"))) == 2


def through(run: type[Run], tiny: tuple[str, ...], photo: Path, out: Path, *more: object) -> Run:
    return run("dream", photo, "--through", "tiny", "--target", "bee", "--json", "--out", out, *tiny, *more)


def test_dream_through_a_generator(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    done = through(run, tiny, photo, tmp_path, "--frames", 3)
    assert done.code == 0, done.err
    names = ["dream.png", "dream-sheet.png", "dream.gif", "dream-strip.png", "numbers.csv", "numbers.parquet"]
    assert [path.rpartition("/")[2] for path in done.json["files"]] == names
    assert read_image(tmp_path / "dream.png").shape == (3, 16, 16)
    with Image.open(tmp_path / "dream.gif") as film:
        assert getattr(film, "n_frames", 1) == 3  # of 4 steps: 1, 3 and the final image
    strip = read_image(tmp_path / "dream-strip.png")
    assert torch.equal(strip[:, :, -16:], read_image(tmp_path / "dream.png"))


def test_strength_is_the_dial_through_a_generator(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    ways = []
    for strength in (0.05, 0.8):
        out = tmp_path / str(strength)
        assert through(run, tiny, photo, out, "--strength", strength, "--steps", 20, "--frames", 21).code == 0
        strip = read_image(out / "dream-strip.png")
        ways.append((strip[:, :, -16:] - strip[:, :, :16]).abs().mean().item())
    assert ways[1] > 3 * ways[0]


def test_an_interrupted_climb_is_playable(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen_prior.applications import dream as dreaming

    whole = dreaming.dream_through

    def stopped(*arguments: Any, record: Any, **options: Any) -> Any:
        def until_three(first: int, step: int, images: Tensor) -> None:
            if step == 3:
                raise KeyboardInterrupt
            record(first, step, images)

        return whole(*arguments, record=until_three, **options)

    monkeypatch.setattr(dreaming, "dream_through", stopped)
    done = through(run, tiny, photo, tmp_path / "out", "--frames", 5)
    assert done.code == 130
    with Image.open(tmp_path / "out" / "dream.gif") as film:
        assert getattr(film, "n_frames", 1) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "conv2", "--target", "bee"), "either a layer or a target"),
        (("--layer", "conv9"), "conv2"),
        (("--layer", "conv2", "--film", "avi", "--frames", "2"), ".gif, .webp, .mp4"),
        (("--layer", "conv2", "--octaves", "0"), "octaves must be at least 1"),
        (("--layer", "conv2", "--frames", "2", "--fps", "0"), "fps must be positive"),
        (("--layer", "conv2", "--frames", "2", "--rotate", "nan"), "rotate must be a number of degrees"),
        (("--layer", "conv2", "--zoom", "1.1"), "--zoom has no effect with a single frame"),
        (("--layer", "conv2", "--film", "mp4"), "--film has no effect with a single frame"),
        (("--layer", "conv2", "--steps", "0"), "steps must be at least 1"),
        (("--through", "tiny", "--layer", "conv2", "--octaves", "2"), "--octaves has no effect with --through"),
        (("--through", "tiny", "--layer", "conv2", "--frames", "2", "--zoom", "2"), "--zoom has no effect with"),
        (("--through", "tiny", "--layer", "conv2", "--frames", "2", "--rotate", "2"), "--rotate has no effect with"),
        (("--through", "tiny", "--layer", "conv2", "--steps", "0"), "steps must be at least 1"),
        (("--through", "tiny", "--layer", "conv9"), "conv2"),
        (("--through", "tiny", "--layer", "conv2", "--batch", "0"), "batch must be at least 1"),
        (("--through", "tiny", "--layer", "conv2", "--precision", "fp8"), "bf16"),
    ],
)
def test_dream_refuses_in_one_line(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run("dream", photo, "--out", tmp_path / "out", *tiny, *arguments)
    assert done.code == 2
    assert words in done.complaint
    assert not list(tmp_path.glob("out/*"))


def test_dream_of_what_is_no_image(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("dream", tmp_path / "missing.png", "--layer", "conv2", *tiny)
    assert done.code == 1
    assert "no such image" in done.complaint
