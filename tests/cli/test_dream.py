"""`dream`: the picture, the film of the feedback loop, the climb through a generator, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command_runner import Run
from PIL import Image
from torch import Tensor

from gen_prior.applications import dream as dreaming
from gen_prior.applications import encode as encoding
from gen_prior.util.image_io import read_image, write_png
from gen_prior.util.run_files import LIST


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
    assert read_image(tmp_path / "dream-strip.png").shape == (3, 40 + 16, 3 * 50 + 2 * 2)
    assert [path.name for path in sorted(tmp_path.glob("frame-*"))] == [f"frame-000{n}.png" for n in range(3)]
    with Image.open(tmp_path / "dream.webp") as film:
        assert getattr(film, "n_frames", 1) == 3


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The next dreams count down the number in this list, then it is Ctrl-C."""
    left, whole = [10**9], dreaming.dream

    def dream(*arguments: Any, **options: Any) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(dreaming, "dream", dream)
    return left


def files(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_film_that_was_interrupted_is_playable_and_goes_on(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, stopping: list[int]
) -> None:
    common = ("dream", photo, "--layer", "conv2", "--octaves", 1, "--rotate", 5, *tiny)
    assert run(*common, "--frames", 5, "--out", tmp_path / "whole").code == 0
    stopping[0] = 2
    done = run(*common, "--frames", 5, "--out", tmp_path / "out")
    assert done.code == 130
    assert "stopped; 2 finished images" in done.complaint
    with Image.open(tmp_path / "out" / "dream.gif") as film:
        assert getattr(film, "n_frames", 1) == 2
    stopping[0] = 3
    done = run(*common, "--frames", 5, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert run(*common, "--frames", 5, "--out", tmp_path / "out").code == 0  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times


def test_a_picture_goes_on_to_frames(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, stopping: list[int]
) -> None:
    common = ("dream", photo, "--layer", "conv2", "--octaves", 1, *tiny)
    assert run(*common, "--out", tmp_path / "out").code == 0
    stopping[0] = 2
    assert run(*common, "--frames", 3, "--out", tmp_path / "out").code == 0
    stopping[0] = 3
    assert run(*common, "--frames", 3, "--out", tmp_path / "whole").code == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    refused = run(*common, "--frames", 2, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "holds 3 frames of this dream, more than 2" in refused.complaint


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (("--layer", "conv1"), "another layer"),
        (("--layer", "conv2", "--octaves", 2), "other octaves"),
        (("--layer", "conv2", "--zoom", 1.2), "another zoom"),
        (("--layer", "conv2", "--seed", 1), "another seed"),
        (("--target", "bee"), "another target"),
    ],
)
def test_another_dream_is_refused(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, other: tuple[object, ...], words: str
) -> None:
    common = ("dream", photo, "--frames", 2, "--octaves", 1, "--out", tmp_path / "out", *tiny)
    assert run(*common, "--layer", "conv2").code == 0
    before = files(tmp_path / "out")
    refused = run(*common, *other)
    assert refused.code == 2
    assert f"holds a dream with {words}" in refused.complaint
    assert files(tmp_path / "out") == before


def test_a_damaged_dream_is_said_to_be_one(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    common = ("dream", photo, "--layer", "conv2", "--octaves", 1, "--frames", 2, "--out", tmp_path, *tiny)
    assert run(*common).code == 0
    (tmp_path / "frame-0000.png").unlink()
    assert run(*common).code == 0  # a frame is gone: made anew
    assert (tmp_path / "frame-0000.png").exists()
    (tmp_path / "dream.safetensors").write_bytes(b"nonsense")
    assert "dream" in run(*common).complaint
    (tmp_path / "dream.safetensors").unlink()
    assert "it is not known how it was made" in run(*common).complaint
    assert run(*common, "--overwrite").code == 0


def test_a_slip_of_the_pen_costs_nothing_of_the_run_before(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    common = ("dream", photo, "--octaves", 1, "--out", tmp_path, *tiny)
    assert run(*common, "--layer", "conv2", "--frames", 3).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert len([path for path in before if path.name != LIST]) == 7
    for wrong in (("--layer", "conv9"), ("--layer", "conv2", "--rotate", "nan"), ("--layer", "conv2", "--zoom", 0)):
        assert run(*common, *wrong, "--frames", 2).code == 2
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    refused = run(*common, "--layer", "conv1")
    assert refused.code == 2
    assert "holds a dream with another layer" in refused.complaint
    common = (*common, "--overwrite")
    assert run(*common, "--layer", "conv9").code == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert run(*common, "--layer", "conv1").code == 0  # a single picture
    assert {path.name for path in tmp_path.glob("[!.]*") if path.is_file()} == {"dream.png", "dream.safetensors"}
    assert run(*common, "--layer", "conv1", "--frames", 2).code == 0
    assert len(list(tmp_path.glob("frame-*"))) == 2


def test_dream_with_a_guide_or_a_style_goes_on_with_the_same_one_only(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    write_png(tmp_path / "other.png", torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1)))
    made = []
    for kind in (("--guide", tmp_path / "other.png"), ("--style", tmp_path / "other.png", "--layer", "conv1")):
        out = tmp_path / kind[0]
        common = ("dream", photo, "--layer", "conv2", "--octaves", 1, "--out", out, *tiny)
        assert run(*common, *kind, "--frames", 2).code == 0
        assert run(*common, *kind, "--frames", 3).code == 0
        other = run(*common, kind[0], photo, *kind[2:], "--frames", 3)
        assert other.code == 2
        assert f"holds a dream with another {kind[0].strip('-')}" in other.complaint
        made.append(read_image(out / "dream.png"))
    assert not torch.equal(*made)


def test_a_style_through_a_generator(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    done = run("dream", photo, "--through", "tiny", "--style", photo, "--layer", "conv1", "--out", tmp_path, *tiny)
    assert done.code == 0, done.err


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
    assert torch.equal(strip[:, :16, -16:], read_image(tmp_path / "dream.png"))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.is_file()}
    assert through(run, tiny, photo, tmp_path, "--frames", 3).json == done.json
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.is_file()} == times
    other = ("--frames", 3, "--strength", 0.7)
    assert "a dream with another strength" in through(run, tiny, photo, tmp_path, *other).complaint
    assert through(run, tiny, photo, tmp_path, "--strength", 0.7, "--overwrite").code == 0
    assert not (tmp_path / "dream.gif").exists(), "a film of the run that was replaced"


def test_strength_is_the_dial_through_a_generator(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    ways = []
    for strength in (0.05, 0.8):
        out = tmp_path / str(strength)
        assert through(run, tiny, photo, out, "--strength", strength, "--steps", 20, "--frames", 21).code == 0
        strip = read_image(out / "dream-strip.png")
        ways.append((strip[:, :16, -16:] - strip[:, :16, :16]).abs().mean().item())
    assert ways[1] > 3 * ways[0]


def test_an_interrupted_climb_is_playable(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(dreaming, "dream_through", whole)
    monkeypatch.setattr(encoding, "encode", lambda *_, **__: pytest.fail("the photograph's code was there"))
    assert through(run, tiny, photo, tmp_path / "out", "--frames", 5).code == 0
    with Image.open(tmp_path / "out" / "dream.gif") as film:
        assert getattr(film, "n_frames", 1) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "conv2", "--target", "bee"), "either a layer or a target"),
        (("--layer", "conv1", "--layer", "conv2"), "only --style takes several layers"),
        (("--layer", "conv9"), "conv2"),
        (("--layer", "conv2", "--film", "avi", "--frames", "2"), ".gif, .webp, .mp4"),
        (("--layer", "conv2", "--octaves", "0"), "octaves must be at least 1"),
        (("--layer", "conv2", "--frames", "2", "--fps", "0"), "fps must lie in"),
        (("--layer", "conv2", "--frames", "2", "--rotate", "nan"), "rotate must be a number of degrees"),
        (("--layer", "conv2", "--zoom", "1.1"), "--zoom has no effect with a single frame"),
        (("--layer", "conv2", "--film", "mp4"), "--film has no effect with a single frame"),
        (("--layer", "conv2", "--steps", "0"), "steps must be a whole number from 1"),
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
