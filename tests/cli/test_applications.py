"""`dream`, `invert`, `evolve`, `dataset`, and what `synth` makes on request."""

from __future__ import annotations

import json
import tarfile

import pytest
import torch
from PIL import Image

from gen_prior.files import read_image, write_png


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_png(path, torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)))
    return path


def test_dream_writes_the_picture(run, tiny, photo, tmp_path):
    done = run("dream", photo, "--layer", "conv2", "--octaves", 1, "--out", tmp_path / "out", *tiny)
    assert done.code == 0, done.err
    assert str(tmp_path / "out" / "dream.png") in done.out
    assert read_image(tmp_path / "out" / "dream.png").shape == (3, 40, 50)
    assert not torch.equal(read_image(tmp_path / "out" / "dream.png"), read_image(photo))


def test_dream_films_the_feedback_loop(run, tiny, photo, tmp_path):
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
    assert done.json["files"] == [str(tmp_path / "dream.png"), str(tmp_path / "dream.webp")]
    assert [path.name for path in sorted(tmp_path.glob("frame-*"))] == [f"frame-000{n}.png" for n in range(3)]
    with Image.open(tmp_path / "dream.webp") as film:
        assert film.n_frames == 3


def test_a_film_that_was_interrupted_is_playable(run, tiny, photo, tmp_path, monkeypatch):
    from gen_prior import dreaming

    whole = dreaming.dream_frames

    def two_frames(*arguments, **options):
        for number, frame in enumerate(whole(*arguments, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(dreaming, "dream_frames", two_frames)
    done = run("dream", photo, "--layer", "conv2", "--octaves", 1, "--frames", 9, "--out", tmp_path / "out", *tiny)
    assert done.code == 130
    assert "stopped; 3 finished images" in done.complaint
    with Image.open(tmp_path / "out" / "dream.gif") as film:
        assert film.n_frames == 2


def test_dream_through_a_generator(run, tiny, photo, tmp_path):
    done = run(
        "dream", photo, "--through", "tiny", "--target", "bee", "--frames", 2, "--json", "--out", tmp_path, *tiny
    )
    assert done.code == 0, done.err
    assert [path.rpartition("/")[2] for path in done.json["files"]] == ["dream.png", "dream-sheet.png", "dream.gif"]
    assert read_image(tmp_path / "dream.png").shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "conv2", "--target", "bee"), "either a layer or a target"),
        (("--layer", "conv9"), "conv2"),
        (("--layer", "conv2", "--film", "avi", "--frames", "2"), ".gif, .webp, .mp4"),
        (("--layer", "conv2", "--octaves", "0"), "octaves must be at least 1"),
    ],
)
def test_dream_refuses_in_one_line(run, tiny, photo, tmp_path, arguments, words):
    done = run("dream", photo, "--out", tmp_path / "out", *tiny, *arguments)
    assert done.code == 2
    assert words in done.complaint
    assert not list(tmp_path.glob("out/*"))


def test_dream_of_what_is_no_image(run, tiny, tmp_path):
    done = run("dream", tmp_path / "missing.png", "--layer", "conv2", *tiny)
    assert done.code == 1
    assert "no such image" in done.complaint


def test_invert_writes_a_sheet_and_reports_the_errors(run, tiny, photo, tmp_path):
    layers = ("--layer", "conv2", "--layer", "conv1")
    done = run("invert", photo, *layers, "-g", "tiny", "--json", "--out", tmp_path / "out", *tiny)
    assert done.code == 0, done.err
    assert list(done.json["feature_error"]["tiny"]) == ["conv1", "conv2"]
    assert (tmp_path / "out" / "inversion.png").is_file()


