"""The commands that train a prior stage by stage: train-prior, and those that extend the prior of an earlier stage."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.network import takes_network
from gen_prior.cli.output import console, errors, print_json
from gen_prior.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from gen_prior.training.settings import TrainingSettings
    from gen_prior.util.progress import Progress

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that an earlier stage, or export, wrote.")]
Images = Annotated[
    Path, typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder, nested or flat, or .tar shards.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints, log, contact sheets and the result.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", metavar="FILE", help="Start with the networks.safetensors of another run."),
]
Size = Annotated[int, typer.Option("--size", help="Side of the generator's images: 64, 128 or 256.")]
Width = Annotated[float | None, typer.Option("--width", help="Factor on the channels of the generator.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the library's default if not given.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Photographs per step.")]
Layouts = Annotated[int | None, typer.Option("--layouts", help="Photographs for each class; 8 if not given.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other training setting, e.g. adversarial_weight=0.15."),
]
LOSSES = ("pixel", "feature", "fool", "flow", "held_out", "kept", "coarse", "rough")
"""The losses that the progress line shows."""

S = TypeVar("S", bound="TrainingSettings")


@takes_network
def train_prior(
    images: Images,
    out: Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    size: Size = 64,
    resume: Resume = False,
    start_from: StartFrom = None,
    steps: Steps = None,
    width: Width = None,
    batch: Batch = None,
    others: Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Train a generator prior that inverts a classifier, and export it as a folder that loads by its path.

    Ctrl-C leaves the last checkpoint; --resume goes on from it along the same trajectory.

    Example: [bold]gen-prior train-prior --classifier efficientnet-lite0 --images photographs --out my-prior[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages import decoder

    given = options.given(steps=steps, width=width, batch=batch)
    settings = changed(decoder.DecoderSettings(size=size, **given), others or ())
    network = load_classifier(classifier, device=device, **network_options)
    with reporting(out, settings.batch, quiet) as callbacks:
        file = decoder.train_decoder(network, images, out, settings, resume=resume, start_from=start_from, **callbacks)
    announce(file, out, as_json, quiet)


def _extension(stage: str, function: str, settings_class: str, help_text: str) -> Callable[..., None]:
    """A command that extends a prior with photographs, by `function` of the module `stage`."""

    def run(
        prior: Prior,
        images: Images,
        out: Out,
        classifier: options.ClassifierName = defaults.CLASSIFIER,
        resume: Resume = False,
        steps: Steps = None,
        batch: Batch = None,
        others: Set = None,
        device: options.Device = "auto",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
        *,
        network_options: dict[str, Any],
    ) -> None:
        from gen_prior import load_classifier

        module = import_module(f"gen_prior.training.stages.{stage}")
        settings = changed(getattr(module, settings_class)(**options.given(steps=steps, batch=batch)), others or ())
        network = load_classifier(classifier, device=device, **network_options)
        with reporting(out, settings.batch, quiet) as callbacks:
            file = getattr(module, function)(network, prior, images, out, settings, resume=resume, **callbacks)
        announce(file, out, as_json, quiet)

    run.__doc__ = help_text
    return takes_network(run)


refine_prior = _extension(
    "larger_images",
    "train_larger_images",
    "RefinerSettings",
    """Train a refiner that doubles the side of a prior's images; both are exported as one generator.

    A few hundred photographs are enough, since many squares are cut out of each. A refiner that the prior has is
    trained on, with a flow (flow-prior) on the codes that come of it. After detail-prior, which leaves a refiner out,
    a new one doubles the side once more.

    Example: [bold]gen-prior refine-prior my-prior --images large-photographs --out my-prior-128[/bold]
    """,
)
detail_prior = _extension(
    "fine_code",
    "train_fine_code",
    "FineCodeSettings",
    """Add a fine part with four times as many positions to a prior's code, for images of twice the side.

    The part of the finer code that the coarse one predicts is fitted; the fine part holds the rest. One decoder draws
    both. A few hundred photographs are enough, since many squares are cut out of each. A refiner of refine-prior is
    left out; run that again afterwards.

    Example: [bold]gen-prior detail-prior my-prior --images large-photographs --out my-prior-detailed[/bold]
    """,
)
flow_prior = _extension(
    "flow",
    "train_flow",
    "FlowSettings",
    """Train a flow that predicts photographs' codes from the classifier's features, and export the prior with it.

    The prior's decoder does not change. Images of a class then start from the features that it asks for, so they have
    its colours from the start; layout-prior adds the form.

    Example: [bold]gen-prior flow-prior my-prior --images photographs --out my-prior-flow[/bold]
    """,
)


@takes_network
def layout_prior(
    prior: Prior,
    images: Images,
    out: Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    layouts: Layouts = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Store for each class the codes of photographs that look most like it, and export the prior with them.

    Nothing is trained. Each seed of a class then starts with the coarse form of one of these photographs, which need
    not be of that class: its image is composed like a photograph from the start.

    Example: [bold]gen-prior layout-prior my-prior-flow --images photographs --out my-prior-layouts[/bold]
    """
    from gen_prior import load_classifier
    from gen_prior.training.stages import class_exemplars

    settings = class_exemplars.ExemplarSettings(**options.given(layouts=layouts))
    network = load_classifier(classifier, device=device, **network_options)
    with reporting(out, 1, quiet) as callbacks:
        file = class_exemplars.add_class_exemplars(
            network, prior, images, out, settings, progress=callbacks["progress"]
        )
    announce(file, out, as_json, quiet)


