"""`gen-prior models`: the classifiers and generators that have a name."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.output import console, print_json, print_remark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gen_prior.hub.registry import Entry


def run(
    query: Annotated[
        str, typer.Argument(metavar="[TEXT]", show_default=False, help="List only names that contain this.")
    ] = "",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the named classifiers and generators with their sources, licences and whether they are cached.

    A source is a commit, which is pinned, or a branch, which may move. Piped or in a file, each model is one line.

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
    print_models(found, cached)
    if not quiet:
        from gen_prior import classifiers, generators

        for kind, prefixes in (("classifiers", classifiers.PREFIXED), ("generators", generators.PREFIXED)):
            print_remark(f"Other {kind}: {', '.join(f'{prefix}:...' for prefix in prefixes)}")


def print_models(entries: Sequence[Entry], cached: Mapping[str, bool]) -> None:
    """Print each model on one line, columns aligned; on a terminal, source, licence and paper on lines below it."""
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        size = f"{entry.megabytes:.0f} MB" if entry.megabytes else ""
        at_hand = "cached" if cached[entry.name] else "not cached"
        source = f"{source_of(entry)}; {entry.licence}; {entry.paper}"
        if not console.is_terminal:
            facts = f"{entry.name:<{width}}  {entry.kind:<10}  {size:>6}  {at_hand:<10}  {source}"
            console.print(facts, markup=False, soft_wrap=True)
            continue
        console.print(
            f"{entry.name}  ({', '.join(filter(None, (entry.kind, size, at_hand)))})", markup=False, soft_wrap=True
        )
        for line in textwrap.wrap(source, max(console.width - 4, 40), break_long_words=False, break_on_hyphens=False):
            console.print(f"    {line}", markup=False, soft_wrap=True)


def source_of(entry: Entry) -> str:
    """Source of the weights: "org/name at COMMIT", or the branch, which is not pinned."""
    if entry.repo is None:
        return "installed with the package"
    is_commit = entry.revision is not None and len(entry.revision) == 40
    place = f"at {(entry.revision or '')[:8]}" if is_commit else f"branch {entry.revision or 'main'}, not pinned"
    return f"{entry.repo} {place}"
