"""`train-prior` and what goes on from it on the command line: glue, exit codes, and what Ctrl-C leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gen_prior.training.stages.class_exemplars as layout_command
import gen_prior.training.stages.decoder as command
import gen_prior.training.stages.fine_code as detail_command
import gen_prior.training.stages.flow as flow_command
import gen_prior.training.stages.larger_images as refine_command
import gen_prior.training.stages.texture as texture_command
from gen_prior.training.stages.class_exemplars import LayoutSettings
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.fine_code import FineCodeSettings
from gen_prior.training.stages.flow import FlowSettings
from gen_prior.training.stages.larger_images import RefinerSettings
from gen_prior.training.stages.texture import TextureSettings
from gen_prior.util.progress import Progress


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train_prior` was called with; it reports one record and returns a file."""
    calls: list[dict[str, Any]] = []

    def train(classifier: Any, images: Path, out: Path, settings: DecoderSettings, **options: Any) -> Path:
        calls.append({"classifier": classifier.name, "images": images, "out": out, "settings": settings, **options})
        if images.name == "interrupt":
            out.mkdir()
            (out / "checkpoint-00000040.pt").touch()
            raise KeyboardInterrupt
        options["progress"](Progress(1, 2, "reading photographs"))
        options["report"]({"step": 1, "steps": 2, "images_per_second": 3.0, "pixel": 0.1, "feature": 1.0})
        return out / "generator.safetensors"

    monkeypatch.setattr(command, "train_decoder", train)
    return calls


def test_flags_become_settings(run, tiny, trained, tmp_path):
    flags = ("--size", "128", "--steps", "7", "--width", "0.5", "--batch", "4", "--resume")
    done = run("train-prior", "--classifier", "tiny", "--images", tmp_path, "--out", tmp_path / "out", *flags)
    assert done.code == 0
    (call,) = trained
    assert call["settings"] == DecoderSettings(size=128, steps=7, width=0.5, batch=4)
    assert call["resume"] is True
    assert call["classifier"] == "tiny"
    assert f"local-dir:{tmp_path / 'out'}" in done.out


