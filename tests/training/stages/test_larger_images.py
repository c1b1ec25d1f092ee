"""train_larger_images on thirty steps: the export doubles the side, resumes to the same bits, refuses early."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from training_runs import train_decoder, train_larger_images

import gen_prior as gp
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.generator import read_network
from gen_prior.generators.dgn.network import Refiner
from gen_prior.training.gan import shrink
from gen_prior.training.photographs import open_photographs
from gen_prior.training.stages.decoder import DecoderSettings
from gen_prior.training.stages.larger_images import RefinerSettings

SMALL = RefinerSettings(steps=12, batch=4, refiner=8, crops=3, adversarial_from=4, held_out=6)


@pytest.fixture
def prior(small_classifier: gp.Classifier, photographs: Path, settings: DecoderSettings, tmp_path: Path) -> Path:
    """The folder of a prior of 64 pixels."""
    out = tmp_path / "prior"
    train_decoder(small_classifier, photographs, out, settings, checkpoint_seconds=1e9)
    return out


def refine(classifier: gp.Classifier, prior: Path, images: Path, out: Path, **options: Any) -> Path:
    return train_larger_images(
        classifier, prior, images, out, SMALL, **{"log_every": 6, "checkpoint_seconds": 0.0, **options}
    )


def test_doubles_the_side(
    small_classifier: gp.Classifier,
    photographs: Path,
    prior: Path,
    tmp_path: Path,
) -> None:
    records: list[dict[str, Any]] = []
    file = refine(small_classifier, prior, photographs, tmp_path / "whole", report=records.append)
    assert [record["step"] for record in records] == [6, 12]
    assert {"pixel", "feature", "fool", "faithful", "critic"} <= set(records[-1])
    with Image.open(tmp_path / "whole" / "sheet.png") as sheet:
        assert sheet.height == 4 * 130 + 2

    generator = gp.load_generator(f"local-dir:{tmp_path / 'whole'}", device="cpu")
    plain = gp.load_generator(f"local-dir:{prior}", device="cpu")
    assert generator.image_shape() == (128, 128)
    assert generator.code_shape == plain.code_shape
    code = plain.initial_code(0)[None]
    assert (shrink(generator(code)) - plain(code)).abs().mean() < 0.1, "the same picture, only larger"
    assert gp.synthesize(small_classifier, "logits:2", generator, steps=3).images.isfinite().all()
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["refining"])["steps_done"] == 12
    assert json.loads(metadata["training"])["steps_done"] == 30
    assert json.loads(metadata["refining_data"])["crops"] == 3


def test_the_decoder_learns_along_or_not_at_all(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []
    pixels_only = replace(SMALL, steps=60, batch=8, adversarial_from=1_000, feature_weight=0.0, rate=3e-3)
    pixels_only = replace(pixels_only, decoder_rate=0.0)
    reported: dict[str, Any] = {"log_every": 10, "report": records.append}
    file = train_larger_images(small_classifier, prior, photographs, tmp_path / "out", pixels_only, **reported)
    refined, before = load_file(file), load_file(prior / "generator.safetensors")
    assert all(torch.equal(refined[name], before[name]) for name in before)
    assert set(refined) - set(before) == {name for name in refined if name.startswith("refiner.")} != set()
    assert records[-1]["pixel"] < 0.9 * records[0]["pixel"]

    learning = replace(pixels_only, steps=3, decoder_rate=0.3, adversarial_from=0, on_policy=0.5)
    along = load_file(train_larger_images(small_classifier, prior, photographs, tmp_path / "along", learning))
    changed = {name for name in before if not torch.equal(along[name], before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed), "the code keeps its meaning and statistics"


def test_a_refined_prior_learns_on_and_on(
    small_classifier: gp.Classifier, photographs: Path, prior: Path, tmp_path: Path
) -> None:
    first = refine(small_classifier, prior, photographs, tmp_path / "first")
    settings = replace(SMALL, steps=1, rate=1e-9, critic_rate=1e-9, refiner=0)
    second = train_larger_images(small_classifier, first.parent, photographs, tmp_path / "second", settings)
    before, after = load_file(first), load_file(second)
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=1e-3, rtol=1e-2, msg=f"{name} began anew")
    with safe_open(second, "pt") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["config"])["refiner"] == 8, "as many channels as the prior's has"
    assert json.loads(metadata["refining_2"])["refiner"] == 8

    assert json.loads(metadata["config"])["coring"] == settings.coring == 0.3

    wider = replace(settings, refiner=16, coring=0.0)
    anew = load_file(train_larger_images(small_classifier, first.parent, photographs, tmp_path / "wider", wider))
    assert len(anew["refiner.entry.weight"]) == 16
    assert anew["refiner.exit.weight"].abs().max() < 1e-3, "it begins as an enlargement alone"
    torch.testing.assert_close(anew["decoder.exit.weight"], before["decoder.exit.weight"], atol=1e-3, rtol=1e-2)
    generator = gp.load_generator(f"local-dir:{tmp_path / 'wider'}", device="cpu")
    code = generator.initial_code(0)[None]
    drawn = generator(code)
    assert drawn.shape == (1, 3, 128, 128)
    module: Any = generator.module
    assert torch.equal(drawn, module.refiner(module.decoder(module.spatial(code))).clamp(0, 1))
    assert json.loads(metadata["refining"])["steps_done"] == 12
    assert json.loads(metadata["refining_data_2"])["crops"] == 3
    networks = [load_file(file.with_name("networks.safetensors")) for file in (prior / first.name, first, second)]
    encoder = {name: value for name, value in networks[0].items() if name.startswith("encoder.")}
    for kept in networks[1:]:
        assert kept.keys() == encoder.keys()
        assert all(torch.equal(encoder[name], kept[name]) for name in encoder)

    third = refine(small_classifier, second.parent, photographs, tmp_path / "third")
    learnt = load_file(third)
    assert any(name.startswith("refiner.") and not torch.equal(learnt[name], after[name]) for name in after)
    with safe_open(third, "pt") as opened:
        assert json.loads(opened.metadata()["refining_3"])["steps_done"] == 12
    assert gp.load_generator(f"local-dir:{third.parent}", device="cpu").image_shape() == (128, 128)


def test_a_fresh_refiner_is_the_enlargement() -> None:
    image = torch.rand(2, 3, 64, 64)
    wanted = torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.equal(Refiner(8)(image), wanted)


def test_refusals(small_classifier: gp.Classifier, lite0: gp.Classifier, photographs: Path, prior: Path) -> None:
    out = prior.parent / "refined"
    with pytest.raises(WeightsError, match=r"no generator\.safetensors"):
        refine(small_classifier, prior / "nowhere", photographs, out)
    with pytest.raises(OptionError, match="not trained on"):
        refine(lite0, prior, photographs, out)
    assert not out.exists()
    refine(small_classifier, prior, photographs, out)
    with pytest.raises(OptionError, match="holds a training run"):
        refine(small_classifier, prior, photographs, out)
    with pytest.raises(OptionError, match="crops"):
        train_larger_images(small_classifier, prior, photographs, out, replace(SMALL, crops=4), resume=True)
    with pytest.raises(OptionError, match="coring must be"):
        train_larger_images(small_classifier, prior, photographs, out.parent / "cored", replace(SMALL, coring=-1.0))
    (prior / "networks.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        refine(small_classifier, prior, photographs, prior.parent / "third")
    absurd = prior / "generator.safetensors"
    absurd.write_bytes((out / absurd.name).read_bytes().replace(b'\\"refiner\\": 8', b'\\"refiner\\":-8'))
    with pytest.raises(WeightsError, match="here asks for an impossible network"):
        read_network(absurd, "here")


def test_crops_of_one_image_stay_together(photographs: Path, tmp_path: Path) -> None:
    squares = open_photographs(photographs, 32, tmp_path, crops=5)
    assert len(squares) == 40 * 5
    held_out, training = squares.split(20, 0)
    assert {index // 5 for index in held_out.tolist()}.isdisjoint({index // 5 for index in training.tolist()})
    assert sorted([*held_out.tolist(), *training.tolist()]) == list(range(200))
    again = open_photographs(photographs, 32, tmp_path / "other", crops=5)
    assert (again.array == squares.array).all()
    assert (squares.array[0] != squares.array[1]).any()
    assert len(open_photographs(photographs, 32, tmp_path)) == 40, "a cache of crops is not one of whole squares"
