"""`gen-prior dream IMAGE`: DeepDream on a photograph, as one picture or as a film of the feedback loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.output import console, print_json
from gen_prior.cli.progress import StepBar, keeping

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.classifiers import Classifier


def run(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", show_default=False, help="A photograph, any size.")],
    layer: Annotated[str | None, typer.Option("--layer", metavar="LAYER", help="Raise all of this layer.")] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TARGET", help="Or one class or unit; blocks.9 if neither is given."),
    ] = None,
    octaves: Annotated[int, typer.Option("--octaves", help="Sizes worked on, each 1.4 times the one before.")] = 4,
    frames: Annotated[int, typer.Option("--frames", help="Feed the dream back in this often.")] = 1,
    zoom: Annotated[float, typer.Option("--zoom", help="Enlarge by this factor from frame to frame.")] = 1.05,
    rotate: Annotated[float, typer.Option("--rotate", help="Turn by this many degrees from frame to frame.")] = 0.0,
    steps: Annotated[int | None, typer.Option("--steps", help="Per octave (12); through a generator, in all.")] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="Factor on the step (1.0); through a generator, the furthest way (0.3)."),
    ] = None,
    through: Annotated[
        str | None,
        typer.Option("--through", metavar="GENERATOR", help="Dream through this prior from the photo's code."),
    ] = None,
    film: Annotated[str, typer.Option("--film", metavar="KIND", help="gif, webp or mp4.")] = "gif",
    fps: Annotated[float, typer.Option("--fps", help="Frames per second of the film.")] = 12.0,
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

    Writes dream.png; with --frames, frame-0000.png, ... as each is done, and dream.gif from those that are.

    Example: [bold]gen-prior dream photo.jpg --layer blocks.9 --octaves 4 --frames 20 --zoom 1.05 --film mp4[/bold]
    """
    with keeping(out):
        from gen_prior.classifiers import load_classifier
        from gen_prior.files import read_image, write_png
        from gen_prior.trajectories import FrameFolder, check_kind

        animation = out / f"dream.{film}"
        check_kind(animation)
        picture = read_image(image)
        network = load_classifier(classifier, device=device)
        if layer is None and target is None:
            layer = "blocks.9"
        if through is not None:
            written = _through(
                network, picture, through, layer, target, out, steps or 60, 0.3 if strength is None else strength,
                seed, quiet, film if frames > 1 else None, fps,
            )  # fmt: skip
        else:
            from gen_prior.dreaming import dream_frames

            folder, written = FrameFolder(out), [out / "dream.png"]
            folder.clear()
            with StepBar(quiet) as bar:
                made = dream_frames(
                    network, picture, layer, target=target, octaves=octaves, frames=frames, zoom=zoom, rotate=rotate,
                    steps=12 if steps is None else steps, strength=1.0 if strength is None else strength, seed=seed,
                    batch=batch, precision=precision,
                    progress=lambda frame, count, done, total, score: bar.work(
                        f"frame {frame + 1} of {count}", frame * total + done, count * total, None
                    ),
                )  # fmt: skip
                try:
                    for number, frame in enumerate(made):
                        write_png(out / "dream.png", frame)
                        if frames > 1:
                            folder.write(number, frame)
                finally:  # also after Ctrl-C: what is finished is playable
                    if frames > 1 and folder.animate(animation, fps=fps) is not None:
                        written.append(animation)
    if as_json:
        print_json({"out": str(out), "files": [str(path) for path in written]})
    else:
        for path in [] if quiet else written:
            console.print(str(path), markup=False, soft_wrap=True)


def _through(
    eyes: Classifier, picture: Tensor, name: str, layer: str | None, target: str | None, out: Path, steps: int,
    strength: float, seed: int, quiet: bool, film: str | None, fps: float,
) -> list[Path]:  # fmt: skip
    from gen_prior.dreaming import dream_through
    from gen_prior.files import write_png
    from gen_prior.fitting import encode, square
    from gen_prior.generators import load_generator
    from gen_prior.mosaic import mosaic
    from gen_prior.trajectories import Recorder, write_animation

    photo = square(picture)
    generator = load_generator(name, device=eyes.device)
    recorder = Recorder(2)
    with StepBar(quiet) as bar:
        code = encode(generator, photo, progress=bar.steps, seed=seed)
        result = dream_through(
            eyes, generator, code, layer, target=target, strength=strength, seeds=[seed], steps=steps,
            progress=bar.steps, record=recorder,
        )  # fmt: skip
    start = generator(code[None].to(generator.device))[0].cpu()
    final = result.images[0, 0]
    write_png(out / "dream.png", final)
    numbers = [f"{float(result.start_activations[0, 0]):.3g}", f"{float(result.activations[0, 0]):.3g}"]
    sheet = mosaic(
        [[photo, start, final]],
        captions=[["", f"activation {numbers[0]}", f"activation {numbers[1]}"]],
        column_names=["photograph", f"its code in {name}", f"dream, strength {strength:g}"],
        side=192,
    )
    write_png(out / "dream-sheet.png", sheet)
    written = [out / "dream.png", out / "dream-sheet.png"]
    if film is not None:
        frames = [frame.float() / 255 for frame in recorder.frames[0]]
        written.append(write_animation(out / f"dream.{film}", frames, fps=fps))
    return written
