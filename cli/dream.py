"""`gen-prior dream IMAGE`: DeepDream on a photograph, as one picture or as a film of the feedback loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.dream_through import through_generator
from gen_prior.cli.output import console, print_json
from gen_prior.cli.progress import StepBar, keeping


def run(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False, help="A photograph, any size.")],
    layer: Annotated[str | None, typer.Option("--layer", metavar="LAYER", help="Raise all of this layer.")] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TARGET", help="Or one class or unit; blocks.9 if neither is given."),
    ] = None,
    octaves: Annotated[
        int | None, typer.Option("--octaves", help="Sizes worked on, each 1.4 times the one before; 4 if not given.")
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", help="Feed the dream back in this often; through a generator, film its climb.")
    ] = 1,
    zoom: Annotated[
        float | None, typer.Option("--zoom", help="Enlarge by this factor from frame to frame; 1.05 if not given.")
    ] = None,
    rotate: Annotated[
        float | None, typer.Option("--rotate", help="Turn by this many degrees from frame to frame.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Per octave (12); through a generator, in all (60).")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="Factor on the step (1.0); through a generator, the furthest way (0.3)."),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option("--through", metavar="GENERATOR", help="Dream through this prior from the photo's code."),
    ] = None,
    film: Annotated[
        str | None, typer.Option("--film", metavar="KIND", help="Of --frames: gif (the default), webp or mp4.")
    ] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second of the film; 12 if not given.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the jitter.")] = 0,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = Path(defaults.OUT),
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Dream on a photograph: raise everything that a layer sees in it.

    Writes dream.png; with --frames, also frame-0000.png, ... as each is done.
    Of those that are done, also after Ctrl-C, dream.gif and dream-strip.png.

    Example: [bold]gen-prior dream photo.jpg --layer blocks.9 --octaves 4 --frames 20 --zoom 1.05 --film mp4[/bold]
    """
    with keeping(out):
        from gen_prior.applications.dream import dream_frames
        from gen_prior.classifiers import load_classifier
        from gen_prior.report.film import FrameFolder, check_film
        from gen_prior.util.image_io import read_image, write_png

        _refuse("--through", through is None, octaves=octaves, zoom=zoom, rotate=rotate)
        _refuse("a single frame", frames > 1 or through is not None, zoom=zoom, rotate=rotate)
        _refuse("a single frame", frames > 1, film=film, fps=fps)
        kind, fps = film or "gif", 12.0 if fps is None else fps
        check_film(f"dream.{kind}", fps)
        picture = read_image(image)
        network = load_classifier(classifier, device=device)
        if layer is None and target is None:
            layer = "blocks.9"
        wanted = options.given(
            target=target, steps=steps, strength=strength, seed=seed, batch=batch, precision=precision
        )
        written = [out / "dream.png"]
        with StepBar(quiet) as bar:
            if through is not None:
                written += through_generator(through, network, picture, layer, wanted, out, frames, kind, fps, bar)
            else:
                folder, finished = FrameFolder(out), 0
                made = dream_frames(
                    network, picture, layer, frames=frames, **options.given(octaves=octaves, zoom=zoom, rotate=rotate),
                    progress=lambda frame, count, done, total, score: bar.work(
                        f"frame {frame + 1} of {count}", frame * total + done, count * total, None
                    ), **wanted,
                )  # fmt: skip
                try:
                    for frame in made:
                        write_png(out / "dream.png", frame)
                        if frames > 1:
                            if not finished:  # only now: a slip of the pen must not cost the run before
                                folder.clear()
                            folder.write(finished, frame)
                            finished += 1
                finally:  # also after Ctrl-C: what is finished is playable
                    written += folder.animate("dream", kind=kind, fps=fps) if finished else []
    if as_json:
        print_json({"out": str(out), "files": [str(path) for path in written]})
    else:
        for path in [] if quiet else written:
            console.print(str(path), markup=False, soft_wrap=True)


def _refuse(where: str, fits: bool, **given: object) -> None:
    """An option that would be ignored is refused."""
    from gen_prior.errors import OptionError

    if not fits and (names := list(options.given(**given))):
        fix = "leave one of them out" if where.startswith("--") else "add --frames 20, or leave it out"
        raise OptionError(f"--{names[0]} means nothing with {where}", fix=fix)
