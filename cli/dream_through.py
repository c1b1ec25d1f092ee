"""`gen-prior dream --through GENERATOR`: the dream as a climb of the photograph's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_prior.cli.progress import StepBar

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.classifiers import Classifier

STEPS, STRENGTH = 60, 0.3


def through_generator(
    name: str,
    eyes: Classifier,
    picture: Tensor,
    layer: str | None,
    wanted: dict[str, Any],
    out: Path,
    frames: int,
    kind: str,
    fps: float,
    bar: StepBar,
) -> list[Path]:
    """Write dream.png, a sheet and, for several frames, the film of the climb; returns all but the first.

    `wanted` are options of `dream_through`, with the seed as `seed`.
    """
    from gen_prior.applications.dream import dream_through, objective_of
    from gen_prior.applications.encode import encode, square
    from gen_prior.errors import OptionError
    from gen_prior.generators import load_generator
    from gen_prior.report.film import Recorder, film_and_strip
    from gen_prior.report.grid import mosaic
    from gen_prior.util.image_io import write_png

    wanted = {"steps": STEPS, "strength": STRENGTH} | wanted
    seed, steps, strength = wanted.pop("seed"), wanted["steps"], wanted["strength"]
    if frames < 1 or steps < 1:
        raise OptionError(f"frames and steps must be at least 1, got {frames} and {steps}")
    objective_of(eyes, layer, wanted.get("target"))
    photo = square(picture)
    generator = load_generator(name, device=eyes.device)
    recorder = Recorder(-(-steps // max(1, frames - 1)), kind=kind, fps=fps)  # and the final image
    written = [out / "dream-sheet.png"]
    code = encode(generator, photo, progress=bar.steps, seed=seed)
    try:
        result = dream_through(
            eyes, generator, code, layer, seeds=[seed], progress=bar.steps, record=recorder, **wanted
        )
    finally:  # also after Ctrl-C: what was climbed is playable
        if frames > 1 and recorder.frames:
            pictures = [frame.float() / 255 for frame in recorder.frames[0]]
            written += film_and_strip(out, "dream", pictures, kind, fps)
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
    return written
