"""train_fine_code on thirty steps: finer codes, twice the side, the same bits when resumed, early refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from training_runs import (
    add_class_exemplars,
    suppress_texture,
    train_decoder,
    train_fine_code,
    train_flow,
    train_larger_images,
)

import gen_prior as gp
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.stages.class_exemplars import ExemplarSettings
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.fine_code import FineCodeFit, FineCodeSettings, fit_fine_code
from gen_prior.training.stages.flow import FlowSettings
from gen_prior.training.stages.larger_images import RefinerSettings

SMALL = FineCodeSettings(
    steps=12,
    batch=4,
    crops=3,
    adversarial_from=4,
    held_out=6,
    details=12,
    detail_width=8,
    fit_steps=20,
    fit_batch=8,
    on_policy=0.5,
)


@pytest.fixture
def prior(small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path) -> Path:
    """The folder of a prior of 64 pixels, a flow before it."""
    train_decoder(small_classifier, photographs, tmp_path / "plain", settings, checkpoint_seconds=1e9)
    flow = FlowSettings(steps=5, batch=8, features=4, width=16, depth=2, held_out=4, view=64)
    train_flow(small_classifier, tmp_path / "plain", photographs, tmp_path / "prior", flow)
    return tmp_path / "prior"


def detail(classifier: gp.Classifier, prior: Path, images: Path, out: Path, **options: Any) -> Path:
    return train_fine_code(
        classifier, prior, images, out, SMALL, **{"log_every": 6, "checkpoint_seconds": 0.0, **options}
    )


def test_doubles_the_side(
    small_classifier: gp.Classifier,
    photographs: Path,
    prior: Path,
    tmp_path: Path,
) -> None:
    records: list[dict[str, Any]] = []
    done: list[gp.Progress] = []
    callbacks = {"report": records.append, "progress": done.append}
    file = detail(small_classifier, prior, photographs, tmp_path / "whole", **callbacks)
    assert [record["step"] for record in records] == [6, 12]
    assert [(step.done, step.total) for step in done if "fitting" in step.label] == [(10, 20), (20, 20)]
    encoded = [step for step in done if step.label == "encoding photographs"][-1]
    assert encoded.done == encoded.total > 0
    assert {"pixel", "feature", "weak", "fool", "climb", "critic"} <= set(records[-1])
    with Image.open(tmp_path / "whole" / "sheet.png") as sheet:
        assert sheet.height == 4 * 130 + 2

    generator = gp.load_generator(f"local-dir:{tmp_path / 'whole'}", device="cpu")
    plain = gp.load_generator(f"local-dir:{prior}", device="cpu")
    coarse = plain.code_shape[0]
    assert generator.image_shape() == (128, 128)
    assert generator.code_shape == (coarse + 12,)
    assert generator.recipe.edits == (
        ("norm_sphere", {"radius": 1.5, "units": (0, coarse)}),
        ("norm_sphere", {"radius": 1.0, "inside": True, "units": (coarse, coarse + 12)}),
    )
    same = [lambda code, context: code]  # with an edit of one's own the last code is returned, whatever it scores
    result = gp.synthesize(small_classifier, "logits:2", generator, steps=3, edits=same)
    assert result.images.isfinite().all()
    sizes = [part.square().mean().sqrt() for part in result.codes[0, 0].split([coarse, 12])]
    assert float(sizes[0]) < 1.501
    assert 0 < float(sizes[1]) < 4.01, "details are counted four times as large as their deviation"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["detailing"])["steps_done"] == 12
    assert json.loads(metadata["training"])["steps_done"] == 30
    assert json.loads(metadata["detailing_data"])["crops"] == 3

    theirs = load_file(file)
    before = load_file(prior / file.name)
    kept = {name for name in before if not name.startswith("decoder.")}
    assert all(torch.equal(before[name], theirs[name]) for name in kept), "the coarse code keeps its meaning"


def test_what_follows_is_fitted_and_the_rest_gets_its_directions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    coarse = torch.randn(1000, 4, 4, 4)
    rest = torch.randn(1000, 1).expand(1000, 64).reshape(1000, 1, 8, 8)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=2.0) + torch.cat(
        [0.6 * rest, torch.zeros(1000, 3, 8, 8)], 1
    )
    details = FineCode(4, 2, 16)
    settings = TrainingSettings(600, 64, 1e-3, cooldown=0.5, ema=0.99, precision="fp32")
    fit = FineCodeFit(details, coarse, fine, settings)
    fit.run(tmp_path, resume=False)
    details = fit.fitted(2)
    with torch.no_grad():
        missing = (details.expected(coarse) - torch.nn.functional.interpolate(coarse, scale_factor=2.0)).square().mean()
    assert missing < 0.3, "of 1, where nothing is known"
    basis = details.basis
    assert basis.shape == (256, 2)
    assert basis[:64, 0].abs().mean() == pytest.approx(0.6, rel=0.2), "what all places share"
    assert basis[64:, 0].abs().max() < 0.3


def test_a_fit_that_is_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit takes minutes before the first step of the stage: its checkpoints are its own."""
    source = torch.Generator().manual_seed(0)
    codes = torch.randn(30, 4, 4, 4, generator=source), torch.randn(30, 4, 8, 8, generator=source)
    monkeypatch.setattr("gen_prior.training.stages.fine_code._code_pairs", lambda *given: codes)
    clock = iter(range(0, 10**9, 1000))
    monkeypatch.setattr("gen_prior.training.trainer.time.monotonic", lambda: next(clock))  # each report is late enough

    def fit(out: Path, resume: bool, until: int = 99) -> tuple[FineCode, list[int]]:
        steps: list[int] = []

        def progress(done: gp.Progress) -> None:
            steps.append(done.done)
            if done.done == until:
                raise KeyboardInterrupt

        out.mkdir(exist_ok=True)
        torch.manual_seed(0)
        material = SimpleNamespace(out=out, resume=resume, progress=progress)
        stage: Any = SimpleNamespace(settings=replace(SMALL, fit_steps=30), material=material)
        return fit_fine_code(stage, FineCode(4, 12, 8), cast(Any, None), torch.arange(30)), steps

    whole, steps = fit(tmp_path / "whole", False)
    assert steps == [10, 20, 30]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", False, until=20)
    rest, steps = fit(tmp_path / "stopped", True)
    assert steps == [30]
    assert all(torch.equal(value, rest.state_dict()[key]) for key, value in whole.state_dict().items())


