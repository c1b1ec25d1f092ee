"""Measures, each against a case whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.errors import OptionError
from gen_prior.objectives.targets import Target, parse_target
from gen_prior.report import metrics


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def classifier(labels):
    return Classifier(nn.Identity(), input_size=32, labels=labels)


def test_probability_rank_and_top_class():
    said = metrics.verdict(torch.tensor([[0.0, math.log(3), math.log(6)], [9.0, -1.0, 1.0]]), 1)
    torch.testing.assert_close(said.probability[0], torch.tensor(0.3))
    assert said.rank.tolist() == [2, 3]
    assert said.top_class.tolist() == [2, 0]


def test_classes_match_by_name():
    ours = classifier(("ant", "bee", "cup"))
    assert metrics.matching_class(ours, classifier(("ant", "bee", "cup")), 2) == 2
    assert metrics.matching_class(ours, classifier(("cup", "dog")), 2) == 0
    assert metrics.matching_class(ours, classifier(("dog", "cat")), 2) is None
    assert metrics.matching_class(ours, classifier(None), 2) is None
    assert metrics.matching_class(ours, classifier(("cup", "cup")), 2) is None


def test_imagenet_heads_match_by_number_even_where_names_repeat():
    ours, judge = classifier(imagenet()), classifier(imagenet())
    for index in (134, 517, 638, 639):  # two cranes, two swimming suits
        assert metrics.matching_class(ours, judge, index) == index


def test_penultimate_features_are_what_the_last_linear_layer_reads(tiny_classifier, images):
    logits, features = metrics.logits_and_features(tiny_classifier, images)
    assert features.shape == (3, 12)
    torch.testing.assert_close(tiny_classifier.network.fc(features), logits)
    torch.testing.assert_close(logits, metrics.logits_of(tiny_classifier, images))
    assert not tiny_classifier.network.fc._forward_pre_hooks


def test_features_need_a_linear_layer(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    bare = Classifier(network, input_size=32)
    assert not metrics.has_features(bare)
    with pytest.raises(OptionError, match="no linear layer"):
        metrics.logits_and_features(bare, images)


def test_features_must_be_one_vector_per_image(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(2), nn.Linear(64, 5))
    with pytest.raises(OptionError, match=r"not \[B, D\]"):
        metrics.logits_and_features(Classifier(network, input_size=32), images)
    assert not network[2]._forward_pre_hooks


def test_activations_in_chunks_are_those_of_the_whole(tiny_classifier):
    images = torch.rand(metrics.CHUNK + 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    target = parse_target("bee", tiny_classifier)
    with torch.no_grad():
        torch.testing.assert_close(
            metrics.activations_of(tiny_classifier, target, images), tiny_classifier(images)[:, 1], rtol=1e-4, atol=1e-5
        )


def test_blur_removes_a_checkerboard_and_spares_a_ramp():
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((rows + columns) % 2).float().expand(1, 3, 16, 16)
    assert metrics.blurred(board).std() < 0.15 * board.std()
    ramp = (columns / 15).expand(1, 3, 16, 16)
    assert (metrics.blurred(ramp) - ramp).abs().max() < 0.05


def test_jpeg_changes_noise_and_spares_a_flat_image(images):
    flat = torch.full((2, 3, 32, 32), 0.5)
    assert (metrics.jpeg(flat) - flat).abs().max() <= 2 / 255
    noisy = metrics.jpeg(images)
    assert noisy.shape == images.shape
    assert (noisy - images).abs().mean() > 0.05
    assert (metrics.jpeg(images, 95) - images).abs().mean() < (noisy - images).abs().mean()


def test_shift_moves_right_and_down(images):
    moved = metrics.shifted(images)
    assert torch.equal(moved[..., 8:, 8:], images[..., :-8, :-8])
    assert torch.equal(moved[..., 0, 8:], images[..., 0, :-8])


def test_all_is_kept_of_a_flat_image_and_less_than_none_counts_as_nothing(tiny_classifier):
    flat = torch.full((1, 3, 32, 32), 0.5)
    positive = [unit for unit in range(5) if tiny_classifier(flat)[0, unit] > 0]
    negative = [unit for unit in range(5) if tiny_classifier(flat)[0, unit] < 0]
    assert positive
    assert negative
    kept = metrics.activation_kept(tiny_classifier, Target("logits", positive[0]), flat)
    assert set(kept) == {"blur", "jpeg", "shift"}
    assert kept["blur"].item() == pytest.approx(1, abs=1e-3)
    assert kept["shift"].item() == pytest.approx(1, abs=1e-3)
    assert metrics.activation_kept(tiny_classifier, Target("logits", negative[0]), flat)["blur"].isnan().all()


def test_distortions_are_made_at_the_classifiers_size(tiny_classifier):
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    large = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    target = Target("relu2", 4, "mean")
    kept_small = metrics.activation_kept(tiny_classifier, target, small)
    kept_large = metrics.activation_kept(tiny_classifier, target, large)
    for name in kept_small:
        torch.testing.assert_close(kept_small[name], kept_large[name])


def power_law(exponent: float, size: int = 64) -> torch.Tensor:
    """An image whose power falls as frequency to the `exponent`, with random phases."""
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    radius = torch.sqrt(rows.square() + columns.square()).clamp_min(1 / size)
    phase = torch.rand(3, *radius.shape, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    return torch.fft.irfft2(torch.polar(radius ** (exponent / 2) * torch.ones(3, 1, 1), phase), s=(size, size))[None]


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0, -3.0])
def test_slope_of_a_power_law(exponent):
    assert metrics.spectrum(power_law(exponent)).slope.item() == pytest.approx(exponent, abs=0.15)


def test_high_frequencies_of_white_noise_fill_their_share_of_the_plane():
    noise = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    share = metrics.spectrum(noise).high_frequency
    assert share.tolist() == pytest.approx([1 - math.pi / 16] * 4, abs=0.02)


def test_a_single_wave_is_all_high_or_all_low():
    x = torch.arange(64) / 64
    low, high = torch.sin(2 * math.pi * 4 * x), torch.sin(2 * math.pi * 28 * x)
    waves = torch.stack([low, high])[:, None, None].expand(2, 3, 64, 64)
    torch.testing.assert_close(metrics.spectrum(waves).high_frequency, torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_the_mean_colour_does_not_count():
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) / 2
    first, second = metrics.spectrum(noise), metrics.spectrum(noise + 0.4)
    torch.testing.assert_close(first.high_frequency, second.high_frequency)
    assert math.isfinite(metrics.spectrum(torch.full((1, 3, 32, 32), 0.3)).slope.item())


def test_photographs_are_near_the_reference_and_noise_is_not():
    from skimage import data

    photographs = torch.cat(
        [
            F.interpolate(
                torch.from_numpy(picture).movedim(-1, 0)[None] / 255, (224, 224), mode="bilinear", antialias=True
            )
            for picture in (data.astronaut(), data.chelsea(), data.coffee())
        ]
    )
    seen, reference = metrics.spectrum(photographs), metrics.natural_spectrum(224)
    assert (seen.slope - reference.slope).abs().max() < 0.5
    assert (seen.high_frequency / reference.high_frequency).log().abs().max() < math.log(3)
    noise = metrics.spectrum(torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert noise.high_frequency > 10 * reference.high_frequency
    assert noise.slope > reference.slope + 2


def test_diversity_of_equal_orthogonal_and_single_features():
    assert metrics.diversity(torch.ones(3, 4)) == pytest.approx(0)
    assert metrics.diversity(torch.eye(3)) == pytest.approx(1)
    assert metrics.diversity(torch.tensor([[1.0, 0], [5.0, 0], [0, 2.0]])) == pytest.approx(2 / 3)
    assert metrics.diversity(torch.ones(1, 4)) is None


def test_frechet_distance_of_known_gaussians():
    source = torch.Generator().manual_seed(0)
    first = torch.randn(500, 6, generator=source)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(first, first + 2) == pytest.approx(24, rel=1e-6)
    one = torch.tensor([[-1.0], [1.0]])
    spread = one.double().var().sqrt().item()
    assert metrics.frechet_distance(one, 3 * one + 1) == pytest.approx(1 + (2 * spread) ** 2)
    mixed = first @ torch.randn(6, 6, generator=source)
    assert metrics.frechet_distance(first, mixed) == pytest.approx(metrics.frechet_distance(mixed, first))


def test_frechet_distance_of_few_rows_is_that_of_their_covariances():
    source = torch.Generator().manual_seed(1)
    first, second = torch.randn(4, 9, generator=source).double(), torch.randn(7, 9, generator=source).double() * 2
    product = torch.cov(first.T) @ torch.cov(second.T)
    cross = torch.linalg.eigvals(product).real.clamp_min(0).sqrt().sum()
    traces = torch.cov(first.T).trace() + torch.cov(second.T).trace()
    wanted = (first.mean(0) - second.mean(0)).square().sum() + traces - 2 * cross
    assert metrics.frechet_distance(first, second) == pytest.approx(float(wanted), rel=1e-5)


def test_kernel_distance_by_hand_and_without_bias():
    first, second = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [3.0]])
    assert metrics.kernel_distance(first, second) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4)
    source = torch.Generator().manual_seed(0)
    small = [metrics.kernel_distance(*torch.randn(2, 10, 20, generator=source)) for _ in range(300)]
    assert abs(sum(small) / 300) < 0.05, "however small the sets"
    shift = torch.tensor([0.0, 1.0])[:, None, None]
    apart = [metrics.kernel_distance(*(torch.randn(2, 10, 20, generator=source) + shift)) for _ in range(30)]
    assert sum(apart) / 30 > 1


@pytest.mark.parametrize(("first", "second"), [((1, 3), (5, 3)), ((5, 3), (5, 2)), ((5,), (5, 3))])
@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_distances_refuse_other_shapes(distance, first, second):
    with pytest.raises(OptionError, match="at least two rows"):
        distance(torch.ones(first), torch.ones(second))


def test_bootstrap_interval_is_repeatable_and_holds_the_middle():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).tolist()
    low, high = metrics.bootstrap_interval(values)
    assert low < torch.tensor(values).quantile(0.5).item() < high
    assert metrics.bootstrap_interval(values) == (low, high)
    wide = metrics.bootstrap_interval(values[:8])
    assert wide[1] - wide[0] > high - low
    assert metrics.bootstrap_interval([2.0, 2.0]) == (2.0, 2.0)
    assert metrics.bootstrap_interval([0.0, 1.0], statistic="mean") == (0.0, 1.0)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    source = torch.Generator().manual_seed(1)
    intervals = [
        metrics.bootstrap_interval(torch.randn(30, generator=source).tolist(), resamples=400) for _ in range(60)
    ]
    assert 0.85 <= sum(low <= 0 <= high for low, high in intervals) / 60 <= 1.0


def test_bootstrap_interval_needs_values_and_a_known_statistic():
    with pytest.raises(OptionError):
        metrics.bootstrap_interval([])
    with pytest.raises(OptionError):
        metrics.bootstrap_interval([1.0], statistic="mode")
