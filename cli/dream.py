"""`gen-prior dream IMAGE`: DeepDream on a photograph, as one image or as an animation of the feedback loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.applications.dream_folder import DreamFolder
    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator

LAYER, THROUGH_STEPS, THROUGH_STRENGTH = "blocks.9", 60, 0.3
GUIDE_LAYER = "blocks.11"


@with_classifier_options
def run(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False, help="A photograph of any size.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="LAYER",
            help=f"Maximise this layer; {LAYER} if not given, {GUIDE_LAYER} with --guide. With --style, match the "
            "style at this layer; repeatable; stem, blocks.1, blocks.2 and blocks.4 if not given.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="TARGET", help="Maximise this class or unit instead of a layer.")
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option("--guide", metavar="IMAGE", help="Maximise at each place what this image has most like it."),
    ] = None,
    style: Annotated[
        Path | None,
        typer.Option("--style", metavar="IMAGE", help="Take on the texture and colours of this image (Gram matrices)."),
    ] = None,
    octaves: Annotated[
        int | None, typer.Option("--octaves", help="Number of sizes, each 1.4 times the one before; 4 if not given.")
    ] = None,
    frames: Annotated[
        int,
        typer.Option("--frames", help="Dreams in a row, each of the last; with --through, frames of the optimisation."),
    ] = 1,
    zoom: Annotated[
        float | None, typer.Option("--zoom", help="Enlarge each frame by this factor; 1.05 if not given.")
    ] = None,
    rotate: Annotated[float | None, typer.Option("--rotate", help="Rotate each frame by this many degrees.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Steps per octave (12); with --through, steps in all (60).")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="Factor on the step size (1.0); with --through, the largest distance from the photograph's code, in "
            "standard deviations (0.3).",
        ),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option("--through", metavar="GENERATOR", help="Optimise the photograph's code in this generator."),
    ] = None,
    image_size: options.ImageSize = None,
    film: Annotated[
        str | None, typer.Option("--film", metavar="KIND", help="Animation of --frames: gif (default), webp or mp4.")
    ] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second of the film; 12 if not given.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random shifts.")] = 0,
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
    """Change a photograph so that everything a layer sees in it becomes stronger (DeepDream).

    Or so that it resembles another image: --guide makes its parts resemble those of the guide (guided dreaming), and
    --style gives it the texture and colours of the style image.

    Writes dream.png. With --frames, it also writes frame-0000.png, ... as each is done, dream.gif and
    dream-strip.png; after Ctrl-C, of the finished frames. With the same settings and --out, it goes on after the last
    frame, also to more frames.

    Example: [bold]gen-prior dream photo.jpg --layer blocks.9 --octaves 4 --frames 20 --zoom 1.05 --film mp4[/bold]
    """
    with run_folder(out, "dream", [image.stem]) as folder:
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.report.film import check_film
        from gen_prior.report.pages.gallery import keep_gallery
        from gen_prior.util.image_io import read_image

        if image_size is not None and through is None:
            raise OptionError(
                "a dream has the size of its photograph, --image-size is that of a generator",
                fix="leave it out, or dream in a generator: --through dgn-lite0",
            )
        _refuse("--through", through is None, octaves=octaves, zoom=zoom, rotate=rotate)
        _refuse("a single frame", frames > 1 or through is not None, zoom=zoom, rotate=rotate)
        _refuse("a single frame", frames > 1, film=film, fps=fps)
        output = _Output(folder, frames, film or "gif", 12.0 if fps is None else fps, overwrite)
        check_film(f"dream.{output.kind}", output.fps)
        picture = read_image(image)
        network = load_classifier(classifier, device=device, **network_options)
        given = _wanted(layer or [], target, guide, style) | options.given(
            steps=steps, strength=strength, seed=seed, batch=batch, precision=precision
        )
        with ProgressBar(quiet) as bar:
            if through is not None:
                prior = load_generator(through, device=network.device, **options.generator_options(None, image_size))
                written = _dream_through(prior, network, picture, given, output, bar)
            else:
                given |= options.given(octaves=octaves, zoom=zoom, rotate=rotate)
                written = _dream(network, picture, given, output, bar)
        keep_gallery(folder, html)
    if as_json:
        print_json({"out": str(folder), "files": [str(path) for path in written]})
    elif not quiet:
        for path in written:
            console.print(str(path), markup=False, soft_wrap=True)


def _wanted(layers: list[str], target: str | None, guide: Path | None, style: Path | None) -> dict[str, Any]:
    """The objective, as options of `dream`. Raises `OptionError` for several layers without a style."""
    from gen_prior.util.image_io import read_image

    if len(layers) > 1 and style is None:
        raise OptionError(f"only --style takes several layers, got {', '.join(layers)}", fix=f"--layer {layers[0]}")
    named: dict[str, Any] = options.given(target=target)
    named |= {"guide": read_image(guide)} if guide is not None else {}
    if style is not None:
        return named | {"style": read_image(style)} | ({"style_layers": tuple(layers)} if layers else {})
    default = GUIDE_LAYER if guide is not None else None if target is not None else LAYER
    return named | options.given(layer=layers[0] if layers else default)


@dataclass(frozen=True)
class _Output:
    """The folder and whether its run may be replaced; the animation's number of frames, kind and speed."""

    folder: Path
    frames: int
    kind: str
    fps: float
    overwrite: bool


