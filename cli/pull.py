"""`gen-prior pull NAME...`: download, check and convert weights in advance."""

from __future__ import annotations

from typing import Annotated

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.output import console, print_json

Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="REVISION", help="Commit, tag or branch, instead of the pinned commit."),
]


def run(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", show_default=False, help="Names of gen-prior models, or hf-hub:org/name."),
    ],
    revision: Revision = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download, check and convert the weights of these models, so that they can be loaded offline.

    Example: [bold]gen-prior pull caffenet deepsim-fc6[/bold]
    """
    from gen_prior.applications.publish import pull

    pulled = {name: pull(name, revision=revision) for name in dict.fromkeys(names)}
    if as_json:
        print_json(
            {
                name: {"source": p.source, "revision": p.revision, "sha256": dict(p.sha256), "licence": p.licence}
                for name, p in pulled.items()
            }
        )
        return
    if not quiet:
        for name, p in pulled.items():
            commit = f" at {p.revision[:12]}" if p.revision else ""
            console.print(f"{name}: {p.source}{commit}, licence: {p.licence}", markup=False, soft_wrap=True)
