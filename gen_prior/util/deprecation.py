"""Old public names that keep working, with a warning that names the new one."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def deprecated_alias(old: str, new: str, function: Callable[P, T]) -> Callable[P, T]:
    """`function` under its name of version 0.1, `old`: every call gives a DeprecationWarning that names `new`."""

    @functools.wraps(function)
    def warn_and_call(*args: P.args, **kwargs: P.kwargs) -> T:
        warnings.warn(f"{old} is called {new} since 0.2", DeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    return warn_and_call
