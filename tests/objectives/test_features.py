"""Latents and directions as targets: read, named, replayed and refused as units are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.expressions import parse_targets, single_target
from gen_prior.objectives.targets import Target, parse_target


def dictionary(width: int, seed: int = 0, **options: object) -> Dictionary:
    """20 latents, most of them silent, as a trained dictionary has them."""
    encoder = torch.randn(width, 20, generator=torch.Generator().manual_seed(seed))
    return Dictionary(encoder, torch.full((20,), -0.5), decoder=encoder.T, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dictionary(12).save(tmp_path / "my-sae+1")


def test_a_latent_is_read_where_a_unit_is(tiny_classifier: Classifier, folder: Path) -> None:
    activations = tiny_classifier.activations(torch.rand(3, 3, 32, 32), ["conv2"])
    everywhere = dictionary(12)(activations["conv2"].permute(0, 2, 3, 1))[..., 7]
    assert (everywhere > 0).any()
    for position, expected in (
        ("@0,15", everywhere[:, 0, 15]),
        ("", everywhere[:, 8, 8]),
        ("@mean", everywhere.mean((1, 2))),
    ):
        target = parse_target(f"conv2/sae:{folder}:7{position}", tiny_classifier)
        torch.testing.assert_close(target.read(activations), expected)
        torch.testing.assert_close(target.everywhere(activations), everywhere)
        assert parse_target(str(target), tiny_classifier) == target
        assert not target.is_class
    same = gp.objectives.latent("conv2", dictionary(12), 7)
    read = same.reported
    assert read is not None
    torch.testing.assert_close(read(activations, torch.zeros(3), torch.zeros(3)), everywhere.mean((1, 2)))


def test_a_latent_of_tokens_and_of_maps_with_channels_last(channels_last: Classifier, tmp_path: Path) -> None:
    source = dictionary(6, k=3).save(tmp_path / "sae")
    values = channels_last.activations(torch.rand(2, 3, 32, 32), ["block"])
    target = parse_target(f"block/sae:{source}:4@7,1", channels_last)
    torch.testing.assert_close(target.read(values), dictionary(6, k=3)(values["block"])[:, 7, 1, 4])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), Transposed(), nn.LayerNorm(6))
    tokens = Classifier(nn.Sequential(network, nn.Flatten(), nn.Linear(6 * 64, 3)), input_size=32, name="tokens")
    values = tokens.activations(torch.rand(2, 3, 32, 32), ["0.3"])
    for position, expected in (("@token=9", values["0.3"][:, 9]), ("@mean", values["0.3"])):
        read = parse_target(f"0.3/sae:{source}:4{position}", tokens).read(values)
        whole = dictionary(6, k=3)(expected)[..., 4]
        torch.testing.assert_close(read, whole if whole.ndim == 1 else whole.mean(1))


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT


def test_names_ranges_and_mixes(tiny_classifier: Classifier, folder: Path) -> None:
    found = parse_targets(f"conv2/sae:{folder}:3-5@mean", tiny_classifier)
    assert [target.name for target in found] == [f"conv2/sae:{unit}@mean" for unit in (3, 4, 5)]
    assert [target.slug for target in found] == [f"conv2-sae-{unit}-mean" for unit in (3, 4, 5)]
    assert len(parse_targets(f"conv2/sae:{folder}:*", tiny_classifier)) == 20
    assert [target.name for target in parse_targets(f"*v2/sae:{folder}:1,9", tiny_classifier)] == [
        "conv2/sae:1@8,8",
        "conv2/sae:9@8,8",
    ]
    mix = single_target(f"conv2/sae:{folder}:3@mean-0.5*conv2:4@mean+bee", tiny_classifier)
    assert mix.name == "conv2/sae:3@mean - 0.5*conv2:4@mean + bee"
    assert single_target(str(mix), tiny_classifier) == mix
    least = single_target(f"-conv2/sae:{folder}:3@mean", tiny_classifier)
    assert least.slug == "minus-conv2-sae-3-mean"


def test_latents_of_two_dictionaries_have_different_names(
    tiny_classifier: Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    first, second = (dictionary(12).save(tmp_path / part / "sae") for part in ("a", "b"))
    alone = gp.synthesize(tiny_classifier, f"conv2/sae:{first}:3@mean", tiny_generator, steps=1)
    assert [target["name"] for target in alone.targets] == ["conv2/sae:3@mean"]
    targets = [f"conv2/sae:{first}:3@mean", f"conv2/sae:{second}:3@mean", f"bee-conv2/sae:{second}:3@mean", "conv2:3"]
    both = gp.synthesize(tiny_classifier, targets, tiny_generator, steps=1)
    assert [target["name"] for target in both.targets] == [
        "conv2/sae:a/sae:3@mean",
        "conv2/sae:b/sae:3@mean",
        "bee - conv2/sae:b/sae:3@mean",
        "conv2:3@8,8",
    ]
    assert both.slugs[:2] == ["conv2-sae-a-sae-3-mean", "conv2-sae-b-sae-3-mean"]
    assert both[targets[1], 0].target == "conv2/sae:b/sae:3@mean"
    again = gp.load_result(both.save(tmp_path / "out")).replay(tiny_classifier, tiny_generator)
    assert torch.equal(again.images, both.images)


def test_directions_are_targets(tiny_classifier: Classifier, tmp_path: Path) -> None:
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "rows.npy", rows.numpy())
    activations = tiny_classifier.activations(torch.rand(2, 3, 32, 32), ["conv2"])
    target = parse_target(f"conv2/direction:{tmp_path / 'rows.npy'}:1@mean", tiny_classifier)
    nothing = torch.zeros(2)
    expected = gp.objectives.direction("conv2", rows[1])(activations, nothing, nothing)
    torch.testing.assert_close(target.read(activations), expected)
    torch.testing.assert_close(target.score(activations), expected)
    assert target.name == "conv2/direction:1@mean"


def test_a_silent_latent_is_raised_and_its_result_replays(
    tiny_classifier: Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    start = tiny_classifier.activations(tiny_generator(tiny_generator.initial_code(0)[None]), ["conv2"])["conv2"][0, 2]
    bias = -float(start.max()) - 0.01
    source = Dictionary(torch.eye(12), torch.full((12,), bias), decoder=torch.eye(12)).save(tmp_path / "sae")
    text = f"conv2/sae:{source}:2@mean"
    options = {"steps": 60, "rate": 0.1, "transforms": (), "scale": "image", "out": tmp_path / "out"}
    result = gp.synthesize(tiny_classifier, text, tiny_generator, **options)  # type: ignore[arg-type]
    assert result.start_activations[0, 0] == 0 < result.activations[0, 0]
    seen = tiny_classifier.activations(result.inputs(0), ["conv2"])["conv2"][0, 2]
    torch.testing.assert_close(result.activations[0, 0], (seen + bias).relu().mean())
    assert result.slugs == ["conv2-sae-2-mean"]
    assert set(result.targets[0]["feature"]["sha256"]) == {"cfg.json", "sae_weights.safetensors"}
    again = gp.load_result(tmp_path / "out").replay(tiny_classifier, tiny_generator)
    assert torch.equal(again.images, result.images)
    images = tmp_path / "photographs"
    result.save(images)
    found = gp.find_exemplars(tiny_classifier, text, images, count=1)
    assert found[0].path.suffix == ".png"
    assert gp.receptive_field(tiny_classifier, text.replace("@mean", "@5,5")) == gp.receptive_field(
        tiny_classifier, "conv2:0@5,5"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv2/sae:{}:20", "20 rows or latents, 0 to 19"),
        ("conv2/sae:{}:x", "ends with a number, got 'x'"),
        ("conv1/sae:{}:3", "layer 'conv1' has 8 units, but {} takes 12"),
        ("conv3/sae:{}:3", "did you mean conv2"),
        ("conv2/sae:{}/absent:3", "no folder"),
        ("conv2/sae:{}:3@99,0", "allowed: @mean"),
        ("conv2/direction:{}/absent.npy:3", "no file"),
        ("conv2/other:{}:3", "unknown layer"),
    ],
)
def test_refusals(text: str, says: str, tiny_classifier: Classifier, folder: Path) -> None:
    with pytest.raises(GenPriorError) as caught:
        single_target(text.format(folder), tiny_classifier)
    assert says.format(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dictionary_of_another_layer(
    tiny_classifier: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relu = dictionary(12, layer="relu2").save(tmp_path / "relu")
    with pytest.raises(GenPriorError, match=r"was trained on layer 'relu2'\. Fix: read it at relu2"):
        parse_target(f"conv2/sae:{relu}:1", tiny_classifier)
    assert isinstance(parse_target(f"relu2/sae:{relu}:1", tiny_classifier), Target)
    assert not caplog.text
    elsewhere = dictionary(12, layer="blocks.9.hook_resid_post").save(tmp_path / "elsewhere")
    parse_target(f"conv2/sae:{elsewhere}:1", tiny_classifier)
    assert "it was trained on blocks.9.hook_resid_post; it is read at conv2" in caplog.text