def test_evolve_goes_on_where_it_was(run, tiny, tmp_path):
    arguments = ("evolve", "bee", "-g", "tiny", "--classifier", "tiny", "--device", "cpu", "--out", tmp_path, "--json")
    first = run(*arguments, "--evaluations", 20)
    assert first.code == 0, first.err
    assert first.json["evaluations"] == 20
    second = run(*arguments, "--evaluations", 40)
    assert second.json["evaluations"] == 40
    assert second.json["best"] >= first.json["best"]
    assert read_image(tmp_path / "best.png").shape == (3, 16, 16)
    other = run(*arguments, "--method", "genetic")
    assert other.code == 2
    assert "was begun with method cma" in other.complaint


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (("cup",), "holds a search by bee of tiny, not by cup of tiny"),
        (("bee", "--classifier", "tiny-judge"), "holds a search by bee of tiny, not by bee of tiny-judge"),
        (("bee", "--seed", 1), "was begun with seed 0, not 1"),
        (("--ask",), "holds a search by bee of tiny, not by scores that are told"),
    ],
)
def test_evolve_never_gives_one_search_for_another(run, tiny, tmp_path, other, words):
    common = ("-g", "tiny", "--device", "cpu", "--out", tmp_path, "--evaluations", 10)
    assert run("evolve", "bee", "--classifier", "tiny", *common).code == 0
    before = (tmp_path / "evolution.npz").read_bytes()
    done = run("evolve", *(() if "--classifier" in other else ("--classifier", "tiny")), *other, *common)
    assert done.code == 2
    assert words in done.complaint
    assert "--out" in done.complaint
    assert (tmp_path / "evolution.npz").read_bytes() == before


def test_told_scores_are_not_mixed_with_a_target(run, tiny, tmp_path):
    common = ("-g", "tiny", "--device", "cpu", "--out", tmp_path)
    assert run("evolve", *common, "--ask").code == 0
    done = run("evolve", "bee", "--classifier", "tiny", *common)
    assert done.code == 2
    assert "holds a search by scores that are told, not by bee of tiny" in done.complaint


def test_scores_from_an_experiment_are_asked_and_told(run, tiny, tmp_path):
    common = ("evolve", "-g", "tiny", "--device", "cpu", "--population", 4, "--out", tmp_path)
    asked = run(*common, "--ask")
    assert asked.code == 0, asked.err
    assert "4 images wait" in asked.out
    assert len(list((tmp_path / "waiting").glob("*.png"))) == 4
    (tmp_path / "scores.txt").write_text("1\n7.5\n2\n3\n")
    told = run(*common, "--tell", tmp_path / "scores.txt", "--json")
    assert (told.json["best"], told.json["evaluations"]) == (7.5, 4)
    again = run(*common, "--tell", tmp_path / "scores.txt")
    assert again.code == 2
    assert "no generation waits" in again.complaint
    assert run(*common).code == 2


def test_dataset_makes_labelled_images(run, tiny, tmp_path):
    done = run(
        "dataset", "tiny", "--per-class", 2, "--classes", "bee", "--classes", "cup", "-g", "tiny", "--judge",
        "tiny-judge", "--device", "cpu", "--steps", 3, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json == {"out": str(tmp_path), "made": 4, "kept": 4}
    with tarfile.open(tmp_path / "shards" / "shard-000000.tar") as shard:
        assert len(shard.getnames()) == 12


def test_dataset_needs_a_judge_to_filter(run, tiny, tmp_path):
    done = run(
        "dataset", "tiny", "--per-class", 1, "-g", "tiny", "--filter", "top1", "--device", "cpu", "--out", tmp_path
    )
    assert done.code == 2
    assert "needs a judge" in done.complaint


def test_synth_makes_films_transparency_fields_and_natural_images(run, tiny, photo, tmp_path):
    out = tmp_path / "out"
    done = run(
        "synth", "conv2:3", "-g", "tiny", "--seeds", 2, "--out", out, *tiny, "--record", "every=2", "--transparent",
        "--crop-to-receptive-field", "--images", photo.parent,
    )  # fmt: skip
    assert done.code == 0, done.err
    with Image.open(out / "conv2-3-8-8-seed1.gif") as film:
        assert film.n_frames == 2
    with Image.open(out / "conv2-3-8-8-seed0-rgba.png") as picture:
        assert picture.mode == "RGBA"
    assert max(read_image(out / "conv2-3-8-8-seed0-field.png").shape[1:]) <= 4
    assert (out / "conv2-3-8-8-exemplars.png").is_file()
    assert json.loads((out / "result.json").read_text())["seeds"] == [0, 1]


def test_synth_refuses_a_strange_record(run, tiny, tmp_path):
    done = run("synth", "bee", "-g", "tiny", "--out", tmp_path, *tiny, "--record", "often")
    assert done.code == 2
    assert "every=N" in done.complaint
