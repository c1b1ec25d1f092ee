"""Strategies that damage valid bytes and valid JSON, and the loop that runs a check on them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T")
LONG = pytest.mark.chaos

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from([0, 1, -1, 10**5, 2**31, 2**63]),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["../x", "/dev/zero", "\0", "a" * 300, "nan", ""]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def fuzz(count: int, strategy: st.SearchStrategy[T], check: Callable[[T], None], known: Iterable[T] = ()) -> None:
    """Run `check` on `count` values, and on those that once failed.

    Fewer than 1000 values are the same in every run; others by GEN_PRIOR_CHAOS_SEED.
    """

    def test(value: T) -> None:
        check(value)

    test = given(strategy)(test)
    for value in known:
        test = example(value)(test)
    chosen = os.environ.get("GEN_PRIOR_CHAOS_SEED")
    if chosen is not None:
        test = seed(int(chosen))(test)
    repeatable: dict[str, Any] = {
        "derandomize": count < 1000 and chosen is None,
        "database": None,
        "deadline": None,
    }
    quick = settings(max_examples=count, suppress_health_check=list(HealthCheck), **repeatable)
    quick(test)()


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` with some bytes changed, cut out, repeated or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([1, 1, 1, 2, 4, 8, 64, 1 << 20])))
        kind = draw(st.sampled_from(["change", "cut", "repeat", "insert", "extreme"]))
        if kind == "change":
            data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start)) if end - start < 99 else b""
        elif kind == "cut":
            del data[start:end]
        elif kind == "repeat":
            data[start:start] = data[start:end][:4096]
        elif kind == "insert":
            data[start:start] = draw(st.binary(max_size=8))
        else:
            data[start:end] = draw(st.sampled_from([b"\xff", b"\0", b"\x7f"])) * min(end - start, 64)
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, valid: Any) -> Any:
    """`valid` with some values replaced, and some keys or entries removed."""
    value = deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(value) or [(None, None)]))
        if holder is None:
            return draw(JSON_VALUES)
        if draw(st.booleans()) or isinstance(holder, list):
            holder[key] = draw(JSON_VALUES)
        else:
            holder.pop(key, None)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def as_text(value: Any) -> str:
    """JSON text, with the numbers that Python's reader takes but JSON has not."""
    return json.dumps(value)


@st.composite
def damaged_header(draw: st.DrawFn, valid: bytes) -> bytes:
    """A safetensors file with some values of its header, metadata included, replaced or removed."""
    length = int.from_bytes(valid[:8], "little")
    header = json.loads(valid[8 : 8 + length])
    metadata = header.get("__metadata__")
    if metadata and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(metadata)))
        with suppress(ValueError):
            metadata[name] = as_text(draw(damaged_json(json.loads(metadata[name]))))
    else:
        header = draw(damaged_json(header))
    text = as_text(header).encode()
    return len(text).to_bytes(8, "little") + text + valid[8 + length :]
