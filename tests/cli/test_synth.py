"""`synth` and `replay`: what they write, print and return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runner import Run
from safetensors.torch import load_file, save_file

from gen_prior import generators
from gen_prior.generators import Generator
from gen_prior.optimise.contact_sheet import contact_sheet
from gen_prior.optimise.load_result import load_result
from gen_prior.util.image_io import from_pil, read_image


def synth(run: type[Run], tiny: tuple[str, ...], out: Path, *more: str) -> Run:
    return run("synth", "bee", "conv2:3", "--generator", "tiny", "--seeds", "2", "--out", out, *tiny, *more)


def test_writes_every_image_and_says_where(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = synth(run, tiny, tmp_path / "out")
    assert done.code == 0, done.err
    assert "4 images in" in done.out
    assert "bee: activation" in done.out
    assert len(list((tmp_path / "out").glob("*-seed?.png"))) == 4
    assert load_result(tmp_path / "out").evaluations == 4


def test_of_several_images_there_is_a_contact_sheet(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    synth(run, tiny, tmp_path / "four")
    sheet = read_image(tmp_path / "four" / "contact-sheet.png")
    assert torch.equal(sheet, from_pil(contact_sheet(load_result(tmp_path / "four"))))
    run("synth", "bee", "-g", "tiny", "--seeds", "1", "--out", tmp_path / "one", *tiny)
    assert len(list((tmp_path / "one").glob("*.png"))) == 1


def test_html_leaves_a_page_that_another_run_takes_away(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    synth(run, tiny, tmp_path, "--html")
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert all(path.name in page for path in tmp_path.glob("*-seed?.png"))
    done = run("synth", "ant", "--generator", "tiny", "--seeds", "1", "--out", tmp_path, *tiny, "--overwrite")
    assert done.code == 0, done.err
    assert not (tmp_path / "gallery.html").exists()


def test_json_is_all_there_is_on_stdout(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = synth(run, tiny, tmp_path, "--json")
    assert done.code == 0
    assert done.json["out"] == str(tmp_path)
    assert [item["seed"] for item in done.json["items"]] == [0, 1, 0, 1]
    assert done.json["items"][0]["activation"] == pytest.approx(load_result(tmp_path).activations[0, 0].item())


def test_quiet_says_nothing(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = synth(run, tiny, tmp_path, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_progress_goes_to_stderr(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = synth(run, tiny, tmp_path, "--json")
    assert "step 4/4" in done.err
    assert "activation" in done.err


def test_named_seeds_and_settings_reach_the_library(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run(
        *("synth", "bee", "--generator", "pixel-raw", "--set", "image_size=16", "--seed", "7", "--seed", "5"),
        *("--rate", "0.25", "--candidates", "3", "--batch", "1", "--out", tmp_path, *tiny),
    )
    assert done.code == 0, done.err
    saved = load_result(tmp_path)
    assert saved.seeds == [7, 5]
    assert saved.images.shape == (1, 2, 3, 16, 16)
    assert (saved.recipe.rate, saved.recipe.candidates) == (0.25, 3)
    assert saved.settings["batches"] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("synth", "bea", "--generator", "tiny"), "bee"),
        (("synth", "conv3:1", "--generator", "tiny"), "conv2"),
        (("synth", "conv2:12", "--generator", "tiny"), "units 0 to 11"),
        (("synth", "bee", "--generator", "tinny"), "tiny"),
        (("synth", "bee", "--generator", "tiny", "--preset", "dgnam2015"), "dgnam2016"),
        (("synth", "bee", "--generator", "tiny", "--set", "image_size"), "NAME=VALUE"),
        (("synth", "bee", "--generator", "pixel", "--set", "imagesize=32"), "imagesize"),
        (("synth", "bee", "--generator", "tiny", "--seed", "-1"), "a seed must be a whole number from 0"),
        (("synth", "bee", "--generator", "tiny", "--seeds", "0"), "from 1 to"),
        (("synth", "bee", "--generator", "tiny", "--rate", "-1"), "rate must be"),
        (("synth", "bee", "--generator", "tiny", "--candidates", "0"), "candidates must be"),
        (("synth", "bee", "--generator", "tiny", "--precision", "fp8"), "bf16"),
        (("synth", "bee", "--generator", "tiny", "--batch", "0"), "at least 1"),
    ],
)
def test_usage_errors_are_one_line_and_write_nothing(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out"
    done = run(*arguments, "--out", out, *tiny)
    assert done.code == 2
    assert words in done.complaint
    assert done.out == ""
    assert list(out.rglob("*.png")) == []


def test_evaluations_are_counted_as_compare_does(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    common = ("bee", "--seeds", 1, *tiny[:-2])
    done = run("synth", *common, "-g", "tiny", "--candidates", 4, "--evaluations", 16, "--out", tmp_path / "a")
    assert done.code == 0, done.err
    recipe = load_result(tmp_path / "a").recipe
    assert (recipe.candidates, recipe.steps, recipe.evaluations) == (4, 12, 16)
    both = run("synth", *common, "-g", "tiny", "--steps", 4, "--evaluations", 16, "--out", tmp_path / "b")
    assert (both.code, (tmp_path / "b").exists()) == (2, False)
    assert "steps follow from evaluations" in both.complaint
    assert "from 1 to" in run("synth", *common, "-g", "tiny", "--evaluations", 0, "--out", tmp_path / "b").complaint
    methods = ("-m", "tiny", "--judge", "none", "--evaluations", 16, "--out", tmp_path / "c")
    assert run("compare", *common, *methods).code == 0
    ours = run("synth", *common, "-g", "tiny", "--evaluations", 16, "--out", tmp_path / "d")
    assert ours.code == 0
    assert load_result(tmp_path / "d").recipe == load_result(tmp_path / "c" / "tiny").recipe


@pytest.mark.parametrize("words", [("--seed", 2, "--seeds", 4), ("--seeds", 4, "--seed", 2)])
@pytest.mark.parametrize("command", ["synth", "compare", "atlas"])
def test_seeds_are_named_or_counted(run: type[Run], command: str, words: tuple[object, ...]) -> None:
    refused = run(command, "bee", *words)
    assert refused.code == 2
    assert "got both" in refused.complaint


@pytest.mark.parametrize("words", [("--seeds", "2"), ("--seeds=2",), ("-q",)])
def test_options_after_the_dashes_are_refused(run: type[Run], words: tuple[str, ...]) -> None:
    refused = run("synth", "--", "-goldfish", *words)
    assert refused.code == 2
    assert f"{words[0]} stands after --" in refused.complaint
    assert "before --" in refused.complaint


@pytest.mark.parametrize("words", [("synth",), ("evolve",), (), ("train-prior",), ("train-prior", "stage", "flow")])
def test_help_shows_no_type_of_flags(run: type[Run], words: tuple[str, ...]) -> None:
    shown = run(*words, "--help").out
    assert "--help" in shown
    assert "bool" not in shown.lower()


@pytest.mark.parametrize("device", ["cuda:63", "tpu", "cuda:x"])
def test_a_device_that_is_not_there(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, device: str) -> None:
    done = run("synth", "bee", "--generator", "tiny", "--out", tmp_path, *tiny, "--device", device)
    assert done.code == 1
    assert device in done.complaint
    assert "cpu" in done.complaint


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\xff" * 64, b"version https://git-lfs.github.com"]
)
def test_damaged_weights(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, content: Any) -> None:
    (tmp_path / "generator.safetensors").write_bytes(content)
    done = run("synth", "bee", "--generator", f"local-dir:{tmp_path}", "--out", tmp_path / "out", *tiny)
    assert done.code == 1
    assert "generator.safetensors" in done.complaint
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    blocked = tmp_path / "taken"
    blocked.write_text("mine")
    done = synth(run, tiny, blocked)
    assert done.code == 1
    assert "--out" in done.complaint
    assert blocked.read_text() == "mine"


def test_replay_is_identical(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    synth(run, tiny, tmp_path)
    done = run("replay", tmp_path)
    assert done.code == 0, done.err
    assert "4 images, identical to the bit" in done.out
    assert run("replay", tmp_path, "--json").json[0]["identical"] is True
    assert run("replay", tmp_path, "--device", "cpu", "-q").code == 0


def test_replay_reports_what_differs(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synth(run, tiny, tmp_path)
    from gen_prior import classifiers

    other = classifiers.NAMED["tiny-judge"]
    monkeypatch.setitem(classifiers.NAMED, "tiny", lambda name: other("tiny-judge"))
    done = run("replay", tmp_path, "--json")
    assert done.code == 1
    assert done.json[0]["identical"] is False
    assert done.json[0]["largest_difference"] > 0
    assert "differs" in done.complaint


def test_replay_of_a_comparison_is_that_of_its_methods(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    methods = ("-m", "tiny", "-m", "pixel-raw", "--judge", "none", "--seeds", "1")
    assert run("compare", "bee", *methods, "--out", tmp_path, *tiny).code == 0
    reports = run("replay", tmp_path, "--json").json
    assert [report["folder"] for report in reports] == [str(tmp_path / "tiny"), str(tmp_path / "pixel-raw")]
    assert all(report["identical"] for report in reports)


def test_replay_of_a_damaged_or_missing_result(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert run("replay", tmp_path / "nowhere").code == 1
    synth(run, tiny, tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])
    done = run("replay", tmp_path)
    assert done.code == 1
    assert "damaged" in done.complaint


def test_replay_of_bytes_that_were_changed(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    synth(run, tiny, tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    tensors = load_file(path)
    tensors["image"] = torch.zeros_like(tensors["image"])
    save_file(tensors, path)
    assert run("replay", tmp_path).code == 1


def test_record_is_json_without_nan(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    synth(run, tiny, tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize(("preset", "generator"), [("lucid2017", "fourier"), ("maco2023", "maco")])
def test_a_pixel_space_preset_brings_its_generator(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, preset: str, generator: str
) -> None:
    done = run("synth", "bee", "--preset", preset, "--seeds", "1", "--out", tmp_path, *tiny)
    assert done.code == 0, done.err
    described = load_result(tmp_path).settings["generator"]
    assert described["name"] == generator


def test_a_preset_for_codes_keeps_the_embedded_prior(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("synth", "bee", "--preset", "dgnam2016", "--seeds", "1", "--out", tmp_path, *tiny)
    assert done.code == 0, done.err
    assert load_result(tmp_path).settings["generator"]["name"] == "dgn-lite0"
    assert "dgnam2016 was published for deepsim-fc6" in done.err


def test_a_preset_that_is_refused_is_not_announced(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("synth", "bee", "--preset", "lucid2017", "-g", "tiny", "--out", tmp_path / "out", *tiny)
    assert done.code == 2
    assert "image parameterisations" in done.complaint
    assert "here it is followed" not in done.err


def test_a_preset_loads_its_own_generator_with_its_options(
    run: type[Run], tiny: tuple[str, ...], tiny_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(name: str, **given: Any) -> Generator:
        asked.append((name, given))
        return tiny_generator

    monkeypatch.setitem(generators.NAMED, "biggan-deep-128", load)
    command = ("synth", "bee", "--preset", "biggan-am", "-g", "biggan-deep-128", "--seeds", "1", "--out", tmp_path)
    assert run(*command, *tiny).code == 0
    assert run(*command, "--set", "optimise=class", *tiny).code == 0
    assert [given["optimise"] for _, given in asked] == ["both", "class"]


def test_expressions_of_targets(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("synth", "-g", "tiny", "--out", tmp_path, *tiny, "--", "-bee", "conv2:1-2@mean", "ant+0.5*cup")
    assert done.code == 0, done.err
    result = load_result(tmp_path)
    assert result.slugs == ["minus-bee", "conv2-1-mean", "conv2-2-mean", "ant-plus-0.5-cup"]
    assert "-bee: activation" in done.out
    assert "  cup: activation" in done.out
    for words in (("-bee",), ("-gtiny", "bee"), ("-conv2:1", "bee")):
        refused = run("synth", *words, "--out", tmp_path, *tiny)
        assert refused.code == 2
        assert f'as in "gen-prior synth -- {words[0]}"' in refused.complaint
