"""Words of messages, tables and pages: counts, short numbers, lists of names, settings that are others, photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,200 images`, `2 searches`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}" + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def few(names: Sequence[str], most: int = 3) -> str:
    """The first `most` of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def others(names: Sequence[str]) -> str:
    """Settings that are not the same, in words: `["seeds", "unit_recipe"]` -> "other seeds, another unit recipe"."""
    plain = [name.replace("_sha256", "").replace("_names", "s").replace("_", " ") for name in names]
    return few([f"other {name}" if _is_plural(name) else f"another {name}" for name in plain])


def best_in_words(photographs: Mapping[str, Any] | None, panel: Mapping[str, Any] | None = None) -> str:
    """The photograph that a ratio is to: the best of a table's, else of the folder that a faithfulness panel used.

    `photographs`: of a target in a record, None where no table holds it; `panel`: its faithfulness, if measured.
    """
    if photographs is not None:
        return f"the best of the table's {photographs['images']:,} photographs"
    count = f"{panel['photographs']:,} " if panel and "photographs" in panel else ""
    return f"the best of the folder's {count}photographs"


def short(value: float) -> str:
    """`value` with two or three significant digits, without a sign where it rounds to 0: 1234, 12.3, 1.23, 0.012."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 0.095:
        return f"{value:.2g}"
    text = f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def percent(value: float) -> str:
    """A share in percent with about two digits, more near 1: 0.3%, 4.3%, 41%, 99.7%, 105%."""
    size = abs(100 * value)
    if 0 < size < 0.01:
        return "<0.01%"
    if 99.95 <= size < 100:
        return ">99.9%"
    decimals = 1 if 1 <= size < 9.95 or 99 < size < 100 else 0
    return f"{100 * value:.2g}%" if 0 < size < 1 else f"{100 * value:.{decimals}f}%"


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings of `now` whose values `before` does not have; of a group, such as a recipe, those in it."""
    names: dict[str, None] = {}
    for name, value in now.items():
        other = before.get(name)
        if other == value:
            continue
        inside = isinstance(value, Mapping) and isinstance(other, Mapping) and value.keys() == other.keys()
        names |= dict.fromkeys(changed_settings(other, value) if inside else [name])  # type: ignore[arg-type]
    return list(names)


def _is_plural(name: str) -> bool:
    return name.endswith("s") and not name.endswith("ss")
