"""train_flow on thirty steps: the export starts classes at their features, resumes to the same bits, refuses early.

A flow trained on known codes predicts them from their features.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from training_runs import train_decoder, train_flow, train_larger_images

import gen_prior as gp
import gen_prior.training.stages.flow as flow_stage
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.flow import FEATURE_SCALE, FEATURE_STD, CodeFlow
from gen_prior.generators.dgn.network import Decoder, WhitenedDecoder
from gen_prior.hub.tensors import file_sha256, read_tensors
from gen_prior.training.checkpoints import checkpoints
from gen_prior.training.networks import Encoder
from gen_prior.training.photograph_codes import PhotographCodes, class_directions, white_features
from gen_prior.training.photographs import open_photographs
from gen_prior.training.prior_file import Prior
from gen_prior.training.stage import Material
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.flow import FlowSettings, FlowStage
from gen_prior.training.stages.larger_images import RefinerSettings

SMALL = FlowSettings(steps=30, batch=8, features=4, width=32, depth=2, view=64, held_out=4)
LABELS = ("ant", "bee", "crane", "cup", "crane", "dog")


@pytest.fixture
def named(make_convolutional: Callable[..., nn.Module]) -> gp.Classifier:
    """The small classifier, its classes named; two of them the same."""
    return gp.Classifier(make_convolutional(), input_size=64, labels=LABELS, name="named")


def learn(classifier: gp.Classifier, prior: Path, images: Path, out: Path, **options: Any) -> Path:
    fast: dict[str, Any] = {"settings": SMALL, "log_every": 10, "checkpoint_seconds": 0.0}
    return train_flow(classifier, prior, images, out, **{**fast, **options})


def metadata_of(file: Path) -> dict[str, Any]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata())


def of_the_flow(file: Path) -> dict[str, Tensor]:
    return {name: value for name, value in load_file(file).items() if name.startswith("flow.")}


def test_aims_at_classes(
    named: gp.Classifier,
    photographs: Path,
    prior: Path,
    tmp_path: Path,
) -> None:
    records: list[dict[str, Any]] = []
    file = learn(named, prior, photographs, tmp_path / "whole", report=records.append)
    assert [record["step"] for record in records] == [10, 20, 30]
    assert {"flow", "held_out", "held_out_untold"} <= set(records[-1])
    with Image.open(tmp_path / "whole" / "sheet.png") as sheet:
        assert sheet.height == 2 * 66 + 2  # where classes begin, and nearer to the mean

    # The file is the prior with a flow before it, and says how that was made.
    before, after = load_file(prior / file.name), load_file(file)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(after) - set(before) == set(of_the_flow(file)) != set()
    directions = before["basis"].shape[1]
    metadata = metadata_of(file)
    assert metadata["name"] == "whole"
    wanted = {"features": 4, "width": 32, "depth": 2, "classes": 6, "steps": 4, "guidance": 3.0, "layouts": 0}
    assert json.loads(metadata["config"]) == json.loads(metadata_of(prior / file.name)["config"]) | {"flow": wanted}
    assert json.loads(metadata["classes"]) == list(LABELS)
    assert json.loads(metadata["flow"])["steps_done"] == 30
    assert json.loads(metadata["flow"])["parent_sha256"] == file_sha256(prior / file.name)
    assert json.loads(metadata["flow_data"])["images"] == 40
    assert json.loads(metadata["training"])["steps_done"] == 30
    ours, theirs = (load_file(folder / "networks.safetensors") for folder in (tmp_path / "whole", prior))
    assert {name for name in theirs if name.startswith("encoder.")} == set(ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    # It loads, and begins along what a class asks for.
    generator = gp.load_generator(f"local-dir:{tmp_path / 'whole'}", device="cpu")
    assert generator.code_shape == (4 + directions,)
    assert generator.image_shape() == (64, 64)
    noise, bee = generator.initial_code(0), generator.initial_code(0, "bee")
    torch.testing.assert_close(bee[:4], FEATURE_SCALE * after["flow.classes"][1].float() + FEATURE_STD * noise[:4])
    assert torch.equal(bee[4:], noise[4:])
    assert torch.equal(generator.initial_code(0, "crane"), noise), "a name of two classes says neither"
    assert gp.synthesize(named, ["bee", "dog"], generator, steps=3).images.isfinite().all()
    still = generator.recipe.with_options(steps=1, candidates=1, rate=1e-6, edits=(), transforms=())
    torch.testing.assert_close(gp.synthesize(named, "bee", generator, recipe=still).codes[0, 0], bee)


def test_codes_are_read_once_for_each_prior(
    named: gp.Classifier,
    photographs: Path,
    prior: Path,
    settings: DecoderSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[int] = []
    forward = Encoder.forward

    def counted(self: Encoder, features: Any) -> tuple[Tensor, Tensor]:
        passes.append(len(features[0]))
        return forward(self, features)

    other = tmp_path / "other"
    train_decoder(named, photographs, other, replace(settings, seed=1, steps=2), checkpoint_seconds=1e9)
    monkeypatch.setattr(Encoder, "forward", counted)
    out, cache = tmp_path / "out", tmp_path / "out" / "cache" / "codes.safetensors"

    def passed(prior: Path) -> int:
        """Images that the encoder reads in a run from the start."""
        passes.clear()
        for path in checkpoints(out):
            path.unlink()
        learn(named, prior, photographs, out, settings=replace(SMALL, steps=2))
        return sum(passes)

    assert passed(prior) == 2 * 40, "each photograph and its mirror image"
    first, kept = cache.stat().st_mtime_ns, read_tensors(cache)
    assert passed(prior) == 0
    assert cache.stat().st_mtime_ns == first
    cache.write_bytes(cache.read_bytes()[:100])
    assert passed(prior) == 2 * 40, "a damaged cache is made anew"
    assert all(torch.equal(kept[name], value) for name, value in read_tensors(cache).items())
    assert passed(other) == 2 * 40, "another prior's codes are others"
    assert not torch.equal(read_tensors(cache)["white"], kept["white"])
    assert passed(other) == 0

    # What is kept: white codes, and what the last linear layer sees of each photograph.
    assert kept["white"].shape[:2] == (40, 2)
    white = kept["white"].float().flatten(0, 1)
    assert white.mean(0).abs().max() < 0.3
    assert (white.std(0) - 1).abs().median() < 0.2
    pictures = open_photographs(photographs, 64, tmp_path / "own")
    seen = named.activations(pictures.batch(torch.arange(40)), ["8"])["8"]
    torch.testing.assert_close(kept["features"].float(), seen, atol=0.02, rtol=0.05)


def test_its_result_is_refined_with_on_policy_codes(
    named: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    flowing = learn(named, prior, photographs, tmp_path / "flowing")
    refining = RefinerSettings(steps=12, batch=4, refiner=8, crops=3, adversarial_from=0, held_out=6, on_policy=0.5)
    records: list[dict[str, Any]] = []
    fast: dict[str, Any] = {"log_every": 6, "checkpoint_seconds": 0.0}

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 6:
            raise KeyboardInterrupt

    refined = train_larger_images(
        named, flowing.parent, photographs, tmp_path / "refined", refining, report=records.append, **fast
    )
    assert 0 < records[-1]["climb"] < 1
    before, after = load_file(flowing), load_file(refined)
    unchanged = [name for name in before if not name.startswith("decoder.")]
    assert set(of_the_flow(flowing)) <= set(unchanged)
    assert all(torch.equal(before[name], after[name]) for name in unchanged)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert metadata_of(refined)["flow"] == metadata_of(flowing)["flow"]
    generator = gp.load_generator(f"local-dir:{refined.parent}", device="cpu")
    assert generator.image_shape() == (128, 128)
    plain = gp.load_generator(f"local-dir:{flowing.parent}", device="cpu")
    assert torch.equal(generator.initial_code(3, "bee"), plain.initial_code(3, "bee"))
    assert not torch.equal(generator.initial_code(3, "bee"), plain.initial_code(3))

    # Its pool of on-policy codes goes through a checkpoint.
    with pytest.raises(KeyboardInterrupt):
        train_larger_images(named, flowing.parent, photographs, tmp_path / "again", refining, report=stop, **fast)
    again = train_larger_images(named, flowing.parent, photographs, tmp_path / "again", refining, resume=True, **fast)
    assert all(torch.equal(after[name], value) for name, value in load_file(again).items())

    # A refined prior, with a flow or without, learns another flow, which replaces the first.
    anew = learn(named, refined.parent, photographs, tmp_path / "anew", settings=replace(SMALL, steps=2, width=16))
    config = json.loads(metadata_of(anew)["config"])
    assert (config["refiner"], config["coring"], config["flow"]["width"]) == (8, 0.3, 16)
    assert torch.equal(load_file(anew)["refiner.exit.weight"], after["refiner.exit.weight"])
    assert gp.load_generator(f"local-dir:{anew.parent}", device="cpu").image_shape() == (128, 128)


def test_classes_without_names_are_not_aimed_at(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    file = learn(small_classifier, prior, photographs, tmp_path / "out", settings=replace(SMALL, steps=2))
    assert metadata_of(file)["classes"] == "[]"
    generator = gp.load_generator(f"local-dir:{file.parent}", device="cpu")
    assert torch.equal(generator.initial_code(0, "bee"), generator.initial_code(0))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"features": 17}, "features must lie in 1 to 16, got 17"),
        ({"features": 0}, "features must lie in 1 to 16, got 0"),
        ({"sampling_steps": 0}, "sampling_steps must lie in 1 to 4096, got 0"),
        ({"sampling_steps": 5000}, "sampling_steps must lie in 1 to 4096, got 5000"),
        ({"width": 0}, "width must lie"),
        ({"width": 5000}, "width must lie"),
        ({"depth": -1}, "depth must lie"),
        ({"view": 0}, "view must lie"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"withheld": 1.0}, "withheld must be at least 0 and below 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch": 1}, "batch must be at least 2"),
    ],
)
def test_settings_that_no_flow_can_have(
    named: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(OptionError, match=match):
        learn(named, prior, photographs, tmp_path / "out", settings=replace(SMALL, **change))
    assert not (tmp_path / "out").exists()


def test_refusals(
    named: gp.Classifier,
    lite0: gp.Classifier,
    photographs: Path,
    prior: Path,
    settings: DecoderSettings,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(WeightsError, match=r"no generator\.safetensors"):
        learn(named, tmp_path / "nowhere", photographs, out)
    with pytest.raises(OptionError, match="not trained on efficientnet-lite0"):
        learn(lite0, prior, photographs, out)
    without = copytree(prior, tmp_path / "without")
    (without / "networks.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        learn(named, without, photographs, out)
    assert not out.exists()

    learn(named, prior, photographs, out, settings=replace(SMALL, steps=2))
    with pytest.raises(OptionError, match="holds a training run"):
        learn(named, prior, photographs, out)
    with pytest.raises(OptionError, match=r"guidance 3\.0, not 2\.0"):
        learn(named, prior, photographs, out, settings=replace(SMALL, guidance=2.0), resume=True)
    with pytest.raises(OptionError, match="features 4, not 5"):
        learn(named, prior, photographs, out, settings=replace(SMALL, features=5), resume=True)
    other = tmp_path / "other"
    train_decoder(named, photographs, other, replace(settings, seed=1, steps=2), checkpoint_seconds=1e9)
    with pytest.raises(OptionError, match="has parent_sha256"):
        learn(named, other, photographs, out, resume=True)


def test_features_are_white_and_classes_ask_for_what_raises_them() -> None:
    torch.manual_seed(0)
    raw = torch.randn(500, 8) @ torch.randn(8, 8) + 3
    white, moved = white_features(raw, 5)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(5), atol=1e-3, rtol=0)
    assert white.mean(0).abs().max() < 1e-3
    everything, all_moved = white_features(raw, 8)
    torch.testing.assert_close(raw.mean(0) + everything @ all_moved.T, raw, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(moved, all_moved[:, :5])

    head = nn.Linear(8, 4)
    wanted = class_directions(head, moved)
    point = torch.zeros(5, requires_grad=True)
    logits = head(raw.mean(0) + moved @ point)
    for number in range(4):
        (gradient,) = torch.autograd.grad(logits[number] - logits.mean(), point, retain_graph=True)
        torch.testing.assert_close(wanted[number], gradient / gradient.norm())


def test_a_flow_learns_which_codes_go_with_which_features(
    small_classifier: gp.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes in two clusters, which the first feature tells; the second says nothing."""
    source = torch.Generator().manual_seed(0)
    sign = torch.randint(2, (400, 1), generator=source) * 2.0 - 1
    white = sign[..., None] * torch.tensor([1.0, -1.0, 1.0]) + 0.2 * torch.randn(400, 2, 3, generator=source)
    features = torch.cat([sign, torch.randn(400, 1, generator=source)], 1)
    settings = FlowSettings(
        steps=300, batch=64, rate=5e-3, features=2, width=32, depth=2, held_out=40, sampling_steps=8, guidance=1.0
    )
    settings = replace(settings, precision="fp32", ema=0.98)
    head = nn.Linear(2, 2, bias=False)
    head.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    known = PhotographCodes(white.half(), features.half(), head, small_classifier)
    monkeypatch.setattr(flow_stage, "read_codes", lambda material, view: known)
    network = WhitenedDecoder(Decoder(4, 64, 0.125), torch.zeros(4, 4, 4), torch.eye(64)[:, :3])
    prior = Prior(Path(), network, {}, "", None, None)
    trainer = FlowStage(Material(small_classifier, None, prior, Path(), torch.device("cpu")), settings)
    before = trainer.validate()
    assert before["held_out"] == pytest.approx(1.0, abs=0.15), "a flow that stands still"
    for _ in range(settings.steps):
        trainer.train_step()
        trainer.step += 1
    after = trainer.validate()
    assert after["held_out"] < 0.5 * before["held_out"]
    assert after["held_out"] < 0.9 * after["held_out_untold"], "the features tell what the place alone does not"

    flow = trainer.averages["flow"]
    assert isinstance(flow, CodeFlow)
    told = torch.tensor([1.0, -1.0]).repeat(50)[:, None]
    code = torch.cat([flow.classes.repeat(50, 1), torch.randn(100, 3, generator=source)], 1)
    with torch.no_grad():
        made = flow(code)
        aimed = flow(flow.start(torch.tensor([0, 1]).repeat(50), torch.randn(100, 5, generator=source)))
    centres = told * torch.tensor([1.0, -1.0, 1.0])
    assert (made - centres).square().mean(1).sqrt().median() < 0.35
    assert ((made * centres).mean(1) > 0.5).float().mean() > 0.9
    assert ((aimed * centres).mean(1) > 0).float().mean() > 0.9, "classes begin in their own cluster"