def test_a_detailed_prior_learns_on(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    quick = replace(SMALL, steps=2)
    first = train_fine_code(small_classifier, prior, photographs, tmp_path / "first", quick)
    others = replace(quick, details=7, detail_width=16)
    second = train_fine_code(small_classifier, first.parent, photographs, tmp_path / "second", others)
    before, after = load_file(first), load_file(second)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed), "its details stay, whatever was set"
    with safe_open(second, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["detailing_2"])["details"] == 12
    assert json.loads(metadata["detailing"])["steps_done"] == 2


def test_a_refiner_is_left_out_and_may_come_after(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    refining = RefinerSettings(steps=2, batch=4, refiner=8, crops=3, held_out=6)
    train_larger_images(small_classifier, prior, photographs, tmp_path / "refined", refining)
    quick = replace(SMALL, steps=2, coring=0.4, grain=0.1)
    file = train_fine_code(small_classifier, tmp_path / "refined", photographs, tmp_path / "out", quick)
    assert not any(name.startswith("refiner.") for name in load_file(file))
    generator = gp.load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu")
    assert generator.image_shape() == (256, 256), "grain doubles the side again"
    assert generator.module.coring.limit == 0.4  # type: ignore[union-attr]
    assert generator.module.grain.strength == 0.1  # type: ignore[union-attr]
    plain = train_fine_code(small_classifier, prior, photographs, tmp_path / "plain-out", replace(SMALL, steps=2))
    assert not torch.equal(load_file(file)["decoder.exit.bias"], load_file(plain)["decoder.exit.bias"])
    with pytest.raises(OptionError, match="has a fine code already"):
        suppress_texture(file.parent, tmp_path / "more")
    records: list[dict[str, Any]] = []
    options: dict[str, Any] = {"log_every": 1, "report": records.append}
    larger = train_larger_images(small_classifier, file.parent, photographs, tmp_path / "larger", refining, **options)
    assert "cored" in records[-1], "the refiner learns with its images as the export shows them"
    generator = gp.load_generator(f"local-dir:{tmp_path / 'larger'}", device="cpu")
    assert generator.image_shape() == (256, 256)
    before, after = load_file(file), load_file(larger)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("details."))
    assert before.keys() < after.keys()
    code = generator.initial_code(0)[None]
    detailed = gp.load_generator(f"local-dir:{tmp_path / 'out'}", device="cpu")
    assert (generator(code) - detailed(code)).abs().mean() < 0.1, "the same picture, a refiner in place of the grain"


def test_its_flow_is_learned_anew_and_gets_layouts(
    small_classifier: gp.Classifier,
    make_convolutional: Callable[..., nn.Module],
    photographs: Path,
    prior: Path,
    tmp_path: Path,
) -> None:
    named = gp.Classifier(make_convolutional(), input_size=64, labels=tuple("abcdef"), name="named")
    quick = replace(SMALL, steps=2, coring=0.4, grain=0.1)
    detailed = train_fine_code(small_classifier, prior, photographs, tmp_path / "out", quick)
    flow = FlowSettings(steps=5, batch=8, features=5, width=16, depth=2, held_out=4, view=64)
    anew = train_flow(named, detailed.parent, photographs, tmp_path / "anew", flow)
    layouts = ExemplarSettings(layouts=2, view=64)
    last = add_class_exemplars(named, anew.parent, photographs, tmp_path / "layouts", layouts)
    before, after = load_file(detailed), load_file(last)
    kept = [name for name in before if not name.startswith("flow.")]
    assert any(name.startswith("details.") for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    first, second = (gp.load_generator(f"local-dir:{file.parent}", device="cpu") for file in (detailed, last))
    assert second.code_shape == (first.code_shape[0] + 1,), "one feature more"
    assert second.image_shape() == (256, 256)
    assert second.module.coring.limit == 0.4  # type: ignore[union-attr]
    assert second.module.grain.strength == 0.1  # type: ignore[union-attr]
    assert second(second.initial_code(0)[None]).isfinite().all()


def test_refusals(small_classifier: gp.Classifier, photographs: Path, prior: Path) -> None:
    out = prior.parent / "out"
    with pytest.raises(WeightsError, match=r"no generator\.safetensors"):
        detail(small_classifier, prior / "nowhere", photographs, out)
    for wrong, message in (
        ({"coring": -1.0}, "coring must be"),
        ({"grain": float("nan")}, "grain must be"),
        ({"details": 257}, "details must lie in 1 to 256, got 257"),
        ({"fit_steps": 0}, "fit_steps"),
    ):
        with pytest.raises(OptionError, match=message):
            train_fine_code(small_classifier, prior, photographs, out, replace(SMALL, **wrong))
    assert not out.exists()
