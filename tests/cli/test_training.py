"""The training commands: what their stages are called with, old names, exit codes, and the message of Ctrl-C."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from command_runner import Run

import gen_prior.training.pipeline
import gen_prior.training.plan
import gen_prior.training.stage as stage
from gen_prior.generators import load_generator
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.plan import StagePlan, TrainingPlan
from gen_prior.training.stages import STAGES
from gen_prior.training.stages.class_exemplars import ExemplarSettings
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.texture import TextureSettings
from gen_prior.util.progress import Progress

REPORT = {"step": 1, "steps": 2, "seconds": 3.0, "images_per_second": 3.0, "pixel": 0.1, "kept": 0.9, "flow": 0.8}
OLD = {
    "refine-prior": "larger-images",
    "detail-prior": "fine-code",
    "flow-prior": "flow",
    "layout-prior": "class-exemplars",
    "calm-prior": "texture",
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of the calls of `run_stage`, which does nothing."""
    signature = inspect.signature(stage.run_stage)
    calls: list[dict[str, Any]] = []

    def run_stage(*positional: Any, **named: Any) -> Path:
        arguments = signature.bind(*positional, **named).arguments
        calls.append(arguments)
        out = arguments["out"]
        if arguments.get("images") and arguments["images"][0].name == "interrupt":
            out.mkdir()
            (out / "checkpoint-00000040.pt").touch()
            raise KeyboardInterrupt
        arguments.pop("progress")(Progress(1, 2, "reading photographs"))
        arguments.pop("options")["report"](REPORT)
        return Path(out) / "generator.safetensors"

    monkeypatch.setattr(stage, "run_stage", run_stage)
    return calls


def where(classifier: str, folder: Path) -> tuple[Any, ...]:
    """The options that every stage with photographs needs."""
    return ("-c", classifier, "--images", folder, "--out", folder / "out")


def test_flags_become_settings(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path
) -> None:
    flags = ("--size", "128", "--steps", "7", "--width", "0.5", "--batch", "4", "--resume")
    for command in (("train-prior",), ("train-prior", "stage", "decoder")):
        done = run(*command, *where("tiny", tmp_path), *flags)
        assert done.code == 0
        assert ("is deprecated" in done.err) == (len(command) == 1), "train-prior alone runs all stages since 0.2"
        call = ran.pop()
        assert call["settings"] == DecoderSettings(size=128, steps=7, width=0.5, batch=4)
        assert call["resume"] is True
        assert call["classifier"].name == "tiny"
        assert f"local-dir:{tmp_path / 'out'}" in done.out


def test_defaults_are_the_librarys_and_json_is_alone(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path
) -> None:
    done = run("train-prior", "stage", "decoder", *where("tiny", tmp_path), "--json")
    assert ran[0]["settings"] == DecoderSettings()
    assert json.loads(done.out)["generator"] == f"local-dir:{tmp_path / 'out'}"


def test_ctrl_c_says_what_is_kept(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path
) -> None:
    interrupted = ("-c", "tiny", "--images", tmp_path / "interrupt", "--out", tmp_path / "out", "-q")
    done = run("train-prior", "stage", "decoder", *interrupted)
    assert done.code == 130
    assert "checkpoint-00000040.pt" in done.complaint
    assert "--resume" in done.complaint


