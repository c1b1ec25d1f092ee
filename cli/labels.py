"""`gen-prior labels QUERY`: search for class names."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import print_json, print_table
from gen_prior.errors import OptionError, TargetError


@with_classifier_options
def run(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Part of a name, a synonym or a WordNet id.")],
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME",
            help="The classifier whose classes are searched; ImageNet's if not given.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Search for class names; if none contains the query, those of similar spelling are shown.

    Example: [bold]gen-prior labels retriever[/bold]
    """
    from gen_prior.classifiers.labels import imagenet

    labels = imagenet()
    if classifier is not None:
        import gen_prior

        known = gen_prior.load_classifier(classifier, device="cpu", **network_options).labels
        if known is None:
            raise OptionError(f"{classifier} has no class names, only indices")
        labels = known
    found = labels.search(query)
    if as_json:
        print_json(
            [
                {"index": x.index, "name": x.name, "wordnet_id": x.wordnet_id, "synonyms": list(x.synonyms)}
                for x in found
            ]
        )
    if not found:
        raise TargetError(f"no class name contains {query!r} or has a similar spelling")
    if not as_json:
        rows = [[str(x.index), x.name, x.wordnet_id or "-", ", ".join(x.synonyms)] for x in found]
        print_table("", ["number", "name", "WordNet", "also"], rows, right=("number",))
