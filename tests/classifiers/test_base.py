"""The wrapper: any module, any number of channels and classes, images of any size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.classifiers import Classifier, load_classifier, load_described
from gen_prior.errors import DeviceError, GenPriorError, OptionError, TargetError, UnknownNameError


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (7, 90), (64, 31), (200, 200)])
def test_images_of_any_size(size: tuple[int, int], tiny_classifier: Classifier) -> None:
    images = torch.rand(2, 3, *size)
    assert tiny_classifier(images).shape == (2, 5)
    assert tiny_classifier.resize(images).shape == (2, 3, 32, 32)
    if size == (32, 32):
        assert tiny_classifier.resize(images) is images


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 9), (30, 12), (10, 50), (64, 64)])
def test_resizing_is_the_interpolation_of_pytorch(interpolation: str, size: tuple[int, int]) -> None:
    classifier = Classifier(nn.Flatten(), input_size=(10, 20), interpolation=interpolation)
    images = torch.rand(2, 3, *size)
    shrinking = size[0] > 10 or size[1] > 20
    wanted = nn.functional.interpolate(images, (10, 20), mode=interpolation, align_corners=False, antialias=shrinking)
    torch.testing.assert_close(classifier.resize(images), wanted.clamp(0, 1), atol=1e-6, rtol=0)
    assert classifier.resize(images.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(classifier.resize(images), wanted.clamp(0, 1), atol=1e-6, rtol=0)


def test_a_resize_first_met_in_inference_mode_still_gives_gradients() -> None:
    classifier = Classifier(nn.Flatten(), input_size=(17, 19))
    images = torch.rand(1, 3, 11, 13)
    with torch.inference_mode():
        classifier.resize(images)
    assert torch.autograd.grad(classifier.resize(images.requires_grad_()).sum(), images)[0].abs().max() > 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_stays_in_range_and_keeps_gradients(interpolation: str) -> None:
    classifier = Classifier(nn.Flatten(), input_size=(10, 20), interpolation=interpolation)
    images = (torch.rand(1, 3, 40, 13) > 0.5).float().requires_grad_()
    resized = classifier.resize(images)
    assert resized.shape == (1, 3, 10, 20)
    assert resized.min() >= -1e-6
    assert resized.max() <= 1 + 1e-6
    assert torch.autograd.grad(resized.sum(), images)[0].abs().min() > 0
    plain = torch.full((1, 3, 40, 13), 0.25)
    torch.testing.assert_close(classifier.resize(plain), torch.full((1, 3, 10, 20), 0.25))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_any_number_of_channels(channels: int, make_tiny_network: Callable[..., nn.Module]) -> None:
    network = make_tiny_network(inputs=channels)
    mean, std = [0.1 * index for index in range(channels)], [0.5] * channels
    classifier = Classifier(network, mean=mean, std=std, input_size=32)
    images = torch.rand(2, 3, 32, 32)
    normalised = classifier.preprocess(images)
    assert normalised.shape == (2, channels, 32, 32)
    assert classifier(images).shape == (2, 5)
    luma = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    expected = luma if channels == 1 else images[:, (channels - 1) % 3]
    torch.testing.assert_close(normalised[:, -1], (expected - mean[-1]) / 0.5)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_images_that_are_not_rgb_are_refused(shape: tuple[int, ...], tiny_classifier: Classifier) -> None:
    with pytest.raises(OptionError, match=r"must be RGB, \[B, 3, H, W\]"):
        tiny_classifier(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "one value per input channel"),
        ({"mean": (), "std": ()}, "one value per input channel"),
        ({"std": (0.5, 0.0, 0.5)}, "std positive"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean must be finite"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": (3, 4, 5)}, "input_size"),
        ({"interpolation": "nearest"}, "bilinear, bicubic"),
    ],
)
def test_impossible_options(options: dict[str, object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Classifier(nn.Identity(), **options)  # type: ignore[arg-type]


def test_labels_have_to_match_the_logits(make_tiny_network: Callable[..., nn.Module]) -> None:
    classifier = Classifier(make_tiny_network(), input_size=32, labels=["a", "b"])
    for _ in range(2):
        with pytest.raises(OptionError, match="has 5 classes, but 2 labels"):
            classifier.class_index("a")
    single = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 1), nn.Flatten(0)), input_size=4)
    assert single.layers() == {"0": (48,), "1": (1,), "logits": (1,)}


def test_one_class(make_tiny_network: Callable[..., nn.Module]) -> None:
    network = nn.Sequential(make_tiny_network(), nn.Linear(5, 1))
    assert Classifier(network, input_size=32, labels=["only"]).class_index("only") == 0


def test_modules_of_any_kind() -> None:
    class Keyed(nn.Module):
        """No parameters, output in a dictionary, a child that never runs."""

        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x, "logits": F.adaptive_avg_pool2d(x, 1).flatten(1)}

    classifier = Classifier(Keyed(), input_size=16)
    assert classifier(torch.rand(2, 3, 20, 20)).shape == (2, 3)
    assert classifier.layers() == {"logits": (3,)}
    with pytest.raises(TargetError, match="does not run"):
        classifier.layer_shape("idle")
    with pytest.raises(UnknownNameError, match="unknown layer"):
        classifier.layer_shape("absent")


def test_the_network_is_frozen_and_evaluated(make_tiny_network: Callable[..., nn.Module]) -> None:
    classifier = Classifier(make_tiny_network().train(), input_size=32)
    assert not any(parameter.requires_grad for parameter in classifier.network.parameters())
    assert not any(module.training for module in classifier.network.modules())
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(classifier(images)[:1], classifier(images[:1]))


def test_folding_does_not_change_the_logits(make_tiny_network: Callable[..., nn.Module]) -> None:
    folded = Classifier(make_tiny_network(), input_size=32)
    plain = Classifier(make_tiny_network(), input_size=32, fold=False)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(folded(images), plain(images))
    assert list(folded.layers()) == list(plain.layers())
    for layer, shape in folded.layers().items():
        torch.testing.assert_close(folded.activations(images, [layer]), plain.activations(images, [layer]))
        assert folded.activations(images, [layer])[layer].shape[1:] == shape


def test_a_vision_transformer() -> None:
    network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    classifier = Classifier(network, input_size=32)
    values = classifier.activations(torch.rand(2, 3, 50, 40), ["encoder.layers.encoder_layer_0", "logits"])
    assert values["encoder.layers.encoder_layer_0"].shape == (2, 17, 16)
    assert values["logits"].shape == (2, 5)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("resnet50", "torchvision:resnet50 or hf-hub:timm/resnet50.TAG"),
        ("resnet50.a1_in1k", "hf-hub:timm/resnet50.a1_in1k"),
        ("efficientnet-lite", "did you mean efficientnet-lite"),
        ("nothing", "known: efficientnet-lite0"),
        ("zoo:resnet50", "torchvision:NAME"),
        ("", "gen-prior models"),
    ],
)
def test_sources_are_never_guessed(spec: str, says: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown (classifier|module)") as caught:
        load_classifier(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_and_devices_are_checked() -> None:
    with pytest.raises(OptionError, match="efficientnet-lite0 does not take 'colour' as an option"):
        load_classifier("efficientnet-lite0", colour=True)
    with pytest.raises(DeviceError, match="no device 'cuda:99'"):
        load_classifier("efficientnet-lite0", device="cuda:99")
    with pytest.raises(GenPriorError, match="unknown device"):
        load_classifier("efficientnet-lite0", device="tpux")


def test_keys_of_classes(
    tiny_classifier: Classifier, lite0: Classifier, make_tiny_network: Callable[..., nn.Module]
) -> None:
    assert tiny_classifier.class_key(2) == "crane bird"
    assert lite0.class_key(1) == "n01443537"
    assert Classifier(make_tiny_network(), input_size=32, name="x").class_key(2) is None


def test_the_old_name_works_and_warns(tiny_classifier: Classifier) -> None:
    with (
        pytest.warns(DeprecationWarning, match=r"Classifier\.reading is called Classifier\.record_layers"),
        tiny_classifier.reading(["conv1"]) as hooks,
    ):
        assert set(hooks(torch.rand(1, 3, 32, 32))) == {"conv1"}


def test_options_of_loading_are_described_and_taken_again() -> None:
    unfolded = load_classifier("efficientnet-lite0", device="cpu", fold=False)
    assert unfolded.describe()["options"] == {"fold": False}
    again = load_described(unfolded.describe(), device="cpu")
    assert any(isinstance(part, nn.BatchNorm2d) for part in again.network.modules())
    assert "options" not in load_classifier("efficientnet-lite0", device="cpu").describe()
