"""`gen-prior benchmark [CLASSIFIER]`: the whole protocol for any classifier and generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder


@with_classifier_options
def run(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="A classifier; see gen-prior models.")
    ] = defaults.CLASSIFIER,
    generators: Annotated[
        list[str],
        typer.Option("--generators", "-g", metavar="NAME", help="A generator or preset, as for compare; repeatable."),
    ] = [defaults.GENERATOR, "fourier"],  # noqa: B006
    judge: Annotated[str, typer.Option("--judge", metavar="NAME", help="Another classifier.")] = defaults.JUDGE,
    units: Annotated[int, typer.Option("--units", help="Hidden units, drawn by a fixed hash.")] = 8,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="LAYER", help="Layers of the units; repeatable; four depths if not given."),
    ] = None,
    classes: Annotated[int, typer.Option("--classes", help="Classes, drawn by a fixed hash.")] = 8,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Photographs: for distances, and for the faithfulness of units."),
    ] = None,
    seeds: options.Seeds = 2,
    evaluations: Annotated[
        int, typer.Option("--steps", "--evaluations", help="Classifier evaluations for each image.")
    ] = defaults.EVALUATIONS,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Measure generators on classes and hidden units of a classifier: one table, in Markdown and JSON.

    Finished targets are kept in the output folder. With the same settings and --out it goes on from there, also to more
    generators, classes or units.

    Example: [bold]gen-prior benchmark efficientnet-lite0 --units 8 --classes 8 --images photographs[/bold]
    """
    with run_folder(out, "benchmark", [classifier]) as folder:
        import gen_prior
        from gen_prior.report.benchmark_table import markdown
        from gen_prior.report.pages.gallery import keep_gallery

        network = gen_prior.load_classifier(classifier, device=device, **network_options)
        arbiter = gen_prior.load_classifier(judge, device=device)
        with ProgressBar(quiet) as bar:
            record = gen_prior.benchmark(
                network, generators, folder, judge=arbiter, units=units, layers=layers, classes=classes, images=images,
                seeds=seeds, evaluations=evaluations, precision=precision, overwrite=overwrite, progress=bar.show,
            )  # fmt: skip
        keep_gallery(folder, html)
    if as_json:
        print_json({"out": str(folder)} | record)
    elif not quiet:
        console.print(markdown(record), markup=False, soft_wrap=True)
        console.print(f"table, numbers and images in {folder}", markup=False, soft_wrap=True)
