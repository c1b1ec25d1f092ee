"""Base of `Result`: its numbers, and values computed from them. `Result` documents the attributes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_prior.optimise.resolve import item_names
from gen_prior.optimise.result_folder import relative_to_photographs
from gen_prior.recipe import Recipe


class ResultData:
    """Attributes of a `Result`, and values computed from them; `ResultView` adds how they are shown."""

    activations: Tensor
    start_activations: Tensor
    history: Tensor
    status: list[list[str]]
    targets: list[dict[str, Any]]
    seeds: list[int]
    settings: dict[str, Any]
    slugs: list[str]
    terms: list[list[list[float]]]

    def tensor_of(self, name: str, t: int, s: int) -> Tensor:
        """The "image" or "code" of target `t` and seed number `s`; zero where it is not finished."""
        raise NotImplementedError

    def images_of(self, t: int) -> Tensor:
        """Images `[S, 3, H, W]` of target `t`; those that are not finished are black."""
        return torch.stack([self.tensor_of("image", t, s) for s in range(len(self.seeds))])

    def codes_of(self, t: int) -> Tensor:
        """Codes `[S, *code_shape]` of target `t`; those that are not finished are zero."""
        return torch.stack([self.tensor_of("code", t, s) for s in range(len(self.seeds))])

    @property
    def photograph_ratios(self) -> Tensor:
        """`[T, S]`: activations divided by the best photograph's; NaN for targets without photograph statistics."""
        ratios = [
            [relative_to_photographs(value, target).get("photograph_ratio") for value in row]
            for row, target in zip(self.activations, self.targets, strict=True)
        ]
        return torch.tensor([[torch.nan if ratio is None else ratio for ratio in row] for row in ratios])

    def names(self) -> list[str]:
        """File names of the items without their endings, targets outermost."""
        return item_names(self.slugs, self.seeds)

    @property
    def evaluations(self) -> int:
        """Length of the history: steps of the final optimisation, each a forward and a backward pass per image.

        Scored candidates and trial steps are left out; `recipe.evaluations` includes them.
        """
        return int(self.history.shape[-1])

    @property
    def recipe(self) -> Recipe:
        """The recipe that was followed."""
        return Recipe.from_dict({"scale": "image"} | self.settings["recipe"])  # 0.1 knew no other scale

    @property
    def unit_recipe(self) -> Recipe:
        """The recipe that hidden units followed."""
        recipe = self.settings.get("unit_recipe")  # 0.1 had one recipe for all
        return self.recipe if recipe is None else Recipe.from_dict(recipe)
