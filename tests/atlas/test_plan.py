"""Layers, units and judges of an atlas, and its shards."""

from __future__ import annotations

import pytest
import torch
import torchvision
from transformers import ViTConfig, ViTForImageClassification

from gen_prior.atlas.manifest import as_ranges, numbers
from gen_prior.atlas.plan import (
    Units,
    block_layers,
    check_units,
    chosen_judge,
    chosen_layers,
    chosen_units,
    parse_units,
)
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError


def test_blocks_of_networks_of_several_kinds(lite0: Classifier) -> None:
    assert block_layers(lite0) == ["stem", *(f"blocks.{block}" for block in range(16)), "head", "logits"]
    resnet = Classifier(torchvision.models.resnet18(weights=None), input_size=32)
    stages = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert block_layers(resnet) == [*stages, "logits"]
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=8
    )
    layers = block_layers(Classifier(ViTForImageClassification(config), input_size=32))
    assert len([layer for layer in layers if layer.split(".")[-1] in "012"]) == 3
    assert layers[-1] == "logits"


def test_units_are_ranges_of_all_layers_or_of_one(tiny_classifier: Classifier) -> None:
    units = parse_units(["logits=0-999:2", "0-2,7"])
    assert chosen_units(tiny_classifier, "conv2", units) == "0-2,7"
    assert chosen_units(tiny_classifier, "logits", units) == "0,2,4"
    assert chosen_units(tiny_classifier, "conv1", {"conv2": "0"}) == "0-7"
    assert chosen_units(tiny_classifier, "conv1", [3, 1, 3, 99]) == "1,3"
    check_units(tiny_classifier, ["conv1", "conv2"], {"*": "0-11", "conv1": "7"})
    mistakes: list[tuple[list[str], Units]] = [
        (["conv1"], "0-8"),
        (["conv1", "conv2"], [12]),
        (["conv2"], {"conv2": "5-70"}),
    ]
    for layers, wrong in mistakes:
        with pytest.raises(OptionError, match=r"no unit \d+: layer 'conv\d' has units 0 to"):
            check_units(tiny_classifier, layers, wrong)
    for text in ("", "a", "3-1", "1-5:0", "1:2"):
        with pytest.raises(OptionError, match="0-31"):
            numbers(text)
    drawn = sorted(set(torch.randint(500, (100,), generator=torch.Generator().manual_seed(0)).tolist()))
    assert numbers(as_ranges(drawn)) == tuple(drawn)


def test_layers_with_fewer_units_are_said(tiny_classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    check_units(tiny_classifier, ["conv1", "conv2", "logits"], {"*": "0-9", "logits": "0-4"})
    assert [one.message for one in caplog.records] == ["layers with fewer units than are asked for: conv1 (0 to 7)"]


def test_patterns_choose_layers_in_network_order(lite0: Classifier) -> None:
    assert chosen_layers(lite0, ["logits", "blocks.1?", "blocks.3"])[:3] == ["blocks.3", "blocks.10", "blocks.11"]
    assert len(chosen_layers(lite0, "blocks.*")) == 16


def test_a_judge_is_loaded_only_where_there_is_something_to_judge(lite0: Classifier) -> None:
    assert chosen_judge("auto", lite0, ["blocks.3"], False) == (None, None)
    judge, name = chosen_judge("auto", lite0, ["logits"], False)
    assert judge is not None
    assert judge.name == name == "efficientnet-lite2"
    with pytest.raises(OptionError, match="another classifier"):
        chosen_judge("efficientnet-lite0", lite0, ["logits"], False)
