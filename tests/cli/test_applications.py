"""`invert`, `evolve`, `dataset`, and what `synth` makes on request."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runner import Run
from PIL import Image

from gen_prior.applications import encode
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.util.image_io import read_image
from gen_prior.util.progress import Progress


def test_invert_writes_a_sheet_and_reports_the_errors(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    layers = ("--layer", "conv2", "--layer", "conv1")
    done = run("invert", photo, *layers, "-g", "tiny", "--json", "--out", tmp_path / "out", *tiny)
    assert done.code == 0, done.err
    assert list(done.json["feature_error"]["tiny"]) == ["conv1", "conv2"]
    assert (tmp_path / "out" / "inversion.png").is_file()


def test_invert_heeds_the_distance(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    made = {}
    for distance in ("l2", "cosine"):
        out = tmp_path / distance
        done = run(
            "invert", photo, "--layer", "conv2", "-g", "tiny", "--distance", distance, "--out", out, "--json", *tiny
        )
        assert done.json["settings"]["distance"] == distance
        made[distance] = read_image(out / "tiny-conv2.png")
    assert not torch.equal(made["l2"], made["cosine"])
    refused = run("invert", photo, "--layer", "conv2", "-g", "tiny", "--distance", "l1", "--out", tmp_path, *tiny)
    assert refused.code == 2
    assert "l2, cosine" in refused.complaint


def test_invert_takes_a_style(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    command = ("invert", photo, "--layer", "logits", "-g", "tiny", "--out", tmp_path, "--json", *tiny)
    done = run(*command, "--style", "conv1", "--style", "conv2", "--style-weight", 2)
    assert done.code == 0, done.err
    assert done.json["settings"]["style_layers"] == ["conv1", "conv2"]
    assert done.json["settings"]["style_weight"] == 2
    assert done.json["style_error"]["tiny"]["logits"] > 0
    for wrong, words in ((("--style-weight", 2), "--style-weight needs --style"), (("--style", "conv9"), "conv2")):
        refused = run(*command, *wrong)
        assert refused.code == 2
        assert words in refused.complaint


def test_evolve_goes_on_where_it_was(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
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
    assert "has method cma, not genetic" in other.complaint


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (("cup",), "holds a search for bee of tiny, not for cup of tiny"),
        (("bee", "--classifier", "tiny-judge"), "holds a search for bee of tiny, not for bee of tiny-judge"),
        (("bee", "--seed", 1), "has seed 0, not 1"),
        (("--ask",), "holds a search for bee of tiny, not for externally supplied scores"),
    ],
)
def test_evolve_never_gives_one_search_for_another(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, other: Any, words: str
) -> None:
    common = ("-g", "tiny", "--device", "cpu", "--out", tmp_path, "--evaluations", 10)
    assert run("evolve", "bee", "--classifier", "tiny", *common).code == 0
    before = (tmp_path / "evolution.npz").read_bytes()
    done = run("evolve", *(() if "--classifier" in other else ("--classifier", "tiny")), *other, *common)
    assert done.code == 2
    assert words in done.complaint
    assert "--out" in done.complaint
    assert (tmp_path / "evolution.npz").read_bytes() == before


def test_an_interrupted_evolution_shows_its_best_and_goes_on(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen_prior.cli.shared.progress import ProgressBar

    whole = ProgressBar.show

    def stop(bar: ProgressBar, progress: Progress) -> None:
        if progress.done == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "show", stop)
    common = ("evolve", "bee", "-g", "tiny", "--classifier", "tiny", "--device", "cpu", "--out", tmp_path, "--json")
    done = run(*common, "--evaluations", 50)
    assert done.code == 130
    assert "1 finished image in" in done.complaint
    assert (tmp_path / "best.png").is_file()
    monkeypatch.setattr(ProgressBar, "show", whole)
    assert run(*common, "--evaluations", 50).json["evaluations"] == 50


def test_told_scores_are_not_mixed_with_a_target(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    common = ("-g", "tiny", "--device", "cpu", "--out", tmp_path)
    assert run("evolve", *common, "--ask").code == 0
    done = run("evolve", "bee", "--classifier", "tiny", *common)
    assert done.code == 2
    assert "holds a search for externally supplied scores, not for bee of tiny" in done.complaint


def test_scores_from_an_experiment_are_asked_and_told(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    common = ("evolve", "-g", "tiny", "--device", "cpu", "--population", 4, "--out", tmp_path)
    asked = run(*common, "--ask")
    assert asked.code == 0, asked.err
    assert "4 images wait" in asked.out
    assert len(list((tmp_path / "gen-0000").glob("*.png"))) == 4
    (tmp_path / "scores.txt").write_text("1\n7.5\n2\n3\n")
    told = run(*common, "--tell", tmp_path / "scores.txt", "--json")
    assert (told.json["best"], told.json["evaluations"]) == (7.5, 4)
    again = run(*common, "--tell", tmp_path / "scores.txt")
    assert again.code == 2
    assert "no generation waits" in again.complaint
    assert run(*common).code == 2


def test_several_units_evolve_each_in_its_folder(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    common = ("-g", "tiny", "--classifier", "tiny", "--device", "cpu", "--evaluations", 20)
    done = run("evolve", "bee", "cup+ant", *common, "--out", tmp_path / "all", "--json")
    assert done.code == 0, done.err
    assert [one["target"] for one in done.json["searches"]] == ["bee", "cup + ant"]
    alone = run("evolve", "bee", *common, "--out", tmp_path / "bee")
    assert alone.code == 0, alone.err
    for name in ("best.png", "responses.csv", "codes.safetensors"):
        assert (tmp_path / "all" / "bee" / name).read_bytes() == (tmp_path / "bee" / name).read_bytes()
    assert (tmp_path / "all" / "cup-plus-ant" / "evolution.npz").is_file()
    lines = (tmp_path / "bee" / "responses.csv").read_text().splitlines()
    assert lines[0] == "generation,kind,search,code,neuron,score"
    assert lines[1].startswith("0,evolved,bee,0,bee,")
    assert len(lines) == 1 + 20


def test_evolve_finds_the_code_of_an_image_once_for_all_units(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    calls: list[object] = []
    monkeypatch.setattr(ProgressBar, "show", lambda self, progress: seen.append(progress))
    whole = encode.encode

    def counted(*given: Any, **options: Any) -> torch.Tensor:
        calls.append(given)
        return whole(*given, **options)

    monkeypatch.setattr(encode, "encode", counted)
    network = ("-g", "tiny", "--classifier", "tiny", "--device", "cpu")
    done = run("evolve", "bee", "ant", *network, "--start", photo, "--evaluations", 4, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert len(calls) == 1
    fitting = [progress for progress in seen if progress.label == "the photograph's code"]
    assert fitting
    assert all(progress.activations is None for progress in fitting), "an error is no activation"


def test_evolve_starts_at_an_image(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    common = ("evolve", "bee", "-g", "tiny", "--classifier", "tiny", "--device", "cpu", "--out", tmp_path / "out")
    assert run(*common, "--start", photo, "--evaluations", 10).code == 0
    again = run(*common, "--start", photo, "--evaluations", 30, "--json")
    assert again.json["evaluations"] == 30
    assert run(*common, "--evaluations", 40, "--json").json["evaluations"] == 40
    copy = tmp_path / "other.png"
    Image.new("RGB", (20, 20)).save(copy)
    other = run(*common, "--start", copy)
    assert other.code == 2
    assert "has another start" in other.complaint


def test_an_experiment_with_neurons_references_and_missing_scores(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    common = ("evolve", "-g", "tiny", "--device", "cpu", "--out", tmp_path / "cell")
    asked = run(*common, "A1", "B2", "--ask", "--population", 4, "--reference", photo.parent)
    assert asked.code == 0, asked.err
    assert "8 images wait for scores in" in asked.out
    table = tmp_path / "cell" / "gen-0000" / "scores.csv"
    lines = table.read_text().splitlines()
    assert lines[0] == "image,A1,B2"
    assert lines[-1] == "gen-0000/reference-photo.png,,"
    filled = [lines[0].replace(",", ";"), *(f"{line.split(',')[0]};{row},5;" for row, line in enumerate(lines[1:]))]
    table.write_text("\n".join(filled))
    refused = run(*common, "--tell", table)
    assert refused.code == 2
    assert f"0 of 4 images of B2 have a score in {table}" in refused.complaint
    table.write_text("\n".join(line + "1" * (row > 2) for row, line in enumerate(filled)))
    told = run(*common, "--tell", table)
    assert told.code == 0, told.err
    assert "1 image has no score: they count as the median of their generation" in " ".join(told.err.split())
    assert "A1: best 6.5 after 4 evaluations" in told.out
    assert (tmp_path / "cell" / "B2" / "best.png").is_file()
    assert (tmp_path / "cell" / "codes.safetensors").is_file()
    assert (
        "holds an experiment (experiment.json)" in run("evolve", "bee", *common[1:], "--classifier", "tiny").complaint
    )
    assert "--reference has no effect" in run("evolve", "bee", "--reference", photo.parent, *common[1:]).complaint


@pytest.mark.parametrize("begun", [True, False])
def test_references_that_are_not_there(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, begun: bool) -> None:
    common = ("evolve", "-g", "tiny", "--device", "cpu", "--out", tmp_path / "cell", "--ask", "--population", 4)
    assert not begun or run(*common).code == 0
    done = run(*common, "--reference", tmp_path / "none")
    assert done.code == 1
    assert f"no such folder of reference images: {tmp_path / 'none'}. Fix: --reference DIR" in done.complaint


def test_scores_without_an_experiment(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("image,score\ngen-0000/image-00.png,1\n")
    done = run("evolve", "-g", "tiny", "--tell", tmp_path / "scores.csv", "--out", tmp_path / "sesion")
    assert done.code == 2
    assert f"there is no experiment in {tmp_path / 'sesion'}" in done.complaint
    assert not (tmp_path / "sesion").exists()


def test_dataset_makes_labelled_images(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run(
        "dataset", "tiny", "--per-class", 2, "--classes", "bee", "--classes", "cup", "-g", "tiny", "--judge",
        "tiny-judge", "--device", "cpu", "--steps", 3, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json == {"out": str(tmp_path), "made": 4, "kept": 4}
    with tarfile.open(tmp_path / "shards" / "shard-000000.tar") as shard:
        assert len(shard.getnames()) == 12


def test_dataset_wants_another_judge(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("dataset", "tiny", "--per-class", 1, "-g", "tiny", "--judge", "tiny", "--out", tmp_path / "out")
    assert done.code == 2
    assert "the judge must be another classifier than tiny" in done.complaint
    assert not (tmp_path / "out").exists()


def test_dataset_needs_a_judge_to_filter(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run(
        "dataset", "tiny", "--per-class", 1, "-g", "tiny", "--filter", "top1", "--device", "cpu", "--out", tmp_path
    )
    assert done.code == 2
    assert "needs a judge" in done.complaint


def test_synth_makes_films_transparency_fields_and_natural_images(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(
        "synth", "conv2:3", "-g", "tiny", "--seeds", 2, "--out", out, *tiny, "--record", "every=2", "--transparent",
        "--crop-to-receptive-field", "--in-place", "--images", photo.parent,
    )  # fmt: skip
    assert done.code == 0, done.err
    with Image.open(out / "conv2-3-8-8-seed1.gif") as film:
        assert getattr(film, "n_frames", 1) == 3  # steps 1 and 3, and the final image
    assert read_image(out / "conv2-3-8-8-seed1-strip.png").shape == (3, 16 + 16, 3 * 16 + 2 * 2)  # with a line of steps
    with Image.open(out / "conv2-3-8-8-seed0-rgba.png") as picture:
        assert picture.mode == "RGBA"
    assert read_image(out / "conv2-3-8-8-seed0-field.png").shape[1:] == (5, 5)  # in pixels of the classifier's input
    assert read_image(out / "conv2-3-8-8-seed1-in-place.png").shape[1:] == (32, 32)
    assert (out / "exemplars.png").is_file()
    (row,) = json.loads((out / "exemplars.json").read_text())
    assert row["target"] == "conv2:3@8,8"
    assert {each["file"] for each in row["photographs"]} == {path.name for path in photo.parent.iterdir()}
    assert json.loads((out / "result.json").read_text())["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--record", "often"), "every=N"),
        (("--record", "every=0"), "at least 1 step"),
        (("--record", "every=2", "--film", "avi"), ".gif, .webp, .mp4"),
        (("--film", "webp"), "--film needs --record"),
        (("--faithfulness",), "--faithfulness needs photographs"),
        (("--images", "nowhere"), "no such folder of images: nowhere"),
        (("--images", "unreadable"), "none of the 1 image files under unreadable"),
    ],
)
def test_synth_refuses_before_it_synthesises(
    run: type[Run],
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable" / "a.png").write_bytes(b"no image")
    done = run("synth", "bee", "-g", "tiny", "--out", tmp_path / "out", *tiny, *arguments)
    assert done.code == (1 if "--images" in arguments else 2)
    assert words in done.complaint
    assert not (tmp_path / "out").exists()


def test_an_unreadable_image_is_noted_once_for_all_targets(
    run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path
) -> None:
    (photo.parent / "broken.png").write_bytes(b"no image")
    images = ("--images", photo.parent)
    done = run("synth", "bee", "cup", "-g", "tiny", "--out", tmp_path / "out", *tiny, *images)
    assert done.code == 0, done.err
    assert done.err.count("broken.png") == 1


def test_films_of_an_interrupted_synthesis_are_playable(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gen_prior.cli.shared.progress import ProgressBar

    whole = ProgressBar.show

    def stop(bar: ProgressBar, progress: Progress) -> None:
        whole(bar, progress)
        if (progress.done, progress.total) == (4 + 3, 8):  # the third step of the second image
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "show", stop)
    out = tmp_path / "out"
    one_by_one = ("--seeds", 2, "--batch", 1, "--record", "every=1", "--film", "webp", "--rate", 1)
    done = run("synth", "bee", "-g", "tiny", "--out", out, *tiny, *one_by_one)
    assert done.code == 130
    assert "stopped; 1 finished image in" in done.complaint
    for name, frames in (("bee-seed0", 5), ("bee-seed1", 2)):
        with Image.open(out / f"{name}.webp") as film:
            assert getattr(film, "n_frames", 1) == frames
