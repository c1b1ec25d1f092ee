"""`gen-prior invert IMAGE --layer L`: reconstructions of an image from its features at some layers."""

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


@with_classifier_options
def run(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False, help="An image; its centre is used.")],
    layer: Annotated[
        list[str],
        typer.Option("--layer", metavar="LAYER", show_default=False, help="A layer; repeatable, in any order."),
    ],
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator", "-g", metavar="NAME", help="A generator; repeatable. dgn-lite0 and pixel if not given."
        ),
    ] = None,
    distance: Annotated[
        str, typer.Option("--distance", help="l2, or cosine (independent of the features' norm).")
    ] = "l2",
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style", metavar="LAYER", help="Also match the Gram matrices (texture) at this layer; repeatable."
        ),
    ] = None,
    style_weight: Annotated[
        float | None, typer.Option("--style-weight", help="Weight of --style against the features; 1 if not given.")
    ] = None,
    steps: options.Steps = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the start.")] = 0,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    batch: options.Batch = None,
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Reconstruct an image from its features at some layers, through a prior and in pixels.

    Writes inversion.png (a row for each generator, a column for each layer), every reconstruction, and inversion.json.

    Example: [bold]gen-prior invert photo.jpg --layer blocks.2 --layer blocks.10 --layer logits --out inverted[/bold]
    """
    with run_folder(out, "invert", [image.stem]) as folder:
        from gen_prior.applications.invert import invert
        from gen_prior.classifiers import load_classifier
        from gen_prior.errors import OptionError
        from gen_prior.generators import load_generator
        from gen_prior.report.pages.gallery import keep_gallery
        from gen_prior.util.image_io import read_image

        if style_weight is not None and not style:
            raise OptionError("--style-weight needs --style, which is not given", fix="--style blocks.2")
        picture = read_image(image)
        network = load_classifier(classifier, device=device, **network_options)
        names = generator or [defaults.GENERATOR, "pixel"]
        generators = {name: load_generator(name, device=network.device) for name in names}
        with ProgressBar(quiet) as bar:
            found = invert(
                network, picture, layer, generators, distance=distance, style_layers=style or (), steps=steps,
                seed=seed, batch=batch, out=folder, overwrite=overwrite, progress=bar.show,
                **options.given(style_weight=style_weight),
            )  # fmt: skip
        keep_gallery(folder, html)
    if as_json:
        print_json({"out": str(folder)} | found.to_dict())
    elif not quiet:
        rows = [
            [name, *(f"{row[each].error:.4f}" for each in found.layers)] for name, row in found.reconstructions.items()
        ]
        print_table("Relative squared feature error", ["generator", *found.layers], rows, right=tuple(found.layers))
        console.print(str(folder / "inversion.png"), markup=False, soft_wrap=True)