def test_defaults_are_the_librarys_and_json_is_alone(run, tiny, trained, tmp_path):
    done = run("train-prior", "--classifier", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--json")
    assert trained[0]["settings"] == DecoderSettings()
    assert json.loads(done.out)["generator"] == f"local-dir:{tmp_path / 'out'}"


def test_ctrl_c_says_what_is_kept(run, tiny, trained, tmp_path):
    done = run("train-prior", "-c", "tiny", "--images", tmp_path / "interrupt", "--out", tmp_path / "out", "-q")
    assert done.code == 130
    assert "checkpoint-00000040.pt" in done.complaint
    assert "--resume" in done.complaint


def test_bad_data_is_one_line_before_the_work(run, tiny, tmp_path):
    done = run("train-prior", "-c", "tiny", "--images", tmp_path / "nowhere", "--out", tmp_path / "out", "-q")
    assert done.code == 1
    assert "no such folder of images" in done.complaint
    wrong = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--size", "100", "-q")
    assert wrong.code == 2
    assert "64, 128, 256" in wrong.complaint


@pytest.fixture
def refined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `refine_prior` was called with; it returns a file."""
    calls: list[tuple[Any, ...]] = []

    def refine(
        classifier: Any, prior: Path, images: Path, out: Path, settings: RefinerSettings, *, resume: bool, **_: Any
    ) -> Path:
        calls.append((classifier.name, prior, images, settings, resume))
        return out / "generator.safetensors"

    monkeypatch.setattr(refine_command, "train_larger_images", refine)
    return calls


def test_refine_prior_passes_on_what_it_was_given(run, tiny, refined, tmp_path):
    where = ("--images", tmp_path, "--out", tmp_path / "out")
    done = run("refine-prior", tmp_path / "prior", "-c", "tiny", *where, "--steps", "9", "--set", "crops=3", "--resume")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert refined == [("tiny", tmp_path / "prior", tmp_path, RefinerSettings(steps=9, crops=3), True)]


def test_refine_prior_needs_a_prior(run, tiny, tmp_path):
    done = run("refine-prior", tmp_path / "none", "-c", "tiny", "-i", tmp_path, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert "train-prior" in done.complaint
    assert not (tmp_path / "out").exists()


def test_detail_prior_passes_on_what_it_was_given(run, tiny, monkeypatch, tmp_path):
    calls: list[tuple[Any, ...]] = []

    def detail(classifier, prior, images, out, settings, *, resume, **_):
        calls.append((classifier.name, prior, images, settings, resume))
        return out / "generator.safetensors"

    monkeypatch.setattr(detail_command, "train_fine_code", detail)
    where = ("--images", tmp_path, "--out", tmp_path / "out")
    done = run("detail-prior", tmp_path / "prior", "-c", "tiny", *where, "--batch", "9", "--set", "details=3")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert calls == [("tiny", tmp_path / "prior", tmp_path, FineCodeSettings(batch=9, details=3), False)]


def test_detail_prior_needs_a_prior(run, tiny, tmp_path):
    done = run("detail-prior", tmp_path / "none", "-c", "tiny", "-i", tmp_path, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert "train-prior" in done.complaint
    assert not (tmp_path / "out").exists()


@pytest.fixture
def flowed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `flow_prior` was called with; it reports one record and returns a file."""
    calls: list[tuple[Any, ...]] = []

    def flow(
        classifier: Any, prior: Path, images: Path, out: Path, settings: FlowSettings, *, resume: bool, **options: Any
    ) -> Path:
        calls.append((classifier.name, prior, images, settings, resume))
        options["progress"](Progress(1, 2, "reading photographs"))
        options["report"]({"step": 1, "steps": 2, "images_per_second": 3.0, "flow": 0.9, "held_out": 0.8})
        return out / "generator.safetensors"

    monkeypatch.setattr(flow_command, "train_flow", flow)
    return calls


def test_flow_prior_passes_on_what_it_was_given(run, tiny, flowed, tmp_path):
    where = ("--images", tmp_path, "--out", tmp_path / "out")
    flags = ("--steps", "9", "--batch", "16", "--set", "guidance=2", "--set", "features=5", "--resume")
    done = run("flow-prior", tmp_path / "prior", "-c", "tiny", *where, *flags)
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    settings = FlowSettings(steps=9, batch=16, guidance=2.0, features=5)
    assert flowed == [("tiny", tmp_path / "prior", tmp_path, settings, True)]
    plain = run("flow-prior", tmp_path / "prior", "-c", "tiny", *where, "--json")
    assert json.loads(plain.out)["generator"] == f"local-dir:{tmp_path / 'out'}"
    assert flowed[1][3:] == (FlowSettings(), False)


def test_flow_prior_needs_a_prior_and_settings_that_fit(run, tiny, tmp_path):
    asked = ("flow-prior", tmp_path / "none", "-c", "tiny", "-i", tmp_path, "-o", tmp_path / "out", "-q")
    done = run(*asked, "--set", "features=5")
    assert done.code == 1
    assert "train-prior" in done.complaint
    done = run(*asked)
    assert done.code == 2
    assert "features must lie in 1 to 12, got 192" in done.complaint
    done = run(*asked, "--set", "sampling_stops=5")
    assert done.code == 2
    assert "sampling_steps" in done.complaint
    assert not (tmp_path / "out").exists()


def test_layout_prior_passes_on_what_it_was_given(run, tiny, monkeypatch, tmp_path):
    calls: list[tuple[Any, ...]] = []

    def layout(classifier, prior, images, out, settings, *, progress):
        calls.append((classifier.name, prior, images, settings))
        progress(Progress(1, 2, "encoding photographs"))
        return out / "generator.safetensors"

    monkeypatch.setattr(layout_command, "add_class_exemplars", layout)
    where = ("--images", tmp_path, "--out", tmp_path / "out")
    done = run("layout-prior", tmp_path / "prior", "-c", "tiny", *where, "--layouts", "3")
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert run("layout-prior", tmp_path / "prior", "-c", "tiny", *where, "--json").code == 0
    assert calls == [("tiny", tmp_path / "prior", tmp_path, LayoutSettings(layouts=n)) for n in (3, 8)]


def test_layout_prior_needs_a_prior_and_a_number_that_fits(run, tiny, tmp_path):
    asked = ("layout-prior", tmp_path / "none", "-c", "tiny", "-i", tmp_path, "-o", tmp_path / "out", "-q")
    done = run(*asked)
    assert done.code == 1
    assert "train-prior" in done.complaint
    done = run(*asked, "--layouts", "0")
    assert done.code == 2
    assert "layouts must lie in 1 to 256, got 0" in done.complaint
    assert not (tmp_path / "out").exists()


def test_calm_prior_passes_on_what_it_was_given(run, monkeypatch, tmp_path):
    calls: list[tuple[Any, ...]] = []

    def calm(prior: Path, out: Path, settings: TextureSettings, *, device: str, resume: bool, report: Any) -> Path:
        calls.append((prior, settings, device, resume))
        report({"step": 1, "steps": 2, "images_per_second": 3.0, "kept": 0.1, "coarse": 0.2, "rough": 0.3})
        return out / "generator.safetensors"

    monkeypatch.setattr(texture_command, "suppress_texture", calm)
    flags = ("--steps", "9", "--set", "radius=1.3", "--device", "cpu", "--resume", "--out", tmp_path / "out")
    done = run("calm-prior", tmp_path / "prior", *flags)
    assert done.code == 0
    assert f"local-dir:{tmp_path / 'out'}" in done.out
    assert calls == [(tmp_path / "prior", TextureSettings(steps=9, radius=1.3), "cpu", True)]


def test_calm_prior_needs_a_prior(run, tmp_path):
    done = run("calm-prior", tmp_path / "none", "--out", tmp_path / "out", "-q")
    assert done.code == 1
    assert "generator.safetensors" in done.complaint
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
def test_set_reaches_any_setting(run, tiny, trained, tmp_path, assignment, setting, value):
    done = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--set", assignment)
    assert done.code == 0
    assert getattr(trained[0]["settings"], setting) == value


def test_settings_have_their_names_of_version_0_1_too(run, tiny, trained, tmp_path):
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
def test_set_refuses_what_does_not_fit(run, tiny, trained, tmp_path, assignment, complaint):
    done = run("train-prior", "-c", "tiny", "--images", tmp_path, "--out", tmp_path / "out", "--set", assignment)
    assert done.code == 2
    assert complaint in done.complaint
    assert trained == []