def _dream(
    network: Classifier, picture: Tensor, given: dict[str, Any], output: _Output, bar: ProgressBar
) -> list[Path]:
    """Write each frame as it is done, then the animation; returns dream.png and the animation's files."""
    from gen_prior.applications.dream import dream_frames

    frames = dream_frames(
        network, picture, frames=output.frames, out=output.folder, overwrite=output.overwrite,
        film=output.kind, fps=output.fps, progress=bar.show, **given,
    )  # fmt: skip
    for _ in frames:
        pass
    made = [output.folder / name for name in ("dream.png", f"dream.{output.kind}", "dream-strip.png")]
    return made if output.frames > 1 else made[:1]


def _dream_through(
    generator: Generator, network: Classifier, picture: Tensor, given: dict[str, Any], output: _Output, bar: ProgressBar
) -> list[Path]:
    """Write dream.png, a sheet and, for several frames, an animation of the optimisation; returns their paths.

    What is finished is left as it is, and the photograph's code is found once.
    """
    from gen_prior.applications.dream import objective_of
    from gen_prior.applications.dream_folder import DreamFolder, dream_settings
    from gen_prior.optimise.memory import batch_sizes
    from gen_prior.util.devices import autocast
    from gen_prior.util.folders import remove_run

    given = {"steps": THROUGH_STEPS, "strength": THROUGH_STRENGTH} | given
    if output.frames < 1 or given["steps"] < 1:
        raise OptionError(f"frames and steps must be at least 1, got {output.frames} and {given['steps']}")
    what: dict[str, Any] = {"layer": None, "target": None}
    what |= {name: given[name] for name in ("layer", "target", "guide", "style", "style_layers") if name in given}
    objective_of(network, **what)
    # Refuse wrong options now: the photograph's code is written before they are used.
    autocast(given.get("precision", "auto"), network.device)
    batch_sizes(given.get("batch", 1))
    options = {"through": generator.describe(), "frames": output.frames}
    options |= {key: given[key] for key in given if key != "target"}
    settings = dream_settings(network, picture, given.get("target"), options)
    folder = DreamFolder(output.folder, settings, 1, overwrite=output.overwrite)
    film = [output.folder / f"dream.{output.kind}", output.folder / "dream-strip.png"] if output.frames > 1 else []
    if not folder.finished or not all(path.is_file() for path in film):
        if output.overwrite:
            remove_run(output.folder)
        _climb(folder, generator, network, picture, given, output, bar)
    sheet, *numbers = (output.folder / name for name in ("dream-sheet.png", "numbers.csv", "numbers.parquet"))
    return [output.folder / "dream.png", sheet, *film, *(path for path in numbers if path.is_file())]


def _climb(
    folder: DreamFolder,
    generator: Generator,
    network: Classifier,
    picture: Tensor,
    given: dict[str, Any],
    output: _Output,
    bar: ProgressBar,
) -> None:
    """Find the photograph's code, dream from it, and write all of it."""
    from gen_prior.applications.dream import dream_through
    from gen_prior.applications.encode import encode, square
    from gen_prior.applications.kept_code import kept_code
    from gen_prior.report.film import Recorder, film_and_strip
    from gen_prior.report.numbers import DREAM, NUMBERS
    from gen_prior.util.image_io import write_png
    from gen_prior.util.tables import write_tables

    seed, steps, options = given["seed"], given["steps"], {key: given[key] for key in given if key != "seed"}
    made_of = {"image": folder.settings["image"], "generator": generator.describe(), "seed": seed}
    code = kept_code(
        output.folder / "photograph-code.safetensors", made_of,
        lambda: encode(generator, square(picture), progress=bar.show, seed=seed),
    )  # fmt: skip
    recorder = Recorder(-(-steps // max(1, output.frames - 1)), kind=output.kind, fps=output.fps)  # and the final image
    try:
        result = dream_through(network, generator, code, seeds=[seed], progress=bar.show, record=recorder, **options)
    finally:  # after Ctrl-C too: an animation of the steps so far
        if output.frames > 1 and recorder.frames:
            pictures = [frame.float() / 255 for frame in recorder.frames[0]]
            labels = [f"step {step}" for step in recorder.steps[0]]
            film_and_strip(output.folder, "dream", pictures, output.kind, output.fps, labels)
    start = generator.final_images(code[None].to(generator.device))[0].cpu()
    numbers = {"start_activation": float(result.start_activations), "activation": float(result.activations)}
    row = {"image": "dream.png", "target": result.targets[0]["name"], "seed": seed} | numbers
    write_tables(output.folder, NUMBERS, [row], DREAM)
    values = [f"activation {value:.3g}" for value in numbers.values()]
    images = [square(picture), start, result.images[0, 0]]
    write_png(output.folder / "dream-sheet.png", _sheet(images, values, generator.name, given["strength"]))
    folder.keep(result.images[0, 0])  # last: a folder with it is finished


def _sheet(images: list[Tensor], values: list[str], name: str, strength: float) -> Tensor:
    """Photograph, the generator's image of its code, and the dream side by side."""
    from gen_prior.util.mosaic import mosaic

    names = ["photograph", f"its code in {name}", f"dream, strength {strength:g}"]
    return mosaic([images], captions=[["", *values]], column_names=names, side=192)


def _refuse(where: str, fits: bool, **given: object) -> None:
    """Raise `OptionError` for options that would have no effect."""
    if not fits and (names := list(options.given(**given))):
        fix = "leave one of them out" if where.startswith("--") else "add --frames 20, or leave it out"
        raise OptionError(f"--{names[0]} has no effect with {where}", fix=fix)
