"""The training commands: what their stages are called with, exit codes, and the message of Ctrl-C."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_runner import Run

from gen_prior.generators import load_generator
from gen_prior.hub.tensors import read_file_metadata
from gen_prior.training.fit import RunOptions
from gen_prior.training.stages import class_exemplars, decoder, fine_code, flow, larger_images, texture
from gen_prior.util.progress import Progress

REPORT = {"step": 1, "steps": 2, "images_per_second": 3.0, "pixel": 0.1, "kept": 0.9, "flow": 0.8}
Stub = Callable[[ModuleType, str], list[dict[str, Any]]]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """`stub(module, function)` puts a stage out of action; returns the arguments of its calls, by their real names."""

    def replace(module: ModuleType, function: str) -> list[dict[str, Any]]:
        signature = inspect.signature(getattr(module, function))
        calls: list[dict[str, Any]] = []

        def stage(*positional: Any, **named: Any) -> Path:
            arguments = signature.bind(*positional, **named).arguments
            options = arguments.pop("options", {})
            assert options.keys() <= RunOptions.__annotations__.keys()
            calls.append(arguments)
            if Path(arguments.get("images", "")).name == "interrupt":
                arguments["out"].mkdir()
                (arguments["out"] / "checkpoint-00000040.pt").touch()
                raise KeyboardInterrupt
            if "progress" in arguments:
                arguments.pop("progress")(Progress(1, 2, "reading photographs"))
            if "report" in options:
                options["report"](REPORT)
            return Path(arguments["out"]) / "generator.safetensors"

        monkeypatch.setattr(module, function, stage)
        return calls

    return replace


@pytest.fixture
def trained(stub: Stub) -> list[dict[str, Any]]:
    """The arguments of `train_decoder`, which does nothing."""
    return stub(decoder, "train_decoder")


def test_flags_become_settings(
    run: type[Run], tiny: tuple[str, ...], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    flags = ("--size", "128", "--steps", "7", "--width", "0.5", "--batch", "4", "--resume")
    done = run("train-prior", "--classifier", "tiny", "--images", tmp_path, "--out", tmp_path / "out", *flags)
    assert done.code == 0
    (call,) = trained
    assert call["settings"] == decoder.DecoderSettings(size=128, steps=7, width=0.5, batch=4)
    assert call["resume"] is True
    assert call["classifier"].name == "tiny"
    assert f"local-dir:{tmp_path / 'out'}" in done.out


def test_defaults_are_the_librarys_and_json_is_alone(
    run: type[Run], tiny: tuple[str, ...], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    done = run("train-prior", "--classifier", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--json")
    assert trained[0]["settings"] == decoder.DecoderSettings()
    assert json.loads(done.out)["generator"] == f"local-dir:{tmp_path / 'out'}"


def test_ctrl_c_says_what_is_kept(
    run: type[Run], tiny: tuple[str, ...], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    done = run("train-prior", "-c", "tiny", "--images", tmp_path / "interrupt", "--out", tmp_path / "out", "-q")
    assert done.code == 130
    assert "checkpoint-00000040.pt" in done.complaint
    assert "--resume" in done.complaint


def test_bad_data_is_one_line_before_the_work(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run("train-prior", "-c", "tiny", "--images", tmp_path / "nowhere", "--out", tmp_path / "out", "-q")
    assert done.code == 1
    assert "no such folder of images" in done.complaint
    wrong = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--size", "100", "-q")
    assert wrong.code == 2
    assert "64, 128, 256" in wrong.complaint


@pytest.mark.parametrize(
    ("command", "stage", "settings"),
    [
        ("refine-prior", (larger_images, "train_larger_images"), larger_images.RefinerSettings),
        ("detail-prior", (fine_code, "train_fine_code"), fine_code.FineCodeSettings),
        ("flow-prior", (flow, "train_flow"), flow.FlowSettings),
    ],
)
def test_later_stages_get_what_the_command_was_given(
    run: type[Run],
    tiny: tuple[str, ...],
    stub: Stub,
    tmp_path: Path,
    command: str,
    stage: tuple[Any, ...],
    settings: Any,
) -> None:
    calls = stub(*stage)
    where = ("-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out")
    done = run(command, tmp_path / "prior", *where, "--steps", "9", "--batch", "16", "--set", "ema=0.5", "--resume")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert run(command, tmp_path / "prior", *where, "--json").json["generator"] == f"local-dir:{tmp_path / 'out'}"
    assert [call["settings"] for call in calls] == [settings(steps=9, batch=16, ema=0.5), settings()]
    assert [call["resume"] for call in calls] == [True, False]
    for call in calls:
        assert (call["classifier"].name, call["prior"], call["images"]) == ("tiny", tmp_path / "prior", tmp_path)


def test_refine_prior_trains_as_its_flags_say(run: type[Run], written_by_0_1: Path, tmp_path: Path) -> None:
    prior, out = written_by_0_1 / "training" / "calmed", tmp_path / "out"
    where = (
        "-c",
        f"local-dir:{written_by_0_1 / 'classifier'}",
        "--images",
        written_by_0_1 / "photographs",
        "--out",
        out,
    )
    flags = ("--batch", "3", "--set", "crops=2", "--set", "refiner=4", "--set", "critic_width=4", "--device", "cpu")
    done = run("refine-prior", prior, *where, "--steps", "1", *flags)
    assert done.code == 0
    assert f"local-dir:{out}" in done.out
    again = run("refine-prior", prior, *where, "--steps", "2", *flags, "--resume", "--json")
    assert load_generator(again.json["generator"], device="cpu").image_shape() == (128, 128)
    record = json.loads(read_file_metadata(out / "generator.safetensors")["refining"])
    assert (record["steps_done"], record["batch"], record["crops"], record["refiner"]) == (2, 3, 2, 4)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_layout_prior_passes_its_number(run: type[Run], tiny: tuple[str, ...], stub: Stub, tmp_path: Path) -> None:
    calls = stub(class_exemplars, "add_class_exemplars")
    where = ("-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out")
    done = run("layout-prior", tmp_path / "prior", *where, "--layouts", "3")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert run("layout-prior", tmp_path / "prior", *where, "--json").code == 0
    assert [call["settings"] for call in calls] == [class_exemplars.ExemplarSettings(layouts=n) for n in (3, 8)]
    assert (calls[0]["classifier"].name, calls[0]["prior"]) == ("tiny", tmp_path / "prior")


def test_calm_prior_passes_its_settings(run: type[Run], stub: Stub, tmp_path: Path) -> None:
    calls = stub(texture, "suppress_texture")
    flags = ("--steps", "9", "--set", "radius=1.3", "--device", "cpu", "--resume", "--out", tmp_path / "out")
    done = run("calm-prior", tmp_path / "prior", *flags)
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    settings = texture.TextureSettings(steps=9, radius=1.3)
    expected = {"prior": tmp_path / "prior", "out": tmp_path / "out", "settings": settings}
    assert calls == [{**expected, "device": "cpu", "resume": True}]


@pytest.mark.parametrize("command", ["refine-prior", "detail-prior", "flow-prior", "layout-prior", "calm-prior"])
def test_later_stages_need_a_prior(run: type[Run], tiny: tuple[str, ...], tmp_path: Path, command: str) -> None:
    data = () if command == "calm-prior" else ("-c", "tiny", "-i", tmp_path)
    more = ("--set", "features=5") if command == "flow-prior" else ()
    done = run(command, tmp_path / "none", *data, *more, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert "generator.safetensors" in done.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "flags", "complaint"),
    [
        ("flow-prior", (), "features must lie in 1 to 12, got 192"),
        ("flow-prior", ("--set", "sampling_stops=5"), "sampling_steps"),
        ("layout-prior", ("--layouts", "0"), "layouts must lie in 1 to 256, got 0"),
    ],
)
def test_settings_that_do_not_fit(
    run: type[Run], tiny: tuple[str, ...], tmp_path: Path, command: str, flags: Any, complaint: str
) -> None:
    done = run(command, tmp_path / "none", "-c", "tiny", "-i", tmp_path, "-o", tmp_path / "out", "-q", *flags)
    assert done.code == 2
    assert complaint in done.complaint
    assert not (tmp_path / "out").exists()


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
    trained: list[dict[str, Any]],
    tmp_path: Path,
    assignment: str,
    setting: str,
    value: str | float | tuple[float, ...],
) -> None:
    done = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--set", assignment)
    assert done.code == 0
    assert getattr(trained[0]["settings"], setting) == value


def test_settings_have_their_names_of_version_0_1_too(
    run: type[Run], tiny: tuple[str, ...], trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    where = ("--images", tmp_path, "--out", tmp_path / "out")
    with pytest.warns(DeprecationWarning, match="rehearsal_weight is called on_policy_weight"):
        assert run("train-prior", "-c", "tiny", *where, "--set", "rehearsal_weight=0.5").code == 0
    assert trained[0]["settings"].on_policy_weight == 0.5


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("adversarial_wait=0.2", "adversarial_weight"),
        ("shift=1.5", "shift a value like"),
        ("shift=true", "shift a value like"),
        ("sampled_scale=[1]", "sampled_scale a value like"),
        ("rate", "NAME=VALUE"),
        ("rate=fast", "NAME=VALUE"),
    ],
)
def test_set_refuses_what_does_not_fit(
    run: type[Run],
    tiny: tuple[str, ...],
    trained: list[dict[str, Any]],
    tmp_path: Path,
    assignment: str,
    complaint: str,
) -> None:
    done = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--set", assignment)
    assert done.code == 2
    assert complaint in done.complaint
    assert trained == []
