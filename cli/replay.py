"""`gen-prior replay DIR`: repeat a saved synthesis and compare every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_remark
from gen_prior.errors import GenPriorError, OutputError
from gen_prior.util.files import is_file
from gen_prior.util.words import counted


class DifferentError(GenPriorError):
    """The repeated images differ from the saved ones."""


@with_classifier_options
def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that gen-prior synth or compare wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="The original device if not given.")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            "-c",
            metavar="NAME",
            help="The classifier, where it is code of your own (MODULE:NAME), which is imported and run only if you "
            "name it.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Repeat a saved synthesis, or every method of a comparison, and report whether all images are bit-identical.

    The exit code is 1 if an image differs, as it may on another device or with other versions.

    Example: [bold]gen-prior replay gen-prior-out/synth-goldfish[/bold]
    """
    from gen_prior.applications.compare import load_comparison
    from gen_prior.optimise.result_folder import RECORD
    from gen_prior.report.comparison_sheet import RECORD as COMPARISON

    if is_file(folder / RECORD) or not is_file(folder / COMPARISON):
        parts = [folder]
    else:
        parts = [folder / method["folder"] for method in load_comparison(folder).record["methods"]]
        if not parts:
            raise OutputError(f"no method of the comparison in {folder} is finished", fix="run compare again")
    reports = [_replay(part, device, classifier, network_options) for part in parts]
    if as_json:
        print_json(reports)
    for report in reports:
        whole = report["images"] + report["not_finished"]
        count = (f"the {report['images']} finished of " if report["not_finished"] else "") + counted(whole, "image")
        words = f"{report['folder']}: {count}, "
        words += (
            "identical to the bit" if report["identical"] else f"up to {report['largest_difference']:.3g} different"
        )
        if not as_json and not quiet:
            console.print(words, markup=False, soft_wrap=True)
        for name, (then, now) in report["changed"].items():
            print_remark(f"{report['folder']}: {name} was {then}, is {now}", quiet=quiet)
    if not all(report["identical"] for report in reports):
        largest = max(report["largest_difference"] for report in reports)
        raise DifferentError(f"the replay differs by up to {largest:.3g}, in images with values from 0 to 1")


def _replay(folder: Path, device: str | None, name: str | None, network_options: dict[str, Any]) -> dict[str, Any]:
    """Repeat the result in `folder`, with the classifier `name` if it is given, and report the differences."""
    import tempfile

    import torch

    import gen_prior
    from gen_prior.classifiers import load_described as load_described_classifier
    from gen_prior.generators import load_described
    from gen_prior.optimise.stored_result import UNFINISHED

    saved = gen_prior.load_result(folder)
    where = device or saved.settings["environment"]["device"]
    if name is not None:
        classifier = gen_prior.load_classifier(name, device=where, **network_options)
    else:
        classifier = load_described_classifier(saved.settings["classifier"], device=where)
    generator = load_described(saved.settings["generator"], device=where)
    same, largest = True, 0.0
    with tempfile.TemporaryDirectory(prefix="gen-prior-replay-") as place:  # memory does not grow with their number
        again = saved.replay(classifier, generator, out=place)
        for before, after in zip(saved, again, strict=True):
            first, second = before.image, after.image
            same &= torch.equal(first, second) and torch.equal(before.code, after.code)
            largest = max(largest, float((second - first).abs().max()))
    then, now = saved.settings["environment"], again.settings["environment"]
    unfinished = sum(row.count(UNFINISHED) for row in saved.status)
    return {
        "folder": str(folder),
        "images": saved.activations.numel() - unfinished,
        "not_finished": unfinished,
        "identical": same,
        "largest_difference": largest,
        "changed": {name: [value, now.get(name)] for name, value in then.items() if now.get(name) != value},
    }
