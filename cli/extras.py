"""What `synth` makes of its results on request: films, transparency, receptive fields, natural images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gen_prior.cli.output import note
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator
    from gen_prior.results import Result

Record = Annotated[
    str | None,
    typer.Option("--record", metavar="every=N", help="Also a film and a strip of every N-th step of each image."),
]
Film = Annotated[str, typer.Option("--film", metavar="KIND", help="Of --record: gif, webp or mp4.")]
Transparent = Annotated[
    bool, typer.Option("--transparent", help="Also each image as RGBA, opaque where the gradient was (MACO).")
]
Crop = Annotated[bool, typer.Option("--crop-to-receptive-field", help="Also each image cropped to what its unit sees.")]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Also, beside the images, those of this folder that excite it most."),
]


class Extras:
    """Watches a synthesis: synthesize through `generator`, pass `record`, then `write`."""

    def __init__(self, generator: Generator, record: str | None, film: str, transparent: bool) -> None:
        from gen_prior.trajectories import Recorder
        from gen_prior.transparency import Transparency

        self.recorder = Recorder(_every(record), kind=film) if record is not None else None
        self.clear = Transparency() if transparent else None
        self.generator = generator if self.clear is None else self.clear.watch(generator)

    @property
    def record(self) -> Callable[[int, int, Tensor], None] | None:
        """What to pass to `synthesize`."""
        watchers = [watcher for watcher in (self.recorder, self.clear) if watcher is not None]

        def tell(first: int, step: int, images: Tensor) -> None:
            for watcher in watchers:
                watcher(first, step, images)

        return tell if watchers else None

    def write(
        self, result: Result, classifier: Classifier, out: Path, *, crop: bool, images: Path | None, quiet: bool
    ) -> None:
        """Write what was asked for beside the results, named like them."""
        from gen_prior.files import write_png

        names = result.names()
        flat = result.images.flatten(0, 1)
        if self.recorder is not None:
            self.recorder.save(out, names)
        if self.clear is not None:
            for name, image in zip(names, self.clear.rgba(result.images).flatten(0, 1), strict=True):
                write_png(out / f"{name}-rgba.png", image)
        units = [target["target"] for target in result.targets]
        if crop:
            from gen_prior.receptive_fields import receptive_field

            for t, unit in enumerate(units):
                box = receptive_field(classifier, unit)
                for s in range(len(result.seeds)):
                    place = t * len(result.seeds) + s
                    write_png(out / f"{names[place]}-field.png", box.crop(flat[place]))
        if images is not None:
            from gen_prior.exemplars import find_exemplars
            from gen_prior.mosaic import mosaic

            for t, unit in enumerate(units):
                found = find_exemplars(
                    classifier, unit, images, count=8, on_bad=lambda message: note(message, quiet=quiet)
                )
                made = list(result.images[t])
                rows = [made, [exemplar.image for exemplar in found], [exemplar.seen for exemplar in found]]
                numbers = [f"{value:.3g}" for value in result.activations[t].tolist()]
                natural = [f"{exemplar.activation:.3g}" for exemplar in found]
                sheet = mosaic(
                    rows, captions=[numbers, natural, []], row_names=["synthesised", "natural", "seen by the unit"]
                )
                write_png(out / f"{names[t * len(result.seeds)].rsplit('-seed', 1)[0]}-exemplars.png", sheet)


def _every(text: str) -> int:
    match = re.fullmatch(r"(?:every=)?(\d+)", text.strip())
    if not match:
        raise OptionError(f"--record takes every=N, got {text!r}", fix="--record every=5")
    return int(match[1])
