"""`gen-prior models`: the classifiers and generators that have a name."""

from __future__ import annotations

from typing import Annotated

import typer

from gen_prior.cli import options
from gen_prior.cli.output import note, print_json, print_table


def run(
    query: Annotated[
        str, typer.Argument(metavar="[TEXT]", show_default=False, help="List only names that contain this.")
    ] = "",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the named classifiers and generators with their sources, licences and whether they are cached.

    Example: [bold]gen-prior models deepsim[/bold]
    """
    from gen_prior.hub.registry import ENTRIES, is_cached

    found = [entry for entry in ENTRIES if query.lower() in entry.name.lower()]
    cached = {entry.name: is_cached(entry) for entry in found}
    if as_json:
        print_json(
            [
                entry._asdict()
                | {"files": list(entry.files), "sha256": dict(entry.sha256), "cached": cached[entry.name]}
                for entry in found
            ]
        )
        return
    rows = [
        [
            entry.name,
            entry.kind,
            f"{entry.repo}\nat {(entry.revision or 'main')[:8]}" if entry.repo else "in the package",
            f"{entry.megabytes:.0f} MB" if entry.megabytes else "-",
            f"{entry.licence}\n{entry.paper}",
            "yes" if cached[entry.name] else "no",
        ]
        for entry in found
    ]
    print_table("", ["name", "kind", "source", "size", "licence and paper", "cached"], rows, right=("size",))
    if not quiet:
        from gen_prior import classifiers, generators

        for kind, prefixes in (("classifiers", classifiers.PREFIXED), ("generators", generators.PREFIXED)):
            note(f"Other {kind}: {', '.join(f'{prefix}:...' for prefix in prefixes)}")