def calm_prior(
    prior: Prior,
    out: Out,
    resume: Resume = False,
    steps: Steps = None,
    others: Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Train a prior to draw no texture near its mean code, and export it.

    No photograph has a code there, and critics fill it with a woven texture, in which optimisations get stuck. Takes a
    few minutes on a CPU, and neither photographs nor the classifier.

    Example: [bold]gen-prior calm-prior my-prior-flow --out my-prior-calm[/bold]
    """
    from gen_prior.training.stages import texture

    settings = changed(texture.TextureSettings(**options.given(steps=steps)), others or ())
    with reporting(out, settings.batch, quiet) as callbacks:
        report = callbacks["report"]
        file = texture.suppress_texture(prior, out, settings, device=device, resume=resume, report=report)
    announce(file, out, as_json, quiet)


def changed(settings: S, assignments: Sequence[str]) -> S:
    """`settings` with `NAME=VALUE` assignments made. Raises `UnknownNameError`, `OptionError`."""
    from gen_prior.training.settings import RENAMED

    known = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name not in known and name in RENAMED:
            warnings.warn(f"the setting {name} is called {RENAMED[name]} since 0.2", DeprecationWarning, stacklevel=2)
            name = RENAMED[name]
        if name not in known:
            raise UnknownNameError("training setting", name, sorted(known))
        try:
            value = json.loads(text) if not isinstance(known[name], str) else text
        except ValueError:
            value = None
        if not equals or not _fits(value, known[name]):
            kind = type(known[name]).__name__
            raise OptionError(
                f"--set takes NAME=VALUE, {name} a value like {known[name]!r} ({kind}), got {assignment!r}"
            )
        values[name] = type(known[name])(value)
    return replace(settings, **values)


def _fits(value: Any, like: Any) -> bool:
    """Return whether `value`, read from text, has the type of `like`."""
    if isinstance(like, tuple):
        return isinstance(value, list) and len(value) == len(like) and all(map(_fits, value, like))
    if isinstance(like, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(like)


@contextmanager
def reporting(out: Path, batch: int, quiet: bool) -> Iterator[dict[str, Any]]:
    """The callbacks `progress` and `report` of a training stage, shown as one line; Ctrl-C says what `out` holds."""
    from gen_prior.training.checkpoints import checkpoints

    with errors.status("starting", spinner="line") as status:
        if quiet:
            status.stop()

        def progress(done: Progress) -> None:
            status.update(f"{done.label}: {done.done} of {done.total}")

        def report(record: dict[str, Any]) -> None:
            left = (record["steps"] - record["step"]) * batch / max(record["images_per_second"], 1e-9)
            losses = ", ".join(f"{name} {record[name]:.4g}" for name in LOSSES if name in record)
            status.update(
                f"step {record['step']} of {record['steps']}, {record['images_per_second']:.0f} images/s, "
                f"{losses}, {left / 60:.0f} min left"
            )

        try:
            yield {"progress": progress, "report": report}
        except KeyboardInterrupt:
            saved = checkpoints(out)
            kept = f"{saved[0].name} is in {out}; go on with --resume" if saved else "no checkpoint was written yet"
            raise KeyboardInterrupt(f"stopped; {kept}") from None


def announce(file: Path, out: Path, as_json: bool, quiet: bool) -> None:
    """Print where the trained generator is and how to load it."""
    if as_json:
        print_json({"out": str(out), "file": str(file), "generator": f"local-dir:{out}"})
    elif not quiet:
        console.print(f"{file}: load it with --generator local-dir:{out}", markup=False, soft_wrap=True)