def test_bad_data_is_one_line_before_the_work(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    nowhere = ("-c", "tiny", "--images", tmp_path / "nowhere", "--out", tmp_path / "out", "-q")
    for command in (("train-prior",), ("train-prior", "stage", "decoder")):
        done = run(*command, *nowhere)
        assert done.code == 1
        assert "no such folder of images" in done.complaint
    wrong = run("train-prior", "stage", "decoder", *where("tiny", tmp_path), "--size", "100", "-q")
    assert wrong.code == 2
    assert "64, 128, 256" in wrong.complaint
    assert run("train-prior", "--out", tmp_path / "out", "-q").complaint.startswith("gen-prior: a recipe needs photo")


@pytest.mark.parametrize("name", ["larger-images", "fine-code", "flow"])
def test_later_stages_get_what_the_command_was_given(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path, name: str
) -> None:
    command = ("train-prior", "stage", name, tmp_path / "prior", *where("tiny", tmp_path))
    done = run(*command, "--steps", "9", "--batch", "16", "--set", "ema=0.5", "--resume")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert run(*command, "--json").json["generator"] == f"local-dir:{tmp_path / 'out'}"
    settings: Any = STAGES[name].Settings
    assert [call["settings"] for call in ran] == [settings(steps=9, batch=16, ema=0.5), settings()]
    assert [call["resume"] for call in ran] == [True, False]
    for call in ran:
        assert call["kind"] is STAGES[name]
        assert (call["classifier"].name, call["prior"], call["images"]) == ("tiny", tmp_path / "prior", [tmp_path])


@pytest.mark.parametrize(("old", "name"), OLD.items())
def test_old_names_work_and_say_the_new_one(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path, old: str, name: str
) -> None:
    given = ("--out", tmp_path / "out") if name == "texture" else where("tiny", tmp_path)
    done = run(old, tmp_path / "prior", *given)
    assert done.code == 0
    assert ran[0]["kind"] is STAGES[name]
    assert f"use gen-prior train-prior stage {name}" in done.err
    assert old not in run("--help").out


def test_a_stage_trains_as_its_flags_say(run: type[Run], written_by_0_1: Path, tmp_path: Path) -> None:
    prior, out = written_by_0_1 / "training" / "calmed", tmp_path / "out"
    given = ("-c", f"local-dir:{written_by_0_1 / 'classifier'}", "--images", written_by_0_1 / "photographs", "-o", out)
    flags = ("--batch", "3", "--set", "crops=2", "--set", "refiner=4", "--set", "critic_width=4", "--device", "cpu")
    done = run("train-prior", "stage", "larger-images", prior, *given, "--steps", "1", *flags)
    assert done.code == 0
    assert f"local-dir:{out}" in done.out
    again = run("train-prior", "stage", "larger-images", prior, *given, "--steps", "2", *flags, "--resume", "--json")
    assert load_generator(again.json["generator"], device="cpu").image_shape() == (128, 128)
    record = json.loads(read_file_metadata(out / "generator.safetensors")["refining"])
    assert (record["steps_done"], record["batch"], record["crops"], record["refiner"]) == (2, 3, 2, 4)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("fault", ["file", "below a file", "no folder", "log", "checkpoint"])
def test_an_out_that_cannot_be_written_is_one_line(
    run: type[Run], written_by_0_1: Path, tmp_path: Path, fault: str
) -> None:
    """Of a stage without photographs, which writes nothing before its log and its checkpoint."""
    (tmp_path / "file").write_text("mine")
    places = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "out", "no folder": Path("/proc/none/out")}
    out = places.get(fault, tmp_path / "out")
    if fault in ("log", "checkpoint"):
        (out / {"log": "log.jsonl", "checkpoint": "checkpoint-00000001.sha256"}[fault]).mkdir(parents=True)
    flags = ("--steps", "1", "--device", "cpu", "-q", "--out", out)
    done = run("train-prior", "stage", "texture", written_by_0_1 / "training" / "calmed", *flags)
    assert done.code == 1
    assert "cannot write" in done.complaint
    assert "Traceback" not in done.err
    assert (tmp_path / "file").read_text() == "mine"


def test_stages_of_other_settings(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path
) -> None:
    exemplars = ("train-prior", "stage", "class-exemplars", tmp_path / "prior", *where("tiny", tmp_path))
    assert run(*exemplars, "--layouts", "3").code == 0
    assert run(*exemplars, "--json").code == 0
    assert [call["settings"] for call in ran] == [ExemplarSettings(layouts=n) for n in (3, 8)]
    flags = ("--steps", "9", "--set", "radius=1.3", "--device", "cpu", "--resume", "--out", tmp_path / "out")
    assert run("train-prior", "stage", "texture", tmp_path / "prior", *flags).code == 0
    call = ran[-1]
    assert call["settings"] == TextureSettings(steps=9, radius=1.3)
    assert (call["classifier"], call["prior"], call["device"], call["resume"]) == (
        None,
        tmp_path / "prior",
        "cpu",
        True,
    )


@pytest.mark.parametrize("name", ["larger-images", "fine-code", "flow", "class-exemplars", "texture"])
def test_later_stages_need_a_prior(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, name: str) -> None:
    data = () if name == "texture" else ("-c", "tiny", "-i", tmp_path)
    more = ("--set", "features=5") if name == "flow" else ()
    done = run("train-prior", "stage", name, tmp_path / "none", *data, *more, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert "generator.safetensors" in done.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "flags", "complaint"),
    [
        ("flow", (), "features must lie in 1 to 12, got 192"),
        ("flow", ("--set", "sampling_stops=5"), "sampling_steps"),
        ("class-exemplars", ("--layouts", "0"), "layouts must lie in 1 to 256, got 0"),
    ],
)
def test_settings_that_do_not_fit(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, name: str, flags: Any, complaint: str
) -> None:
    done = run("train-prior", "stage", name, tmp_path / "none", *where("tiny", tmp_path), "-q", *flags)
    assert done.code == 2
    assert complaint in done.complaint
    assert not (tmp_path / "out").exists()


