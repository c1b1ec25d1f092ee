"""Measures, each against a case whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.errors import OptionError
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.report import metrics
from gen_prior.report.spectrum import natural_noise


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def classifier(labels: Sequence[str] | None) -> Classifier:
    return Classifier(nn.Identity(), input_size=32, labels=labels)


def test_probability_rank_and_top_class() -> None:
    said = metrics.verdict(torch.tensor([[0.0, math.log(3), math.log(6)], [9.0, -1.0, 1.0]]), 1)
    torch.testing.assert_close(said.probability[0], torch.tensor(0.3))
    assert said.rank.tolist() == [2, 3]
    assert said.top_class.tolist() == [2, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_give_no_rank(bad: float) -> None:
    said = metrics.verdict(torch.tensor([[bad, 1.0, 0.0], [0.0, 1.0, 0.0]]), 1)
    assert said.rank.tolist() == [0, 1]
    assert said.top_class.tolist() == [-1, 1]
    assert said.probability.isnan().tolist() == [True, False]


def test_classes_match_by_name() -> None:
    ours = classifier(("ant", "bee", "cup"))
    assert metrics.matching_class(ours, classifier(("ant", "bee", "cup")), 2) == 2
    assert metrics.matching_class(ours, classifier(("cup", "dog")), 2) == 0
    assert metrics.matching_class(ours, classifier(("dog", "cat")), 2) is None
    assert metrics.matching_class(ours, classifier(None), 2) is None
    assert metrics.matching_class(ours, classifier(("cup", "cup")), 2) is None


def test_imagenet_heads_match_by_number_even_where_names_repeat() -> None:
    ours, judge = classifier(imagenet()), classifier(imagenet())
    for index in (134, 517, 638, 639):  # two cranes, two swimming suits
        assert metrics.matching_class(ours, judge, index) == index


def test_penultimate_features_are_what_the_last_linear_layer_reads(tiny_classifier: Classifier, images: Tensor) -> None:
    logits, features = metrics.logits_and_features(tiny_classifier, images)
    assert features.shape == (3, 12)
    torch.testing.assert_close(tiny_classifier.network.get_submodule("fc")(features), logits)
    torch.testing.assert_close(logits, metrics.logits_of(tiny_classifier, images))
    assert not tiny_classifier.network.get_submodule("fc")._forward_pre_hooks


def test_features_need_a_linear_layer(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    bare = Classifier(network, input_size=32)
    assert not metrics.has_features(bare)
    with pytest.raises(OptionError, match="no linear layer"):
        metrics.logits_and_features(bare, images)


def test_features_must_be_one_vector_per_image(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2), nn.Linear(64, 5))
    with pytest.raises(OptionError, match=r"not \[B, D\]"):
        metrics.logits_and_features(Classifier(network, input_size=32), images)
    assert not network[2]._forward_pre_hooks


def test_activations_in_chunks_are_those_of_the_whole(tiny_classifier: Classifier) -> None:
    images = torch.rand(metrics.CHUNK + 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    target = parse_target("bee", tiny_classifier)
    with torch.no_grad():
        torch.testing.assert_close(
            metrics.activations_of(tiny_classifier, target, images), tiny_classifier(images)[:, 1], rtol=1e-4, atol=1e-5
        )


def test_blur_removes_a_checkerboard_and_spares_a_ramp() -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2).float().expand(1, 3, 16, 16)
    assert metrics.halved(board).std() < 0.15 * board.std()
    ramp = (columns / 15).expand(1, 3, 16, 16)
    assert (metrics.halved(ramp) - ramp).abs().max() < 0.05


def test_jpeg_changes_noise_and_spares_a_flat_image(images: Tensor) -> None:
    flat = torch.full((2, 3, 32, 32), 0.5)
    assert (metrics.jpeg(flat) - flat).abs().max() <= 2 / 255
    noisy = metrics.jpeg(images)
    assert noisy.shape == images.shape
    assert (noisy - images).abs().mean() > 0.05
    assert (metrics.jpeg(images, 95) - images).abs().mean() < (noisy - images).abs().mean()


def test_shift_moves_right_and_down(images: Tensor) -> None:
    moved = metrics.shifted(images)
    assert torch.equal(moved[..., 8:, 8:], images[..., :-8, :-8])
    assert torch.equal(moved[..., 0, 8:], images[..., 0, :-8])


def raise_logits(classifier: Classifier, unit: int, by: float) -> None:
    with torch.no_grad():
        classifier.network.get_parameter("fc.bias")[unit] += by


def test_all_is_kept_of_a_flat_image_and_less_than_none_counts_as_nothing(tiny_classifier: Classifier) -> None:
    flat = torch.full((1, 3, 32, 32), 0.5)
    raise_logits(tiny_classifier, 0, 5.0)
    positive = [unit for unit in range(5) if tiny_classifier(flat)[0, unit] > 0]
    negative = [unit for unit in range(5) if tiny_classifier(flat)[0, unit] < 0]
    assert positive
    assert negative
    kept = metrics.activation_kept(tiny_classifier, Target("logits", positive[0]), flat)
    assert set(kept) == {"blur", "jpeg", "shift"}
    assert kept["blur"].item() == pytest.approx(1, abs=1e-3)
    assert kept["shift"].item() == pytest.approx(1, abs=1e-3)
    assert metrics.activation_kept(tiny_classifier, Target("logits", negative[0]), flat)["blur"].isnan().all()


def test_no_share_of_an_activation_near_zero(tiny_classifier: Classifier) -> None:
    """The same images with the bias of the class so that the activation is just above, then just below the limit."""
    images, noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), natural_noise(16, (32, 32))
    target, limit = Target("logits", 2), 2 * tiny_classifier(noise)[:, 2].std().item()
    raise_logits(tiny_classifier, 2, limit + 1e-3 - tiny_classifier(images)[:, 2].min().item())
    assert all(kept.isfinite().all() for kept in metrics.activation_kept(tiny_classifier, target, images).values())
    raise_logits(tiny_classifier, 2, -2e-3)
    lowest = int(tiny_classifier(images)[:, 2].argmin())
    for kept in metrics.activation_kept(tiny_classifier, target, images).values():
        assert kept[lowest].isnan()
        assert kept[1 - lowest].isfinite()


def test_distortions_are_made_at_the_classifiers_size(tiny_classifier: Classifier) -> None:
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    large = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    raise_logits(tiny_classifier, 0, 5.0)
    target = Target("logits", 0)
    kept_small = metrics.activation_kept(tiny_classifier, target, small)
    kept_large = metrics.activation_kept(tiny_classifier, target, large)
    for name in kept_small:
        torch.testing.assert_close(kept_small[name], kept_large[name])
