"""`compare`: the folder it leaves, and what it refuses."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest
from command_runner import Run
from PIL import Image

from gen_prior.applications.compare import load_comparison


def compare(run: type[Run], tiny: tuple[str, ...], out: Path, *more: str) -> Run:
    return run(
        "compare", "bee", "--method", "tiny", "--judge", "tiny-judge", "--seeds", "2", "--out", out, *tiny, *more
    )


def test_leaves_sheet_images_numbers_and_codes(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = compare(run, tiny, tmp_path / "out")
    assert done.code == 0, done.err
    assert "judge top-1 right" in done.out
    assert "photographs" in done.out
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("[!.]*") if path.is_file()}
    assert files == {
        "comparison.json",
        "contact-sheet.png",
        "numbers.csv",
        "numbers.parquet",
        "tiny/contact-sheet.png",
        "tiny/numbers.csv",
        "tiny/numbers.parquet",
        "tiny/result.json",
        *(f"tiny/bee-seed{seed}.{kind}" for seed in (0, 1) for kind in ("png", "safetensors")),
    }
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 500
    assert load_comparison(tmp_path / "out").record["evaluations"] == 4


def test_json_is_what_the_file_says(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = compare(run, tiny, tmp_path, "--json")
    record = done.json
    assert record.pop("out") == str(tmp_path)
    assert record == json.loads((tmp_path / "comparison.json").read_text())


def test_no_judge(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("compare", "bee", "-m", "tiny", "--judge", "none", "--seeds", "1", "--out", tmp_path, *tiny, "--json")
    assert done.code == 0, done.err
    assert done.json["judge"] is None
    assert done.json["methods"][0]["items"][0]["judge_top1"] is None


def test_a_hidden_unit_is_said_not_to_be_judged(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    methods = ("-m", "tiny", "--judge", "tiny-judge", "--seeds", "1")
    done = run("compare", "conv2:3", *methods, "--out", tmp_path, *tiny)
    assert done.code == 0, done.err
    assert "conv2:3@8,8: not judged (not a class" in done.err
    many = run("compare", "conv2:0-11", *methods, "--out", tmp_path / "many", *tiny, "--steps", "1")
    assert many.err.count("not judged") == 1
    assert "conv2:0@8,8, conv2:1@8,8, conv2:2@8,8 and 9 more: not judged (not a class" in many.err
    assert "not judged" not in run("compare", "bee", *methods, "--out", tmp_path / "b", *tiny).err


def test_a_full_disk_spares_the_earlier_comparison(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert compare(run, tiny, tmp_path).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        options = ("-m", "tiny", "--judge", "none", "--seeds", "1", "--overwrite", "--out", tmp_path)
        done = run("compare", "cup", *options, *tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert done.code == 1
    assert "cannot write" in done.complaint
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_preset_on_another_generator_is_noted(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = compare(run, tiny, tmp_path, "--method", "tiny+dgnam2016")
    assert done.code == 0, done.err
    assert done.err.count("dgnam2016 was published for deepsim-fc6; here it is followed with tiny") == 1
    assert "published for" not in compare(run, tiny, tmp_path, "--method", "tiny+dgnam2016", "-q").err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--method", "tinny"), "tiny"),
        (("--method", "preset:nothing"), "unknown preset"),
        (("--judge", "tiny"), "another classifier"),
        (("--judge", "efficientnet-lite9"), "efficientnet-lite"),
        (("--steps", "0"), "at least 1"),
    ],
)
def test_usage_errors(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    done = compare(run, tiny, tmp_path / "out", *more)
    assert done.code == 2
    assert words in done.complaint
    assert not (tmp_path / "out").exists()


def test_a_report_of_a_finished_comparison_computes_nothing(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("cup", "ant", "--method", "pixel-raw", "--judge", "tiny-judge")
    assert compare(run, tiny, tmp_path, *more).code == 0
    images = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    record = (tmp_path / "comparison.json").read_text()
    monkeypatch.setattr("gen_prior.optimise.engine.Engine.optimise", None)
    done = compare(run, tiny, tmp_path, *more, "--report")
    assert done.code == 0, done.err
    assert "report, figure, sheet" in done.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == images
    assert (tmp_path / "comparison.json").read_text() == record
    assert "| activation (logit) | tiny minus pixel-raw | 3 |" in (tmp_path / "report.md").read_text()
    assert {"report.tex", "figure.pdf", "figure.png"} < {path.name for path in tmp_path.iterdir()}


def test_a_report_without_matplotlib_is_refused_before_the_work(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gen_prior.report.comparison_figure.find_spec", lambda name: None)
    done = compare(run, tiny, tmp_path / "out", "--report")
    assert done.code == 1
    assert "gen-prior[figures]" in done.complaint
    assert not (tmp_path / "out").exists()


def test_films_show_the_methods_side_by_side(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    more = ("cup", "--method", "pixel-raw", "--judge", "none", "--steps", "50")
    assert compare(run, tiny, tmp_path, *more).code == 0
    before = load_comparison(tmp_path).record
    done = compare(run, tiny, tmp_path, *more, "--film", "gif")
    assert done.code == 0, done.err
    assert "films, sheet" in done.out
    assert sorted(path.name for path in tmp_path.glob("film-*")) == ["film-bee.gif", "film-cup.gif"]
    for method, again in zip(before["methods"], load_comparison(tmp_path).record["methods"], strict=True):
        assert again["items"] == method["items"]  # made again, to the bit
        assert len(list((tmp_path / method["folder"]).glob("*-seed?.webp"))) == 4
    films = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.webp")}
    assert compare(run, tiny, tmp_path, *more, "--film", "webp").code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.webp")} == films  # nothing is made again
    with Image.open(tmp_path / "film-bee.gif") as film:
        assert film.width > 2 * 192
        assert film.height > 2 * 192
        assert getattr(film, "n_frames", 1) == 26  # steps 0, 2, ..., 48 and the result, 50
        film.seek(25)
        assert film.info["duration"] == 1000
        last = film.convert("RGB")
    left = last.width - 2 * (192 + 6)
    with Image.open(tmp_path / "pixel-raw" / "bee-seed0.png") as result:
        wanted = result.convert("RGB").resize((192, 192), Image.Resampling.BICUBIC)
    shown = last.crop((left + 198, 22, left + 198 + 192, 22 + 192))
    difference = [abs(a - b) for a, b in zip(shown.tobytes(), wanted.tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 20  # GIF has 256 colours
    compare(run, tiny, tmp_path, "--overwrite")
    assert list(tmp_path.glob("film-*")) == []


@pytest.mark.parametrize(("kind", "words"), [("avi", ".gif, .webp, .mp4"), ("", ".gif, .webp, .mp4")])
def test_other_kinds_of_film_are_refused(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, kind: str, words: str
) -> None:
    done = compare(run, tiny, tmp_path / "out", "--film", kind)
    assert done.code == 2
    assert words in done.complaint
    assert not (tmp_path / "out").exists()
