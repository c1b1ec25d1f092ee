"""What `synth` makes of its results on request: films, transparency, receptive fields, natural images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from gen_prior.cli.output import note
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator
    from gen_prior.optimise.result import Result

Record = Annotated[
    str | None,
    typer.Option("--record", metavar="every=N", help="Also a film and a strip of every N-th step of each image."),
]
Film = Annotated[
    str | None, typer.Option("--film", metavar="KIND", help="Of --record: gif (the default), webp or mp4.")
]
Transparent = Annotated[
    bool, typer.Option("--transparent", help="Also each image as RGBA, opaque where the gradient was (MACO).")
]
Crop = Annotated[bool, typer.Option("--crop-to-receptive-field", help="Also each image cropped to what its unit sees.")]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Also, beside the images, those of this folder that excite it most."),
]


class Extras:
    """Around a synthesis: `with` it, synthesize through `generator`, pass `record`; then `write`.

    What can be refused is refused here, before anything is synthesised; films are written even after Ctrl-C.
    """

    def __init__(
        self,
        generator: Generator,
        out: Path,
        names: list[str],
        *,
        record: str | None,
        film: str | None,
        transparent: bool,
        images: Path | None,
    ) -> None:
        from gen_prior.applications.exemplars import check_folder
        from gen_prior.report.film import Recorder
        from gen_prior.report.transparency import Transparency

        if film is not None and record is None:
            raise OptionError("--film is that of --record, which is not given", fix="--record every=5")
        every = _every(record) if record is not None else 1
        self.recorder = Recorder(every, out=out, names=names, kind=film or "gif") if record is not None else None
        self.clear = Transparency() if transparent else None
        self.generator = generator if self.clear is None else self.clear.watch(generator)
        self.out, self.images = out, images
        if images is not None:
            check_folder(images)

    def __enter__(self) -> Extras:
        if self.recorder is not None:
            self.recorder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.recorder is not None:
            self.recorder.__exit__(kind, error, trace)

    @property
    def record(self) -> Callable[[int, int, Tensor], None] | None:
        """What to pass to `synthesize`."""
        watchers = [watcher for watcher in (self.recorder, self.clear) if watcher is not None]

        def tell(first: int, step: int, images: Tensor) -> None:
            for watcher in watchers:
                watcher(first, step, images)

        return tell if watchers else None

    def write(self, result: Result, classifier: Classifier, *, crop: bool, quiet: bool) -> None:
        """Write what was asked for beside the results, named like them."""
        from gen_prior.util.image_io import write_png

        out, names = self.out, result.names()
        flat = result.images.flatten(0, 1)
        if self.clear is not None:
            for name, image in zip(names, self.clear.rgba(result.images).flatten(0, 1), strict=True):
                write_png(out / f"{name}-rgba.png", image)
        units = [target["target"] for target in result.targets]
        if crop:
            from gen_prior.objectives.receptive_field import receptive_field

            for t, unit in enumerate(units):
                box = receptive_field(classifier, unit)
                for s in range(len(result.seeds)):
                    place = t * len(result.seeds) + s
                    write_png(out / f"{names[place]}-field.png", box.crop(flat[place]))
        if self.images is not None:
            from gen_prior.applications.exemplars import find_exemplars
            from gen_prior.report.grid import mosaic

            told: set[str] = set()

            def tell_once(message: str) -> None:
                if message not in told:  # each target goes through the same folder
                    note(message, quiet=quiet)
                told.add(message)

            for t, unit in enumerate(units):
                found = find_exemplars(classifier, unit, self.images, count=8, on_bad=tell_once)
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
