"""`gen-prior accentuate PHOTO TARGET`: what a unit responds to in a photograph, by altering it a little towards it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_table
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder

LAYER = "blocks.4"


@with_classifier_options
def run(
    image: Annotated[Path, typer.Argument(metavar="PHOTO", show_default=False, help="An image; its centre is used.")],
    targets: options.Targets,
    layer: Annotated[
        str, typer.Option("--layer", metavar="LAYER", help="Stay near the photograph in the features of this layer.")
    ] = LAYER,
    nearness: Annotated[
        float | None,
        typer.Option(
            "--nearness",
            help="Weight of the distance from the photograph; 20 if not given, 10 through a prior; 0 for none.",
        ),
    ] = None,
    through: Annotated[
        str,
        typer.Option("--through", metavar="GENERATOR", help="fourier, as published, or a prior such as dgn-lite0."),
    ] = "fourier",
    steps: options.Steps = None,
    film: Annotated[
        str | None,
        typer.Option("--film", metavar="KIND", help="Also write a film and a strip: gif, webp or mp4."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random views.")] = 0,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Alter a photograph so that a unit responds more, while a layer hardly sees a difference (feature accentuation).

    Writes an image for each target as it is finished, accentuation-sheet.png (photograph, altered image, what
    changed), numbers.csv and accentuation.json; after Ctrl-C, of those that are finished.

    Example: [bold]gen-prior accentuate photo.jpg tabby blocks.10:42 --out accentuated[/bold]
    """
    with run_folder(out, "accentuate", [image.stem, *targets]) as folder:
        from gen_prior.applications.accentuate import accentuate
        from gen_prior.applications.accentuation import RECORD
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.report.pages.gallery import keep_gallery
        from gen_prior.util.image_io import read_image

        picture = read_image(image)
        network = load_classifier(classifier, device=device, **network_options)
        with ProgressBar(quiet) as bar:
            made = accentuate(
                network, picture, targets, load_generator(through, device=network.device), layer=layer,
                nearness=nearness, steps=steps, seed=seed, batch=batch, precision=precision, out=folder,
                overwrite=overwrite, film=film, progress=bar.show,
            )  # fmt: skip
        keep_gallery(folder, html)
    if as_json:
        print_json({"out": str(folder), "record": RECORD} | made.to_dict())
    elif not quiet:
        rows = [
            [one.name, f"{one.start_activation:.3g}", f"{one.activation:.3g}", f"{one.distance:.3f}"]
            for one in made.images
        ]
        columns = ["target", "photograph", "accentuated", f"distance at {layer}"]
        print_table("Activation", columns, rows, right=tuple(columns[1:]))
        console.print(str(folder / "accentuation-sheet.png"), markup=False, soft_wrap=True)
