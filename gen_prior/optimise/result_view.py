"""How a result is looked at: items by name, pictures, sheets, tables, and what a notebook shows of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, overload

from PIL import Image

from gen_prior.errors import OptionError
from gen_prior.optimise.contact_sheet import contact_sheet, sheet_pages
from gen_prior.optimise.result_data import ResultData
from gen_prior.optimise.result_item import ResultItem, find_seed, find_target
from gen_prior.optimise.result_rows import result_rows
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.util.html import cell, picture_tag, table
from gen_prior.util.tables import dataframe
from gen_prior.util.words import best_in_words, counted

if TYPE_CHECKING:
    import pandas

SHOWN_TARGETS, SHOWN_SEEDS = 10, 8
"""Largest table in a notebook."""


class ResultView(ResultData):
    """Tables and pictures of a `Result`, which adds saving and replaying."""

    @overload
    def __getitem__(self, key: str | int) -> list[ResultItem]: ...
    @overload
    def __getitem__(self, key: tuple[str | int, int]) -> ResultItem: ...
    def __getitem__(self, key: str | int | tuple[str | int, int]) -> ResultItem | list[ResultItem]:
        """`result["goldfish", 0]` is the item of a target and a seed, `result["goldfish"]` those of all seeds.

        A target is called by its name, its expression (its position may be left out where that is plain), its file name
        (`slugs`), the number of its class, or else its place from 0. Raises `UnknownNameError`
        with close matches, `OptionError` for a seed that the result does not have.
        """
        if isinstance(key, tuple):
            if len(key) != 2:
                raise OptionError(f"an item is a target and a seed, got {key!r}", fix='result["goldfish", 0]')
            return self._item(find_target(self.targets, self.slugs, key[0]), find_seed(self.seeds, key[1]))
        t = find_target(self.targets, self.slugs, key)
        return [self._item(t, s) for s in range(len(self.seeds))]

    def __iter__(self) -> Iterator[ResultItem]:
        """All items, targets outermost."""
        return (self._item(t, s) for t in range(len(self.targets)) for s in range(len(self.seeds)))

    def _item(self, t: int, s: int) -> ResultItem:
        return ResultItem(self, t, s)

    def image(self, target: str | int | None = None, seed: int | None = None) -> Image.Image:
        """The image of a target and a seed as a PIL picture; of the first target, the first seed, where None.

        Raises as `result[target, seed]` does.
        """
        t = 0 if target is None else find_target(self.targets, self.slugs, target)
        return self._item(t, 0 if seed is None else find_seed(self.seeds, seed)).picture()

    def sheet(self, page: int = 1) -> Image.Image:
        """The contact sheet as a PIL picture: all images with their activations, many targets on several pages.

        Raises `OptionError` for an unknown page.
        """
        known = sheet_pages(self)
        if not 1 <= page <= len(known):
            raise OptionError(f"this result has pages 1 to {len(known)}, got {page}")
        return contact_sheet(self, known[page - 1])

    def to_dataframe(self) -> pandas.DataFrame:
        """A pandas table with a row for each image, and the columns of `numbers.csv`, without those that are empty.

        Raises `MissingExtraError` without pandas.
        """
        return dataframe(result_rows(self))

    def __repr__(self) -> str:
        unfinished = sum(row.count(UNFINISHED) for row in self.status)
        images = self.activations.numel()
        count = (f"{images - unfinished:,} of " if unfinished else "") + counted(images, "image")
        names = [target["name"] for target in self.targets]
        shown = ", ".join(names[:4]) + (f", ... ({len(names)} targets)" if len(names) > 4 else "")
        made_by = f"{self.settings['generator']['name']} for {self.settings['classifier']['name']}"
        return f"<Result: {count} of {shown}; {made_by}, {counted(self.history.shape[-1], 'step')}>"

    def _repr_html_(self) -> str:
        """View in a notebook: images, activations, and their ratios to the best photograph's."""
        columns = range(min(len(self.seeds), SHOWN_SEEDS))
        head = [f"seed {self.seeds[s]}" for s in columns]
        rows = [
            (str(self.targets[t]["name"]), [_shown(self._item(t, s)) for s in columns])
            for t in range(min(len(self.targets), SHOWN_TARGETS))
        ]
        hidden = self.activations.numel() - len(rows) * len(head)
        more = f"and {hidden} more images: result.sheet(), result[TARGET, SEED]" if hidden else ""
        best = dict.fromkeys(best_in_words(one["photographs"]) for one in self.targets if one.get("photographs"))
        lines = [more, *(f"best photograph: {words}" for words in best)]
        return table(repr(self)[1:-1], head, rows, "; ".join(filter(None, lines)))


def _shown(item: ResultItem) -> str:
    """An item as the cell of a table."""
    if item.status == UNFINISHED:
        return cell(item.status)
    ratio = item.photograph_ratio
    beside = f"{ratio:.2f} x best photograph" if ratio is not None and math.isfinite(ratio) else ""
    status = "" if item.status == "ok" else item.status
    return cell(f"{item.activation:.4g}", beside, status, image=picture_tag(item.image, f"{item.target}, {item.seed}"))
