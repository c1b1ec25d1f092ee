"""The feature extractor reads what hooks of one's own would read, and stops where it may."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.training.networks import Critic, Encoder, FeatureExtractor


def by_hand(network: nn.Module, names: list[str], images: Tensor) -> list[Tensor]:
    caught: dict[str, Tensor] = {}
    handles = []
    for name in names:

        def catch(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            caught[name] = output.clone()

        handles.append(network.get_submodule(name).register_forward_hook(catch))
    network(images)
    for handle in handles:
        handle.remove()
    return [caught[name] for name in names]


def test_the_extractor_equals_plain_hooks_and_stops_early(make_convolutional: Callable[..., nn.Module]) -> None:
    network = make_convolutional()
    classifier = gp.Classifier(network, input_size=64)
    ran: list[int] = []
    classifier.network.get_submodule("9").register_forward_hook(lambda module, inputs, output: ran.append(1))
    extractor, images = FeatureExtractor(classifier, 64), torch.rand(3, 3, 64, 64)
    names = list(extractor.hook_layers)
    assert names == ["1", "4", "6"]
    assert len(ran) == 2  # to list the layers, and to learn how often each runs
    expected = by_hand(classifier.network, names, classifier.normalise(images))
    ran.clear()
    for _ in range(3):
        for mine, theirs in zip(extractor(images), expected, strict=True):
            assert torch.equal(mine, theirs)
    assert not ran
    assert [tuple(feature.shape[1:]) for feature in expected] == [(8, 16, 16), (12, 8, 8), (16, 4, 4)]
    assert isinstance(network, nn.Sequential)
    assert not any(module._forward_hooks for module in network[:9].modules())


def test_hook_layers_of_the_embedded_classifier_are_its_deepest_blocks(lite0: gp.Classifier) -> None:
    extractor = FeatureExtractor(lite0, 64)
    names = list(extractor.hook_layers)
    images = torch.rand(2, 3, 64, 64)
    features = extractor(images)
    assert [feature.shape[-1] for feature in features] == [16, 8, 4]
    for mine, theirs in zip(features, by_hand(lite0.network, names, lite0.normalise(images)), strict=True):
        assert torch.equal(mine, theirs)
    assert names == ["blocks.3.expand", "blocks.5.expand", "blocks.11.expand"]


def test_encoder_and_critic_shapes_and_keys() -> None:
    features = [torch.randn(2, 8, 16, 16), torch.randn(2, 12, 8, 8), torch.randn(2, 16, 4, 4)]
    encoder, critic = Encoder([8, 12, 16], code_channels=5), Critic([8, 12, 16])
    mean, log_variance = encoder(features)
    assert mean.shape == log_variance.shape == (2, 5, 4, 4)
    assert len(critic(torch.rand(2, 3, 64, 64), features)) == 5
    assert {key.split(".")[0] for key in encoder.state_dict()} == {
        "scales",
        "down",
        "middle",
        "coarse",
        "block",
        "exit",
    }
    assert {key.split(".")[0] for key in critic.state_dict()} == {"patch", "heads", "whole"}
