"""(registry, name or `prefix:rest`, options) -> what is registered under it, built or loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gen_prior.errors import DeviceError, OptionError, UnknownNameError
from gen_prior.util.devices import is_missing_memory

T = TypeVar("T")
_OF_OPTIONS = ("unexpected keyword argument", "multiple values for argument")
"""Python's messages for an option that a function does not take, or that is its first argument."""


def build(kind: str, registry: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, Any]) -> T:
    """Build the entry called `name` with its options.

    Raises `UnknownNameError` with close matches, `OptionError` for options that it does not take.
    """
    if name not in registry:
        raise UnknownNameError(kind, name, registry)
    try:
        return registry[name](**options)
    except TypeError as error:
        raise OptionError(f"{kind} {name!r}: {str(error).partition('() ')[2] or error}") from error


def find_loader(
    kind: str,
    spec: str,
    named: Mapping[str, Callable[..., T]],
    prefixed: Mapping[str, Callable[..., T]],
    fix: Callable[[str], str],
) -> Callable[..., T]:
    """The loader of `spec`, a name or `prefix:rest`, as a function of options; a source is never guessed.

    Raises `UnknownNameError`, which ends with `fix(spec)`. The loader raises `OptionError` for an unknown option,
    `DeviceError` where memory runs out.
    """
    prefix, colon, rest = spec.partition(":")
    if spec in named:
        loader, argument = named[spec], spec
    elif colon and prefix in prefixed:
        loader, argument = prefixed[prefix], rest
    else:
        known = [*named, *(f"{name}:..." for name in prefixed)]
        raise UnknownNameError(kind, spec, known, fix=fix(spec))

    def load(**options: Any) -> T:
        try:
            return loader(argument, **options)
        except TypeError as error:
            if not any(words in str(error) for words in _OF_OPTIONS):
                raise
            raise OptionError(f"{spec} does not take {str(error).rpartition(' ')[2]} as an option") from error
        except (MemoryError, RuntimeError) as error:
            if not is_missing_memory(error):
                raise
            raise DeviceError(f"there is too little memory to load {spec}", fix="end other programs") from error

    return load
