"""(objectives, seeds) -> the items of a synthesis, each made when its batch begins."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import overload

from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator
from gen_prior.optimise.batch import Item
from gen_prior.optimise.resolve import ResolvedObjective, class_weights_of


class Items(Sequence[Item]):
    """One item per objective and seed, with its start, made when it is asked for: codes may be as large as images.

    Raises `OptionError` for given codes of another shape.
    """

    def __init__(
        self,
        classifier: Classifier,
        generator: Generator,
        resolved: Sequence[ResolvedObjective],
        seeds: Sequence[int],
        start: Tensor | None,
    ) -> None:
        shape, grid = generator.code_shape, (len(resolved), len(seeds))
        if start is not None:
            if tuple(start.shape) not in (shape, grid + shape):
                raise OptionError(
                    f"start must have shape {list(shape)}, or {[*grid, *shape]} for one code per target and seed, "
                    f"got {list(start.shape)}"
                )
            if start.is_meta or start.is_complex():
                raise OptionError(f"start must hold real numbers, got {start.dtype} on {start.device}")
            start = start.detach().float().cpu().expand(*grid, *shape)
        self._classifier, self._generator, self._start = classifier, generator, start
        self._pairs = [(t, s) for t in range(grid[0]) for s in range(grid[1])]
        self._resolved, self._seeds = resolved, seeds

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Items: ...
    def __getitem__(self, index: int | slice) -> Item | Items:
        if isinstance(index, slice):
            part = copy(self)
            part._pairs = self._pairs[index]
            return part
        t, s = self._pairs[index]
        one, seed = self._resolved[t], self._seeds[s]
        if self._start is not None:
            code = self._start[t, s]
        else:
            weights = class_weights_of(one.target, self._classifier)
            code = self._generator.initial_code(seed, weights, hidden_unit=one.recipe.unit_start)
        return Item(one.objective, seed, code, one.target, one.field)
