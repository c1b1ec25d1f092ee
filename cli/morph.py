"""`gen-prior morph GOLDFISH TABBY`: a film from one class, unit or photograph to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_table
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder

if TYPE_CHECKING:
    from gen_prior.applications.morph import Morph


@with_classifier_options
def run(
    ends: Annotated[
        list[str],
        typer.Argument(
            metavar="END END...",
            show_default=False,
            help="Two or more: classes or units as synth takes them, or image files.",
        ),
    ],
    frames: Annotated[
        int | None, typer.Option("--frames", help="Images from each end to the next; 24 if not given.")
    ] = None,
    film: Annotated[str | None, typer.Option("--film", metavar="KIND", help="gif (default), webp or mp4.")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second of the film; 12 if not given.")] = None,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the start.")] = 0,
    generator: options.GeneratorName = defaults.GENERATOR,
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
    """Go from one class, unit or photograph to another, through the codes of a generator.

    Writes every frame, morph.gif (there and back), morph-strip.png, and numbers.csv: how strongly the units of all
    ends respond to each frame. The unit of a photograph is the class that the classifier sees in its image.

    Example: [bold]gen-prior morph goldfish tabby --film webp --out morphed[/bold]
    """
    names = [Path(end).stem if _is_file(end) else end for end in ends]
    with run_folder(out, "morph", names) as folder:
        from gen_prior.applications.morph import morph
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.report.film import check_film
        from gen_prior.report.pages.gallery import keep_gallery
        from gen_prior.util.image_io import read_image

        path, speed = folder / f"morph.{film or 'gif'}", 12.0 if fps is None else fps
        check_film(path, speed)
        given = [read_image(end) if _is_file(end) else end for end in ends]
        network = load_classifier(classifier, device=device, **network_options)
        prior = load_generator(generator, device=network.device, **options.generator_options(None, image_size))
        with ProgressBar(quiet) as bar:
            made = morph(
                network, given, prior, names=names, steps=steps, seed=seed, batch=batch, out=folder,
                overwrite=overwrite, progress=bar.show, **options.given(frames=frames),
            )  # fmt: skip
        made.film(path, fps=speed)
        keep_gallery(folder, html)
    if as_json:
        print_json({"out": str(folder), "film": str(path)} | made.to_dict() | {"numbers": made.rows()})
    elif not quiet:
        _print(made)
        console.print(str(path), markup=False, soft_wrap=True)


def _is_file(end: str) -> bool:
    """True for the path of an image, there or not; targets may hold dots and slashes, but do not end so."""
    return Path(end).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def _print(made: Morph) -> None:
    """The activations at the ends and, between them, at the frame that is nearest to half way."""
    frames = (len(made.images) - 1) // (len(made.names) - 1)  # from one end to the next
    places = [number * frames + half for number in range(len(made.names) - 1) for half in (0, frames // 2)]
    middle = f"{frames // 2 / frames:.2g} of the way" if frames % 2 else "half way"
    columns = ["unit", *(name for end in made.names for name in (end, middle))][:-1]
    rows = [
        [unit, *(f"{float(made.activations[frame, number]):.3g}" for frame in [*places, len(made.images) - 1])]
        for number, unit in enumerate(made.units)
    ]
    print_table("Activation", columns, rows, right=tuple(columns[1:]))
