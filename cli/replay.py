"""`gen-prior replay DIR`: run a saved synthesis again and compare every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli import options
from gen_prior.cli.output import note, print_json
from gen_prior.errors import GenPriorError


class DifferentError(GenPriorError):
    """The replay did not give the saved images."""


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that gen-prior synth wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="The one it was made on if not given.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a saved synthesis again, and say whether every image is the same to the bit.

    Exit code 1, and the largest difference, where one is not: another device, other versions or weights.

    Example: [bold]gen-prior replay gen-prior-out[/bold]
    """
    import torch

    import gen_prior

    saved = gen_prior.load_result(folder)
    classifier = gen_prior.load_classifier(saved.settings["classifier"]["name"], device=device) if device else None
    again = saved.replay(classifier=classifier)
    difference = float((again.images - saved.images).abs().max())
    same = torch.equal(again.images, saved.images) and torch.equal(again.codes, saved.codes)
    changed = {
        name: [value, again.settings["environment"].get(name)]
        for name, value in saved.settings["environment"].items()
        if again.settings["environment"].get(name) != value
    }
    if as_json:
        print_json({"folder": str(folder), "identical": same, "largest_difference": difference, "changed": changed})
    count = saved.activations.numel()
    if same:
        if not as_json and not quiet:
            print(f"{count} image{'s' * (count != 1)}: identical to the bit")
        return
    for name, (then, now) in changed.items():
        note(f"{name} was {then}, is {now}", quiet=quiet)
    raise DifferentError(f"the replay differs: by up to {difference:.3g} in images whose values lie in 0 to 1")
