"""Codes of two parts, noise and class embedding: how each starts, its prior, and which of them is optimised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gen_prior.errors import OptionError
from gen_prior.generators.shared.checks import class_index, whole_number
from gen_prior.recipe import Recipe

OPTIMISE = ("both", "noise", "class")


class Part(NamedTuple):
    """A part of the code: function that draws its initial value, and its prior and bounds, `[N]` each."""

    draw: Callable[[torch.Generator], Tensor]
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def prior(self) -> dict[str, Any]:
        """The arguments of `Generator` for a code that is this part."""
        return {
            "start": self.draw,
            "code_mean": self.mean,
            "code_std": self.std.clamp_min(1e-6),
            "code_min": self.low,
            "code_max": self.high,
        }


def joined(a: Part, b: Part) -> Part:
    """The code whose first numbers are `a` and whose last are `b`."""
    prior = (torch.cat(pair) for pair in zip(a[1:], b[1:], strict=True))
    return Part(lambda rng: torch.cat([a.draw(rng), b.draw(rng)]), *prior)


def normal_noise(size: int) -> Part:
    """Standard normal noise `[size]`, without bounds."""
    limit = torch.full((size,), torch.inf)
    return Part(lambda rng: torch.randn(size, generator=rng), torch.zeros(size), torch.ones(size), -limit, limit)


def check_choice(class_label: Any, optimise: Any, noise_seed: Any, classes: int) -> int | None:
    """The number of the class, or None. Raises `OptionError` for options that do not fit together."""
    whole_number("noise_seed", noise_seed, least=0, most=2**63 - 1)
    if optimise not in OPTIMISE:
        raise OptionError(f"optimise must be one of {', '.join(OPTIMISE)}, got {optimise!r}")
    if optimise == "noise" and class_label is None:
        raise OptionError("optimise='noise' fixes the class, so it needs one", fix="pass class_label=...")
    return None if class_label is None else class_index(class_label, classes)


class Conditional(nn.Module):
    """Code `[B, N]`, noise and embedding or one of them -> `network(noise [B, *shape], embedding [B, E])`.

    The embedding is counted from `mean` in units of `std`, so that one step size suits both parts. `held`: the value of
    the part that is not in the code; None if both are.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        mean: Tensor,
        std: Tensor,
        held: Tensor | None,
        noise_is_held: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.shape = shape
        self.noise_is_held = noise_is_held
        self.held = nn.Buffer(held) if held is not None else None
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, code: Tensor) -> Tensor:
        if self.held is not None:
            held = self.held.expand(len(code), -1)
            code = torch.cat([held, code] if self.noise_is_held else [code, held], 1)
        noise, embedding = code.split([math.prod(self.shape), len(self.mean)], 1)
        made: Tensor = self.network(noise.reshape(-1, *self.shape), self.mean + self.std * embedding)
        return made


def noise_and_embedding(
    network: nn.Module,
    shape: tuple[int, ...],
    mean: Tensor,
    std: Tensor,
    embedding: Part,
    optimise: str,
    noise_seed: int,
) -> tuple[Conditional, Part]:
    """`network(noise, embedding)` as a function of the code, and that code.

    `optimise`: the parts in the code: "both", "noise", or "class" for the embedding alone. The other part is held as it
    is drawn from `noise_seed`.
    """
    noise = normal_noise(math.prod(shape))
    code = {"both": joined(noise, embedding), "noise": noise, "class": embedding}[optimise]
    held = {"both": None, "noise": embedding, "class": noise}[optimise]
    value = held.draw(torch.Generator().manual_seed(noise_seed)) if held is not None else None
    return Conditional(network, shape, mean, std, value, optimise == "class"), code


def noise_and_class(
    network: nn.Module, shape: tuple[int, ...], table: Tensor, label: int | None, optimise: str, noise_seed: int
) -> tuple[Conditional, Part]:
    """As `noise_and_embedding`, with the class embeddings `[K, E]` of `table`.

    The class part starts from the class `label`, or, where that is None, from the mean of all classes plus a tenth of
    standard normal noise (after BigGAN-AM, Li et al. 2020, arXiv 1910.04760). Its bounds are those of known classes.
    """
    mean, std = table.mean(0), table.std(0, unbiased=False).clamp_min(1e-6)
    known = (table - mean) / std

    def draw(rng: torch.Generator) -> Tensor:
        return known[label] if label is not None else 0.1 * torch.randn(len(mean), generator=rng)

    embedding = Part(draw, torch.zeros_like(mean), torch.ones_like(mean), known.amin(0), known.amax(0))
    return noise_and_embedding(network, shape, mean, std, embedding, optimise, noise_seed)


def reno_recipe(dims: int) -> Recipe:
    """ReNO's settings for codes whose first `dims` numbers are noise, without its penalty if `dims` is 0."""
    return Recipe(
        steps=50,
        optimiser="sgd",
        rate=5.0,
        final_rate=5.0,
        gradient_limit=0.1,
        regularisers=(("noise_length", {"weight": 0.01, "numbers": dims}),) if dims else (),
        keep="best",
        domain="code",
        source="ReNO, Eyring et al. 2024, arXiv 2406.04312: Nesterov SGD, clipped gradient, best iterate",
    )


__all__ = [
    "OPTIMISE",
    "Conditional",
    "Part",
    "check_choice",
    "joined",
    "noise_and_class",
    "noise_and_embedding",
    "normal_noise",
    "reno_recipe",
]
