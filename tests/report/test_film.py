"""Frames: recorded, written whole in three formats, playable after an interruption."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from torch import Tensor

from gen_prior.classifiers import Classifier
from gen_prior.errors import MissingExtraError, OptionError, OutputError
from gen_prior.generators import Generator
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.film import FrameFolder, Recorder, strip, write_animation
from gen_prior.util.image_io import read_image
from gen_prior.util.mosaic import LINE
from gen_prior.util.progress import Progress


@pytest.fixture
def frames() -> list[Tensor]:
    """Five frames that get brighter, of odd sides."""
    return [torch.full((3, 31, 45), level / 5) for level in range(5)]


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animations_hold_every_frame_in_order(tmp_path: Path, frames: list[Tensor], kind: str) -> None:
    path = write_animation(tmp_path / f"film.{kind}", frames, fps=10)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 5
        levels = []
        for number in range(5):
            film.seek(number)
            levels.append(film.convert("RGB").getchannel(0).getpixel((20, 15)))
    assert levels == pytest.approx([0, 51, 102, 153, 204], abs=4)


def test_mp4_holds_every_frame(tmp_path: Path, frames: list[Tensor]) -> None:
    path = write_animation(tmp_path / "film.mp4", frames, fps=10)
    command = [get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    width, height = 45 * 5 - 1, 31 * 5 - 1  # enlarged until a player shows them, sides even
    assert len(raw) == (4 + 10) * 3 * width * height  # the last frame is held for a second
    levels = [raw[3 * width * height * number + 3 * width * (height // 2)] for number in range(14)]
    assert levels == pytest.approx([0, 51, 102, 153, *[204] * 10], abs=6)


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize(("hold", "last"), [(1.0, 1000), (0.0, 100)])
def test_the_last_frame_is_held(tmp_path: Path, frames: list[Tensor], kind: str, hold: float, last: int) -> None:
    path = write_animation(tmp_path / f"film.{kind}", frames, fps=10, hold=hold)
    durations = []
    with Image.open(path) as film:
        for number in range(5):
            film.seek(number)
            film.load()
            durations.append(film.info["duration"])
    assert durations == [100, 100, 100, 100, last]


def test_mp4_without_the_extra_says_how_to_get_it(
    tmp_path: Path, frames: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"gen-prior\[video\]"):
        write_animation(tmp_path / "film.mp4", frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["film.avi", "film"])
def test_other_formats_are_refused(tmp_path: Path, frames: list[Tensor], name: str) -> None:
    with pytest.raises(OptionError, match=r"\.gif, \.webp, \.mp4"):
        write_animation(tmp_path / name, frames)


def test_no_frames_and_no_speed_are_refused(tmp_path: Path, frames: list[Tensor]) -> None:
    with pytest.raises(OptionError, match="at least one frame"):
        write_animation(tmp_path / "film.gif", [])
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="fps"):
            write_animation(tmp_path / "film.gif", frames, fps=fps)


def test_a_strip_is_evenly_spaced(frames: list[Tensor]) -> None:
    row = strip(frames, count=3, gap=2)
    assert row.shape == (3, 31, 3 * 45 + 2 * 2)
    assert [round(float(row[0, 0, x]), 2) for x in (0, 45, 47, 94)] == [0.0, 1.0, 0.4, 0.8]


def test_a_strip_says_the_step_of_each_frame() -> None:
    black = [torch.zeros(3, 20, 60) for _ in range(4)]
    row = strip(black, count=3, gap=2, labels=["step 0", "step 5", "w" * 40, "step 12"])
    assert row.shape == (3, 20 + LINE, 3 * 60 + 2 * 2)
    words = row[:, 20:]
    assert all((words[:, :, left : left + 60] < 0.5).any() for left in (0, 62, 124))
    assert (words[:, :, (60, 61, 122, 123)] == 1).all()
    assert torch.equal(words[:, :, 64:120], strip(black[:1] * 2, gap=2, labels=["", "w" * 40])[:, 20:, 64:120])


def test_a_folder_animates_what_is_finished_and_forgets_the_run_before(tmp_path: Path, frames: list[Tensor]) -> None:
    folder = FrameFolder(tmp_path)
    assert folder.animate("film") == []
    for number, frame in enumerate(frames[:3]):
        folder.write(number, frame)
    assert folder.animate("film") == [tmp_path / "film.gif", tmp_path / "film-strip.png"]
    with Image.open(tmp_path / "film.gif") as film:
        assert getattr(film, "n_frames", 1) == 3
    assert read_image(tmp_path / "film-strip.png").shape == (3, 31 + LINE, 3 * 45 + 2 * 2)
    folder.clear()
    assert folder.paths() == []


def test_a_recorder_keeps_every_fifth_step_of_every_item_and_the_final_image(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    recorder = Recorder(5)
    result = synthesize(tiny_classifier, ["bee", "cup"], tiny_generator, seeds=2, steps=12, batch=3, record=recorder)
    assert {item: len(kept) for item, kept in recorder.frames.items()} == {0: 4, 1: 4, 2: 4, 3: 4}
    first = tiny_generator(tiny_generator.initial_code(1)[None])[0]
    assert (recorder.frames[3][0].float() / 255 - first).abs().max() < 0.003
    assert not torch.equal(recorder.frames[3][0], recorder.frames[3][2])
    for item, image in enumerate(result.images.flatten(0, 1)):
        assert (recorder.frames[item][-1].float() / 255 - image).abs().max() < 0.003
    names = ["bee-seed0", "bee-seed1", "cup-seed0", "cup-seed1"]
    written = recorder.save(tmp_path, names)
    assert [path.name for path in written] == [f"{name}.gif" for name in names]
    assert read_image(tmp_path / "cup-seed1-strip.png").shape == (3, 16 + LINE, 4 * 16 + 3 * 2)
    assert recorder.steps == {item: [0, 5, 10, 12] for item in range(4)}


def test_the_final_image_is_recorded_once(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    for steps, count in ((5, 2), (10, 3), (1, 2)):
        recorder = Recorder(5)
        result = synthesize(tiny_classifier, "bee", tiny_generator, steps=steps, record=recorder)
        frames = recorder.frames[0]
        assert len(frames) == count
        assert (frames[-1].float() / 255 - result.images[0, 0]).abs().max() < 0.003


def test_the_best_iterate_is_what_is_recorded_last(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    recorder = Recorder(1)
    result = synthesize(tiny_classifier, "bee", tiny_generator, steps=6, rate=3.0, keep="best", record=recorder)
    assert (recorder.frames[0][-1].float() / 255 - result.images[0, 0]).abs().max() < 0.003


def test_films_are_on_disk_as_soon_as_their_batch_is_done(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    there = []

    def look(progress: Progress) -> None:
        if progress.label.endswith("step 4/4"):
            there.append(sorted(path.name for path in tmp_path.glob("*.gif")))

    with Recorder(2, out=tmp_path, names=["a", "b", "c"]) as recorder:
        synthesize(tiny_classifier, "bee", tiny_generator, seeds=3, steps=4, batch=1, record=recorder, progress=look)
    assert there == [[], ["a.gif"], ["a.gif", "b.gif"]]
    assert len(list(tmp_path.glob("*.gif"))) == len(list(tmp_path.glob("*-strip.png"))) == 3


def test_frames_are_forgotten_once_they_are_written(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    names = ["a", "b", "c"]
    with Recorder(2, out=tmp_path / "kept", names=names) as kept:
        synthesize(tiny_classifier, "bee", tiny_generator, seeds=3, steps=4, batch=1, record=kept)
    most = []
    with Recorder(2, out=tmp_path / "forgotten", names=names, keep=False) as recorder:

        def record(first: int, step: int, images: Tensor) -> None:
            recorder(first, step, images)
            most.append(len(recorder.frames))

        synthesize(tiny_classifier, "bee", tiny_generator, seeds=3, steps=4, batch=1, record=record)
    assert max(most) == 1
    assert recorder.frames == {}
    assert len(kept.frames) == 3
    for path in (tmp_path / "kept").iterdir():
        assert path.read_bytes() == (tmp_path / "forgotten" / path.name).read_bytes()


def test_a_batch_that_is_tried_again_leaves_nothing_of_its_first_try() -> None:
    recorder = Recorder(1)
    frame = torch.zeros(4, 3, 4, 4)
    recorder(0, 1, frame)
    recorder(0, 2, frame)
    recorder(0, 1, frame[:2])
    assert {item: len(kept) for item, kept in recorder.frames.items()} == {0: 1, 1: 1}


def test_what_was_recorded_before_an_interruption_is_written(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Recorder(2, out=tmp_path) as recorder:
        synthesize(tiny_classifier, "bee", tiny_generator, steps=20, record=recorder, progress=stop)
    with Image.open(tmp_path / "trajectory-000.gif") as film:
        assert getattr(film, "n_frames", 1) == len(recorder.frames[0]) == 4  # steps 1, 3, 5 and the last one seen


def test_an_encoder_that_is_missing_or_silent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ffmpeg")

    def wait(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("ffmpeg", 1)

    for fault in (refuse, wait):
        monkeypatch.setattr(subprocess, "run", fault)
        with pytest.raises(OutputError, match="cannot be run"):
            write_animation(tmp_path / "x.mp4", [torch.zeros(3, 32, 32)] * 2)
        assert not [*tmp_path.iterdir()]