def test_one_command_plans_chooses_the_steps_and_trains(
    run: type[Run], tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []

    def train_all(recipe: Any, out: Path, classifier: Any, **named: Any) -> Path:
        calls.append((recipe, named))
        named["progress"](Progress(1, 2, "reading photographs"))
        return out / "generator.safetensors"

    def measured_plan(recipe: Any, classifier: Any, progress: Any) -> TrainingPlan:
        stages = [StagePlan(name, recipe.settings[name].steps, 0.5, 36.0, 0.0, 1.0, 2.0) for name in recipe.stages]
        return TrainingPlan(tuple(stages))

    monkeypatch.setattr(gen_prior.training.pipeline, "train_all", train_all)
    monkeypatch.setattr(gen_prior.training.plan, "measured_plan", measured_plan)
    recipe = tmp_path / "my.toml"
    recipe.write_text(f'classifier = "tiny"\nimages = ["{tmp_path}"]\nstages = ["decoder", "flow"]\n')
    planned = run("train-prior", "--recipe", recipe, "--plan", "--hours", "1", "--json")
    assert planned.json["hours"] == pytest.approx(1, rel=0.01)
    assert [stage["name"] for stage in planned.json["stages"]] == ["decoder", "flow"]
    assert not calls
    done = run("train-prior", "--recipe", recipe, "--out", tmp_path / "out", "--set", "flow.steps=100")
    assert done.code == 0
    assert "20000" in done.out, "the plan is shown first"
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    (chosen, _) = calls.pop()
    assert (chosen.classifier, chosen.settings["flow"].steps) == ("tiny", 100)
    shown = run("train-prior", "--recipe", recipe, "--print-recipe")
    assert "# Learning rate of Adam." in shown.out
    assert "\n[class-exemplars]\n" in shown.out
    assert run("train-prior", "--recipe", recipe, "-q").complaint.startswith("gen-prior: the result needs a folder")


@pytest.mark.parametrize(
    ("assignment", "setting", "value"),
    [
        ("adversarial_weight=0.2", "adversarial_weight", 0.2),
        ("rate=1", "rate", 1.0),
        ("shift=0", "shift", 0),
        ("sampled_scale=[0.5, 2]", "sampled_scale", (0.5, 2)),
        ("precision=bf16", "precision", "bf16"),
    ],
)
def test_set_reaches_any_setting(
    run: type[Run],
    tiny: tuple[str, ...],
    ran: list[dict[str, Any]],
    tmp_path: Path,
    assignment: str,
    setting: str,
    value: str | float | tuple[float, ...],
) -> None:
    done = run("train-prior", "stage", "decoder", *where("tiny", tmp_path), "--set", assignment)
    assert done.code == 0
    assert getattr(ran[0]["settings"], setting) == value


def test_settings_have_their_names_of_version_0_1_too(
    run: type[Run], tiny: tuple[str, ...], ran: list[dict[str, Any]], tmp_path: Path
) -> None:
    command = ("train-prior", "stage", "decoder", *where("tiny", tmp_path))
    with pytest.warns(DeprecationWarning, match="rehearsal_weight is called on_policy_weight"):
        assert run(*command, "--set", "rehearsal_weight=0.5").code == 0
    assert ran[0]["settings"].on_policy_weight == 0.5


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("adversarial_wait=0.2", "adversarial_weight"),
        ("shift=1.5", "shift takes a value like"),
        ("shift=true", "shift takes a value like"),
        ("sampled_scale=[1]", "sampled_scale takes a value like"),
        ("rate", "NAME=VALUE"),
        ("rate=fast", "rate takes a value like"),
    ],
)
def test_set_refuses_what_does_not_fit(
    run: type[Run],
    tiny: tuple[str, ...],
    ran: list[dict[str, Any]],
    tmp_path: Path,
    assignment: str,
    complaint: str,
) -> None:
    done = run("train-prior", "stage", "decoder", *where("tiny", tmp_path), "--set", assignment)
    assert done.code == 2
    assert complaint in done.complaint
    assert ran == []
