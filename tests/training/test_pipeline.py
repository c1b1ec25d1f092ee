"""One recipe trains every stage; killed at any moment it goes on to the same bits; the plan, the page, refusals."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

import gen_prior as gp
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.training.pipeline import train_all, with_steps
from gen_prior.training.plan import measured_plan, within
from gen_prior.training.recipe import TrainingRecipe, explanations, read_recipe, recipe_text, with_settings
from gen_prior.training.stages import STAGES

ROOT = Path(__file__).parents[2]
GAN = {"steps": 4, "batch": 4, "critic_width": 4, "adversarial_from": 2, "held_out": 4, "precision": "fp32"}
FIT = {"detail_width": 8, "fit_steps": 10, "fit_batch": 8}
TINY: dict[str, dict[str, Any]] = {
    "decoder": {**GAN, "width": 0.125, "code_channels": 4},
    "larger-images": {**GAN, "crops": 2, "refiner": 4, "on_policy": 0.5},
    "flow": {"steps": 6, "batch": 8, "features": 4, "width": 16, "depth": 2, "held_out": 4, "view": 64},
    "texture": {"steps": 4, "batch": 4, "directions": 3},
    "fine-code": {**GAN, **FIT, "crops": 2, "details": 12},
    "class-exemplars": {"layouts": 2},
}
TWO = {"details": 12, **FIT, "large_share": 0.5, "large_batch": 4, "crops_large": 2, "quiet_weight": 1.0}
FAST: dict[str, Any] = {"log_every": 2, "checkpoint_seconds": 0.0}


@pytest.fixture
def recipe(photographs: Path) -> TrainingRecipe:
    """A recipe of all stages, of a few steps each."""
    own = {"images": [str(photographs)], "judge": "", "measured": 1, "measured_steps": 1, "stages": list(TINY)}
    stages = {f"{stage}.{name}": value for stage, values in TINY.items() for name, value in values.items()}
    return with_settings(TrainingRecipe(), own | stages)


@pytest.fixture
def named(small_classifier: gp.Classifier) -> gp.Classifier:
    """Its classes have names, by which seeds find their exemplars."""
    return gp.Classifier(small_classifier.network, input_size=64, labels=tuple("abcdef"), name="named")


def killed(seconds: float, recipe: TrainingRecipe, out: Path, classifier: gp.Classifier) -> bool:
    """Run the training in another process and kill it after so many seconds; return whether it was still running."""
    child = os.fork()
    if not child:
        try:
            train_all(recipe, out, classifier, resume=True, **FAST)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def test_every_stage_is_trained_and_goes_on_to_the_same_bits_when_killed(
    recipe: TrainingRecipe, named: gp.Classifier, tmp_path: Path
) -> None:
    start = time.monotonic()
    file = train_all(recipe, tmp_path / "whole" / "prior", named, **FAST)
    took = time.monotonic() - start
    generator = gp.load_generator(f"local-dir:{file.parent}", device="cpu")
    assert generator.image_shape() == (256, 256), "128 pixels, and grain doubles the side"
    assert gp.synthesize(named, "b", generator, steps=2).images.isfinite().all()
    page = (file.parent / "index.html").read_text()
    for number, stage in enumerate(TINY, 1):
        assert f"<h2>{stage}</h2>" in page
        assert f"{number}-{stage}/classes.png" in page
    numbers = [entry["numbers"] for entry in json.loads((file.parent / "numbers.json").read_text())]
    assert all(entry["reconstruction"] > 0 and entry["hidden_reach"] is not None for entry in numbers)

    out, moments = tmp_path / "killed" / "prior", random.Random(0)
    kills = sum(killed(moments.uniform(0.1, 0.5) * took, recipe, out, named) for _ in range(3))
    assert kills
    again = train_all(replace(recipe, images=()), out, named, resume=True, **FAST)
    assert again.read_bytes() == file.read_bytes()
    assert (out / "networks.safetensors").read_bytes() == (file.parent / "networks.safetensors").read_bytes()
    assert (out / "numbers.json").read_bytes() == (file.parent / "numbers.json").read_bytes()

    # It is not overwritten, goes on with the same recipe only, and one process at a time writes there.
    with pytest.raises(OptionError, match="holds a training"):
        train_all(recipe, out, named)
    with pytest.raises(OptionError, match=r"measured = 1, not measured = 3"):
        train_all(replace(recipe, measured=3), out, named, resume=True)
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(OutputError, match="another process is writing"):
        train_all(recipe, out, named, resume=True)
    os.close(handle)


def test_two_trainings_make_what_the_chain_of_stages_makes(
    recipe: TrainingRecipe, named: gp.Classifier, tmp_path: Path
) -> None:
    values = {f"decoder.{name}": value for name, value in TWO.items()}
    two = with_settings(recipe, values | {"decoder.coring": 0.5, "decoder.grain": 0.15, "flow.layouts": 2})
    two = replace(two, stages=("decoder", "flow"))
    file = train_all(two, tmp_path / "prior", named, **FAST)
    generator = gp.load_generator(f"local-dir:{file.parent}", device="cpu")
    assert generator.image_shape() == (256, 256)
    tensors = load_file(file)
    assert tensors["details.basis"].shape == (4 * 64, 12)
    assert tensors["details.basis"].abs().max() > 0
    assert tensors["flow.layouts"].shape[:2] == (6, 2)
    assert not generator.initial_code(0, "b").equal(generator.initial_code(1, "b"))
    losses = [json.loads(line) for line in (tmp_path / "prior" / "1-decoder" / "log.jsonl").read_text().splitlines()]
    assert any({"weak", "expected"} <= line.keys() for line in losses)
    assert all({"quiet", "cored", "kl"} <= line.keys() for line in losses)


def test_the_plan_is_measured_and_a_budget_chooses_the_steps(recipe: TrainingRecipe, named: gp.Classifier) -> None:
    short = replace(recipe, stages=("decoder", "flow"))
    plan = measured_plan(short, named)
    assert [stage.name for stage in plan.stages] == ["decoder", "flow"]
    assert all(stage.seconds_per_step > 0 and stage.preparing > 0 and stage.disk > 0 for stage in plan.stages)
    assert plan.hours == pytest.approx(sum(stage.seconds for stage in plan.stages) / 3600)
    fixed = sum(stage.preparing for stage in plan.stages) / 3600
    longer, planned = within(fixed + 100 * (plan.hours - fixed), short, plan)
    assert longer.settings["decoder"].steps == pytest.approx(400, abs=2)
    assert longer.settings["decoder"].adversarial_from == pytest.approx(200, abs=2)  # type: ignore[attr-defined]
    assert planned.hours == pytest.approx(fixed + 100 * (plan.hours - fixed), rel=0.02)
    with pytest.raises(OptionError, match="hours are too few"):
        within(fixed / 2, short, plan)


def test_the_plan_knows_that_larger_photographs_are_read_whole(
    recipe: TrainingRecipe, named: gp.Classifier, tmp_path: Path
) -> None:
    """A few of the small photographs stand for all of them; the larger ones, fewer, are all read to measure."""
    for folder, count in (("few", 128), ("many", 320), ("large", 4)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / folder / f"{index}.png")
    two = {f"decoder.{name}": value for name, value in (TWO | {"crops_large": 30}).items()}

    def disk(folder: str) -> float:
        given = {"images": [str(tmp_path / folder)], "large": [str(tmp_path / "large")], "stages": ["decoder"]}
        return measured_plan(with_settings(recipe, given | two), named).stages[0].disk * 1e9

    assert disk("many") - disk("few") == pytest.approx((320 - 128) * 64**2 * 3, abs=1e5)


def test_a_recipe_is_toml_with_every_setting_explained(recipe: TrainingRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(recipe))
    assert read_recipe(path) == recipe
    path.write_text('images = ["photographs"]\n[flow]\nsteps = 7\n')
    read = read_recipe(path)
    assert (read.images, read.settings["flow"].steps) == (("photographs",), 7)
    assert read.settings["decoder"] == TrainingRecipe().settings["decoder"]
    kind: Any
    for kind in (TrainingRecipe, *(stage.Settings for stage in STAGES.values())):
        assert {name for name, text in explanations(kind).items() if text} >= set(kind.__dataclass_fields__)
    with pytest.raises(UnknownNameError, match="sampling_steps"):
        with_settings(recipe, {"flow.sampling_stops": 3})
    with pytest.raises(UnknownNameError, match="texture"):
        with_settings(recipe, {"textures.steps": 3})
    with pytest.raises(OptionError, match="steps takes a value like"):
        with_settings(recipe, {"flow.steps": "many"})
    read_recipe(ROOT / "weights" / "make" / "dgn_lite0.toml").check()
    path.write_text("images = [")
    with pytest.raises(OptionError, match="not a recipe that can be read"):
        read_recipe(path)


def test_recipes_that_cannot_be_run(recipe: TrainingRecipe, named: gp.Classifier, tmp_path: Path) -> None:
    for changes, match in (
        ({"images": ()}, "needs photographs"),
        ({"stages": ("flow",)}, "must begin with decoder"),
        ({"stages": ("decoder", "flow", "flow")}, "each occur once"),
        ({"images_sha256": "0" * 64}, "the names of the images have the SHA-256"),
    ):
        with pytest.raises(OptionError, match=match):
            train_all(replace(recipe, **changes), tmp_path / "out", named)
    with pytest.raises(UnknownNameError, match="unknown stage"):
        train_all(replace(recipe, stages=("decoder", "flows")), tmp_path / "out", named)
    with pytest.raises(OptionError, match="large_share"):
        train_all(with_settings(recipe, {"decoder.details": 3}), tmp_path / "out", named)
    assert not (tmp_path / "out").exists()
    assert with_steps(recipe, 0.5).settings["class-exemplars"].steps == 0
