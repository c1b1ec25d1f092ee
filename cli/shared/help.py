"""Commands and groups whose help shows no type beside options that take no value."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command without types of flags in its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        return _without_types_of_flags(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands without types of flags in its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        return _without_types_of_flags(super().get_params(ctx))


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
