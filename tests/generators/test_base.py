"""The generator interface: what comes out is RGB in [0, 1], what goes in has a prior."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators.base import CodePrior, Generator


def flat(code: Tensor) -> Tensor:
    return code.view(-1, 3, 2, 2)


def test_ranges_and_channels() -> None:
    code = torch.linspace(-1, 1, 12)[None]
    torch.testing.assert_close(Generator(flat, (12,))(code), flat(code) / 2 + 0.5)
    torch.testing.assert_close(Generator(flat, (12,), output_range=(0, 2))(code), flat(code).clamp(0) / 2)
    torch.testing.assert_close(Generator(flat, (12,), channels="BGR")(code), flat(code).flip(1) / 2 + 0.5)
    grey = Generator(lambda code: code.view(-1, 1, 3, 4), (12,), channels="L")(code)
    assert grey.shape == (1, 3, 3, 4)
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_every_pixel_can_come_back_from_beyond_the_range() -> None:
    generator = Generator(flat, (12,), output_range=(0, 1))
    code = torch.tensor([[2.0, -1.0, 0.5] * 4], requires_grad=True)
    image = generator(code)
    assert image.min() == 0
    assert image.max() == 1
    (down,) = torch.autograd.grad(image.sum(), code, retain_graph=True)  # the loss falls as pixels get darker
    (up,) = torch.autograd.grad(-image.sum(), code)
    assert down[0, :3].tolist() == [1, 0, 1]
    assert up[0, :3].tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"code_shape": ()}, "positive integers"),
        ({"code_shape": (0,)}, "positive integers"),
        ({"channels": "HSV"}, "RGB, BGR, L"),
        ({"output_range": (1, 1)}, "black < white"),
        ({"code_mean": torch.zeros(5)}, "code_mean must be a number or broadcast to"),
        ({"code_max": torch.zeros(2, 12)}, "code_max must be"),
        ({"code_std": -1.0}, "code_std must not be negative"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        Generator(flat, **{"code_shape": (12,), **options})


def test_wrong_codes_and_wrong_images_are_named() -> None:
    with pytest.raises(OptionError, match=r"codes of shape \[B, 12\], got \[1, 5\]"):
        Generator(flat, (12,))(torch.zeros(1, 5))
    with pytest.raises(OptionError, match=r"make images of shape \[2, 3, H, W\], got \[2, 1, 3, 4\]"):
        Generator(lambda code: code.view(-1, 1, 3, 4), (12,))(torch.zeros(2, 12))
    with pytest.raises(OptionError, match=r"\[2, 1, H, W\], got \[24\]"):
        Generator(lambda code: code.flatten(), (12,), channels="L")(torch.zeros(2, 12))


def test_networks_are_frozen_and_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Linear(4, 12), nn.Dropout(0.5), nn.Unflatten(1, (3, 2, 2)))
    generator = Generator(network, (4,))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    code = generator.initial_code(0)[None]
    assert torch.equal(generator(code), generator(code))
    assert generator.image_shape() == (2, 2)


def test_initial_codes_follow_the_prior_and_the_seed() -> None:
    mean, std = torch.tensor([5.0, -5.0]).repeat(500), torch.tensor([2.0, 0.5]).repeat(500)
    generator = Generator(lambda code: code.view(-1, 1, 25, 40), (1000,), channels="L", code_mean=mean, code_std=std)
    first = generator.initial_code(7)
    assert torch.equal(first, generator.initial_code(7))
    assert not torch.equal(first, generator.initial_code(8))
    z = (first - mean) / std
    assert z.mean().abs() < 0.1
    assert abs(float(z.std()) - 1) < 0.1
    bounded = Generator(flat, (12,), code_min=0.0, code_max=torch.full((12,), 0.1)).initial_code(0)
    assert bounded.min() >= 0
    assert bounded.max() <= 0.1
    own = Generator(flat, (12,), start=lambda source: torch.rand(3, 4, generator=source, dtype=torch.float64))
    assert own.initial_code(1).shape == (12,)
    assert own.initial_code(1).dtype == torch.float32


def test_codes_begin_nearer_to_a_class_that_is_known() -> None:
    asked: list[tuple[str, Tensor]] = []

    def class_init(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
        asked.append((wanted, noise))
        return noise.double() + 5 if wanted == "bee" else None

    plain = Generator(flat, (12,), code_max=7.0)
    generator = Generator(flat, (12,), code_max=7.0, class_init=class_init)
    noise = plain.initial_code(3)
    known = generator.initial_code(3, "bee")
    torch.testing.assert_close(known, (noise + 5).clamp(max=7.0))
    assert known.dtype == torch.float32
    assert torch.equal(generator.initial_code(3, "wasp"), noise)
    assert [wanted for wanted, _ in asked] == ["bee", "wasp"]
    assert torch.equal(asked[0][1], noise)
    assert torch.equal(generator.initial_code(3), noise)
    assert torch.equal(plain.initial_code(3, "bee"), noise)
    assert len(asked) == 2, "nobody is asked where no class is wanted"
    assert torch.equal(generator.with_module(flat).initial_code(3, "bee"), known)
    with pytest.warns(DeprecationWarning, match="class_init"):
        old = Generator(flat, (12,), code_max=7.0, aim=class_init)
    assert torch.equal(old.initial_code(3, "bee"), known)
    own = Generator(flat, (12,), start=lambda source: torch.zeros(12), class_init=class_init)
    assert torch.equal(own.initial_code(3, "bee"), torch.zeros(12)), "a start of the family's own goes first"


def test_projection_and_penalty() -> None:
    prior = CodePrior(mean=torch.tensor([1.0, 0.0]), std=torch.tensor([2.0, 0.0]), minimum=-2.0, maximum=None)
    code = torch.tensor([[9.0, 3.0], [-9.0, -3.0]])
    assert prior.project(code).tolist() == [[9.0, 3.0], [-2.0, -2.0]]
    assert prior.project(code, sigmas=1.0).tolist() == [[3.0, 0.0], [-1.0, 0.0]]
    # Half the mean squared number of deviations; the unit that never varied counts as none.
    assert prior.penalty(torch.tensor([[5.0, 7.0]])).tolist() == [0.5 * (2.0**2) / 2]
    assert CodePrior().penalty(torch.zeros(3, 4)).tolist() == [0, 0, 0]


def test_no_encoder_is_said(tiny_generator: gp.Generator) -> None:
    assert not tiny_generator.can_encode
    with pytest.raises(OptionError, match="tiny has no encoder"):
        tiny_generator.encode(torch.zeros(1, 3, 16, 16))


def test_description_is_plain(tiny_generator: gp.Generator) -> None:
    described = tiny_generator.describe()
    assert described["name"] == "tiny"
    assert described["code_shape"] == [8]
    assert described["code_numbers"] == 8


def test_several_classes_begin_at_their_mean_as_far_out_as_they_are() -> None:
    source = torch.Generator().manual_seed(0)
    starts = {name: torch.randn(12, generator=source) for name in ("ant", "bee", "cup")}
    mean, std = torch.linspace(-1, 1, 12), torch.linspace(0.5, 2, 12)
    generator = Generator(
        flat, (12,), code_mean=mean, code_std=std, class_init=lambda wanted, noise, seed: mean + std * starts[wanted]
    )
    assert torch.equal(generator.initial_code(3, {"bee": 0.4}), generator.initial_code(3, "bee"))
    assert torch.equal(generator.initial_code(3, {}), generator.initial_code(3))
    away = (generator.initial_code(3, {"ant": 2.0, "cup": 1.0}) - mean) / std
    expected = (2 * starts["ant"] + starts["cup"]) / 3
    torch.testing.assert_close(away / away.norm(), expected / expected.norm())
    torch.testing.assert_close(away.norm(), (2 * starts["ant"].norm() + starts["cup"].norm()) / 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_than_codes_take_one_line(dtype: torch.dtype, tiny_generator: Generator) -> None:
    assert isinstance(tiny_generator.module, nn.Module)
    tiny_generator.module.to(dtype)
    with pytest.raises(OptionError, match=rf"weights are {dtype}, its codes torch.float32\. Fix: pass network.float"):
        tiny_generator(torch.zeros(1, 8))


def test_a_network_of_another_type_that_takes_codes_as_they_are_works() -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 12).double()

        def forward(self, code: Tensor) -> Tensor:
            image: Tensor = self.linear(code.double())
            return image.float().view(-1, 3, 2, 2)

    assert Generator(Casting(), (8,))(torch.zeros(1, 8)).shape == (1, 3, 2, 2)


def test_a_network_without_values_is_refused() -> None:
    with pytest.raises(OptionError, match=r"without values, on the device 'meta'\. Fix: load its weights"):
        Generator(nn.Linear(8, 12, device="meta"), (8,))
