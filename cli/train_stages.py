"""`train-prior stage NAME`: one stage of training, which makes a prior or extends one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options, training_options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.help import PlainCommand, PlainGroup
from gen_prior.cli.shared.output import print_remark
from gen_prior.cli.shared.training_output import announce, reporting

app = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich", add_completion=False)
OLD_COMMANDS: dict[str, Callable[..., None]] = {}
"""Names of version 0.1 of commands that are `train-prior stage NAME` today."""


def train_stage(
    name: str,
    out: Path,
    given: dict[str, Any],
    others: Sequence[str] | None,
    quiet: bool,
    as_json: bool,
    classifier: str | None,
    device: str,
    network_options: dict[str, Any],
    **arguments: Any,
) -> None:
    """Run one stage with the settings that were given."""
    from gen_prior import load_classifier
    from gen_prior.training.settings import with_values
    from gen_prior.training.stage import run_stage
    from gen_prior.training.stages import STAGES

    kind = STAGES[name]
    settings = with_values(with_values(kind.Settings(), given), options.parse_settings(others, example="rate=0.001"))
    network = load_classifier(classifier, device=device, **network_options) if classifier is not None else None
    with reporting(out, quiet) as callbacks:
        file = run_stage(kind, out, settings, classifier=network, device=device, **arguments, **callbacks)
    announce(file, out, as_json, quiet)


def _extension(name: str, old: str, help_text: str) -> None:
    """Register the stage `name`, which extends a prior with photographs; also under its name of version 0.1."""

    def run(
        prior: training_options.Prior,
        images: training_options.Images,
        out: training_options.Out,
        classifier: options.ClassifierName = defaults.CLASSIFIER,
        resume: training_options.Resume = False,
        steps: training_options.Steps = None,
        batch: training_options.Batch = None,
        others: training_options.Set = None,
        device: options.Device = "auto",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
        *,
        network_options: dict[str, Any],
    ) -> None:
        given = options.given(steps=steps, batch=batch)
        train_stage(
            name, out, given, others, quiet, as_json, classifier, device, network_options,
            prior=prior, images=images, resume=resume,
        )  # fmt: skip

    run.__doc__ = help_text
    _register(name, old, with_classifier_options(run))


def _register(name: str, old: str | None, run: Callable[..., None]) -> None:
    """Register `train-prior stage NAME`, and the hidden command `old`, which warns."""
    app.command(name, cls=PlainCommand)(run)
    if old is None:
        return

    @wraps(run)
    def deprecated(*arguments: Any, **named: Any) -> None:
        warn_of_old_name(old, name)
        run(*arguments, **named)

    OLD_COMMANDS[old] = deprecated


def warn_of_old_name(old: str, name: str) -> None:
    """Print that the command `old` of version 0.1 is now `train-prior stage NAME`."""
    print_remark(f"{old} is deprecated since 0.2: use gen-prior train-prior stage {name}")


@with_classifier_options
def decoder(
    images: training_options.Images,
    out: training_options.Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    large: training_options.Large = None,
    size: training_options.Size = None,
    resume: training_options.Resume = False,
    start_from: training_options.StartFrom = None,
    steps: training_options.Steps = None,
    width: training_options.Width = None,
    batch: training_options.Batch = None,
    others: training_options.Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Make a prior: train an encoder and a decoder that invert a classifier's features on photographs."""
    given = options.given(size=size, width=width, steps=steps, batch=batch)
    train_stage(
        "decoder", out, given, others, quiet, as_json, classifier, device, network_options,
        images=images, large=large, resume=resume, start_from=start_from,
    )  # fmt: skip


@with_classifier_options
def class_exemplars(
    prior: training_options.Prior,
    images: training_options.Images,
    out: training_options.Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    layouts: training_options.Layouts = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Store for each class the codes of photographs that look most like it, and export the prior with them.

    Nothing is trained. Each seed of a class then starts with the coarse form of one of these photographs, which need
    not be of that class: its image is composed like a photograph from the start.
    """
    given = options.given(layouts=layouts)
    train_stage(
        "class-exemplars", out, given, None, quiet, as_json, classifier, device, network_options,
        prior=prior, images=images,
    )  # fmt: skip


def texture(
    prior: training_options.Prior,
    out: training_options.Out,
    resume: training_options.Resume = False,
    steps: training_options.Steps = None,
    others: training_options.Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a prior to draw no texture near its mean code, and export it.

    No photograph has a code there, and critics fill it with a woven texture, in which optimisations get stuck. Takes a
    few minutes on a CPU, and neither photographs nor the classifier.
    """
    train_stage(
        "texture", out, options.given(steps=steps), others, quiet, as_json, None, device, {},
        prior=prior, resume=resume,
    )  # fmt: skip


_register("decoder", None, decoder)
_extension(
    "larger-images",
    "refine-prior",
    """Train a refiner that doubles the side of a prior's images; both are exported as one generator.

    A few hundred photographs are enough, since many squares are cut out of each. A refiner that the prior has is
    trained on, with a flow on the codes that come of it. After fine-code, which leaves a refiner out, a new one doubles
    the side once more.
    """,
)
_extension(
    "flow",
    "flow-prior",
    """Train a flow that predicts photographs' codes from the classifier's features, and export the prior with it.

    The prior's decoder does not change. Images of a class then start from the features that it asks for, so they have
    its colours from the start; class-exemplars adds the form.
    """,
)
_register("texture", "calm-prior", texture)
_extension(
    "fine-code",
    "detail-prior",
    """Add a fine part with four times as many positions to a prior's code, for images of twice the side.

    The part of the finer code that the coarse one predicts is fitted; the fine part holds the rest. One decoder draws
    both. A few hundred photographs are enough, since many squares are cut out of each. A refiner of larger-images is
    left out; run that again afterwards.
    """,
)
_register("class-exemplars", "layout-prior", class_exemplars)
