"""Further outputs of `gen-prior synth`: films, transparent images, crops to receptive fields, natural images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared.output import print_remark, print_remarks
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator
    from gen_prior.optimise.result import Result
    from gen_prior.report.transparency import Transparency

Record = Annotated[
    str | None,
    typer.Option("--record", metavar="every=N", help="Also write an animation and a strip of every N-th step."),
]
Film = Annotated[
    str | None, typer.Option("--film", metavar="KIND", help="Animation of --record: gif (default), webp or mp4.")
]
Transparent = Annotated[
    bool, typer.Option("--transparent", help="Also write images as RGBA, opaque where gradients were large (MACO).")
]
Crop = Annotated[
    bool, typer.Option("--crop-to-receptive-field", help="Also write images cropped to the unit's receptive field.")
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Also write what the classifier saw: a hidden unit's image at its place.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Also write a sheet of the images of this folder to which the unit responds most.",
    ),
]
Faithfulness = Annotated[
    bool,
    typer.Option(
        "--faithfulness",
        help="Also measure how true the images are to their units, beside the photographs of --images and controls; "
        "takes several times as long again.",
    ),
]
Judge = Annotated[
    str, typer.Option("--judge", metavar="NAME", help="Another classifier, whose features --faithfulness uses.")
]


class ExtraOutputs:
    """Further outputs of a synthesis with `record`; use as a context, then call `write`.

    Options are checked here, before anything is synthesised; films are written even after Ctrl-C.
    """

    def __init__(
        self,
        out: Path,
        names: list[str],
        *,
        record: str | None,
        film: str | None,
        transparent: bool,
        crop: bool,
        in_place: bool,
        images: Path | None,
        quiet: bool,
        faithfulness: bool = False,
        judge: str = defaults.JUDGE,
    ) -> None:
        from gen_prior.applications.photographs import check_folder
        from gen_prior.report.film import Recorder
        from gen_prior.report.transparency import Transparency

        if film is not None and record is None:
            raise OptionError("--film needs --record, which is not given", fix="--record every=5")
        if faithfulness and images is None:
            raise OptionError("--faithfulness needs photographs, which are not given", fix="--images DIR")
        self.faithfulness, self.judge = faithfulness, judge
        self.panels: list[dict[str, Any] | None] | None = None
        """The faithfulness of each target, once it is measured."""
        self.recorder = None
        if record is not None:
            self.recorder = Recorder(_every(record), out=out, names=names, kind=film or "gif", keep=False)
        self.transparency = Transparency() if transparent else None
        self.out, self.crop, self.in_place, self.images, self.quiet = out, crop, in_place, images, quiet
        if images is not None:
            check_folder(images)

    def __enter__(self) -> ExtraOutputs:
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
        """The `record` argument of `synthesize`."""
        callbacks = [callback for callback in (self.recorder, self.transparency) if callback is not None]

        def call_all(first: int, step: int, images: Tensor) -> None:
            for callback in callbacks:
                callback(first, step, images)

        return call_all if callbacks else None

    def write(self, result: Result, classifier: Classifier, generator: Generator) -> None:
        """Write the outputs beside the results, named like them."""
        if self.transparency is not None:
            self._write_transparent(self.transparency, result)
        if self.crop or self.in_place:
            self._write_inputs(result, classifier)
        if self.images is not None:
            self._write_exemplars(self.images, result, classifier)
        if self.faithfulness and self.images is not None:
            self._measure_faithfulness(self.images, result, classifier, generator)

    def _note(self, message: str) -> None:
        print_remark(message, quiet=self.quiet)

    def _write_transparent(self, transparency: Transparency, result: Result) -> None:
        import torch

        from gen_prior.util.image_io import write_png

        for number, item in enumerate(result):  # one by one: memory does not grow with their number
            image = item.image
            alpha = transparency.alpha(number, (image.shape[1], image.shape[2]))
            write_png(self.out / f"{item.name}-rgba.png", torch.cat([image, alpha[None]]))

    def _write_inputs(self, result: Result, classifier: Classifier) -> None:
        """Write what the classifier saw: whole, cropped to the unit's receptive field, or both."""
        from gen_prior.objectives.receptive_field import receptive_field
        from gen_prior.util.image_io import write_png

        names = iter(result.names())
        for t, target in enumerate(result.targets):
            box = receptive_field(classifier, target["target"]) if self.crop else None
            for image in result.inputs(t, classifier):
                name = next(names)
                if self.in_place:
                    write_png(self.out / f"{name}-in-place.png", image)
                if box is not None:
                    write_png(self.out / f"{name}-field.png", box.crop(image))

    def _measure_faithfulness(self, folder: Path, result: Result, classifier: Classifier, generator: Generator) -> None:
        from gen_prior.applications.faithfulness import faithfulness
        from gen_prior.cli.shared.progress import ProgressBar
        from gen_prior.util.files import write_json

        with ProgressBar(self.quiet) as bar:
            self.panels = faithfulness(result, classifier, generator, folder, judge=self.judge, progress=bar.show)
        listed = [
            {"name": target["name"], "target": target["target"], "faithfulness": panel}
            for target, panel in zip(result.targets, self.panels, strict=True)
        ]
        write_json(self.out / "faithfulness.json", listed)  # not in result.json, which says what can be replayed
        mixes = [one["name"] for one in listed if one["faithfulness"] is None]
        print_remarks({"not one unit, so its faithfulness is not measured": mixes} if mixes else {}, quiet=self.quiet)

    def _write_exemplars(self, folder: Path, result: Result, classifier: Classifier) -> None:
        from gen_prior.applications.exemplars import find_exemplars, write_exemplar_sheets
        from gen_prior.cli.shared.progress import ProgressBar
        from gen_prior.util.files import write_json

        targets = [target["target"] for target in result.targets]
        with ProgressBar(self.quiet) as bar:
            found = find_exemplars(classifier, targets, folder, on_bad=self._note, progress=bar.show)
        write_exemplar_sheets(result, found, self.out)
        listed = [
            {"name": target["name"], "target": target["target"], "photographs": [one.to_dict() for one in best]}
            for target, best in zip(result.targets, found, strict=True)
        ]
        write_json(self.out / "exemplars.json", listed)


def _every(text: str) -> int:
    """N of "every=N" or "N"."""
    match = re.fullmatch(r"(?:every=)?(\d{1,9})", text.strip())
    if not match:
        raise OptionError(f"--record takes every=N, got {text!r}", fix="--record every=5")
    return int(match[1])
