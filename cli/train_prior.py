"""The commands that train a prior: `train-prior` runs all stages of a recipe, `train-prior stage NAME` runs one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.network import takes_network
from gen_prior.cli.output import console, errors, note, print_json, print_table
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from gen_prior.util.progress import Progress

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that an earlier stage, or export, wrote.")]
Images = Annotated[
    list[Path],
    typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder, nested or flat, or .tar shards."),
]
MaybeImages = Annotated[
    list[Path] | None,
    typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder or .tar shards; repeatable."),
]
Large = Annotated[
    list[Path] | None,
    typer.Option("--large", metavar="DIR", help="Larger photographs, a few hundred, for the fine part; repeatable."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints, log, sheets and the result.")]
MaybeOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Stages, index.html and the result.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Settings of all stages, in TOML; see --print-recipe.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")]
Plan = Annotated[bool, typer.Option("--plan", help="Only measure: print stages, time, memory and disk.")]
Print = Annotated[bool, typer.Option("--print-recipe", help="Only print the recipe, every setting explained.")]
Hours = Annotated[
    float | None, typer.Option("--hours", metavar="H", help="Choose the numbers of steps so that it takes this long.")
]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", metavar="FILE", help="Start with the networks.safetensors of another run."),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the library's default if not given.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Photographs per step.")]
Layouts = Annotated[int | None, typer.Option("--layouts", help="Photographs for each class; 8 if not given.")]
Size = Annotated[int | None, typer.Option("--size", help="Side of the coarse images: 64, 128 or 256.")]
Width = Annotated[float | None, typer.Option("--width", help="Factor on the channels of the generator.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, e.g. adversarial_weight=0.15."),
]
StageSet = Annotated[
    list[str] | None, typer.Option("--set", metavar="STAGE.NAME=VALUE", help="Any setting, e.g. flow.steps=2000.")
]
LOSSES = ("pixel", "feature", "fool", "flow", "held_out", "kept", "coarse", "rough")
"""The losses that the progress line shows."""
S = TypeVar("S")

app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich", add_completion=False)
stage_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", add_completion=False)
app.add_typer(stage_app, name="stage", help="Run one stage: make a prior, or extend the prior of an earlier stage.")


@app.callback()
@takes_network
def train_prior(
    context: typer.Context,
    images: MaybeImages = None,
    large: Large = None,
    out: MaybeOut = None,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    recipe: RecipeFile = None,
    resume: Resume = False,
    plan: Plan = False,
    print_recipe: Print = False,
    hours: Hours = None,
    others: StageSet = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    size: Annotated[int | None, typer.Option("--size", hidden=True)] = None,
    width: Annotated[float | None, typer.Option("--width", hidden=True)] = None,
    steps: Annotated[int | None, typer.Option("--steps", hidden=True)] = None,
    batch: Annotated[int | None, typer.Option("--batch", hidden=True)] = None,
    start_from: Annotated[Path | None, typer.Option("--start-from", hidden=True)] = None,
    *,
    network_options: dict[str, Any],
) -> None:
    """Train a generator prior for a classifier, all stages of it, and export it as a folder that loads by its path.

    Needs a folder of photographs and no settings. What is done is kept: --resume goes on at any stage, along the same
    trajectory. index.html in --out shows each stage's pictures and numbers.

    Example: [bold]gen-prior train-prior --classifier efficientnet-lite0 --images photographs --out my-prior[/bold]
    """
    if context.invoked_subcommand is not None:
        return
    own = options.given(size=size, width=width, steps=steps, batch=batch)
    if own or start_from or any("." not in setting.partition("=")[0] for setting in others or ()):
        _deprecated("train-prior with settings of one stage", "decoder")
        if not images or out is None:
            raise OptionError("training needs --images and --out")
        _run("decoder", out, own, others, quiet, as_json, classifier, device, network_options, images=images,
             resume=resume, start_from=start_from)  # fmt: skip
        return
    from gen_prior import load_classifier
    from gen_prior.training.pipeline import train_all
    from gen_prior.training.plan import measured_plan, within
    from gen_prior.training.recipe import TrainingRecipe, read_recipe, recipe_text, with_settings

    stored = out / "recipe.toml" if resume and out is not None and recipe is None and not images else None
    given = stored if stored is not None and stored.exists() else recipe
    chosen = read_recipe(given) if given is not None else TrainingRecipe(classifier=classifier)
    chosen = chosen.with_sources(images, large)
    chosen = with_settings(chosen, options.parse_settings(others, example="rate=0.001"))
    if print_recipe:
        print(recipe_text(chosen), end="")
        return
    if out is None and not plan:
        raise OptionError("the result needs a folder", fix="pass --out DIR")
    network = load_classifier(chosen.classifier, device=device, **network_options)
    with reporting(out or Path(), quiet) as callbacks:
        fresh = plan or not (resume and out is not None and (out / "recipe.toml").exists())
        expected = measured_plan(chosen, network, callbacks["progress"]) if fresh else None
        if expected is not None and hours is not None:
            chosen, expected = within(hours, chosen, expected)
        if expected is not None and not as_json and not quiet:
            print_table("", ["stage", "steps", "s/step", "hours", "memory", "disk"], expected.rows(), right=("steps",))
        if plan:
            if as_json and expected is not None:
                print_json(expected.to_dict())
            return
        assert out is not None
        file = train_all(chosen, out, network, resume=resume, **callbacks)
    announce(file, out, as_json, quiet)


def _run(
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
        given = options.given(steps=steps, batch=batch)
        _run(name, out, given, others, quiet, as_json, classifier, device, network_options, prior=prior, images=images,
             resume=resume)  # fmt: skip

    run.__doc__ = help_text
    _register(name, old, takes_network(run))


def _register(name: str, old: str | None, run: Callable[..., None]) -> None:
    """Register `train-prior stage NAME`, and the hidden command `old`, which warns."""
    stage_app.command(name)(run)
    if old is None:
        return

    from functools import wraps

    @wraps(run)
    def deprecated(*arguments: Any, **named: Any) -> None:
        _deprecated(old, name)
        run(*arguments, **named)

    OLD_COMMANDS[old] = deprecated


def _deprecated(old: str, name: str) -> None:
    note(f"{old} is deprecated since 0.2: use gen-prior train-prior stage {name}")


OLD_COMMANDS: dict[str, Callable[..., None]] = {}
"""Names of version 0.1 of commands that are `train-prior stage NAME` today."""


@takes_network
def decoder(
    images: Images,
    out: Out,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    large: Large = None,
    size: Size = None,
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
    """Make a prior: train an encoder and a decoder that invert a classifier's features on photographs."""
    given = options.given(size=size, width=width, steps=steps, batch=batch)
    _run("decoder", out, given, others, quiet, as_json, classifier, device, network_options, images=images,
         large=large, resume=resume, start_from=start_from)  # fmt: skip


@takes_network
def class_exemplars(
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
    """
    given = options.given(layouts=layouts)
    _run("class-exemplars", out, given, None, quiet, as_json, classifier, device, network_options, prior=prior,
         images=images)  # fmt: skip


def texture(
    prior: Prior,
    out: Out,
    resume: Resume = False,
    steps: Steps = None,
    others: Set = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a prior to draw no texture near its mean code, and export it.

    No photograph has a code there, and critics fill it with a woven texture, in which optimisations get stuck. Takes a
    few minutes on a CPU, and neither photographs nor the classifier.
    """
    _run("texture", out, options.given(steps=steps), others, quiet, as_json, None, device, {}, prior=prior,
         resume=resume)  # fmt: skip


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


@contextmanager
def reporting(out: Path, quiet: bool) -> Iterator[dict[str, Any]]:
    """The callbacks `progress` and `report` of training, shown as one line; Ctrl-C says what `out` holds."""
    from gen_prior.training.checkpoints import checkpoints

    with errors.status("starting", spinner="line") as status:
        if quiet:
            status.stop()

        def progress(done: Progress) -> None:
            status.update(f"{done.label}: {done.done} of {done.total}")

        def report(record: dict[str, Any]) -> None:
            left = (record["steps"] - record["step"]) * record["seconds"] / record["step"]
            losses = ", ".join(f"{name} {record[name]:.4g}" for name in LOSSES if name in record)
            status.update(
                f"step {record['step']} of {record['steps']}, {record['images_per_second']:.0f} images/s, "
                f"{losses}, {left / 60:.0f} min left"
            )

        try:
            yield {"progress": progress, "report": report}
        except KeyboardInterrupt:
            saved = [path for folder in (out, *out.glob("*-*/")) for path in checkpoints(folder)]
            kept = f"{saved[0].name} is in {out}; go on with --resume" if saved else "no checkpoint was written yet"
            raise KeyboardInterrupt(f"stopped; {kept}") from None


def announce(file: Path, out: Path, as_json: bool, quiet: bool) -> None:
    """Print where the trained generator is and how to load it."""
    if as_json:
        print_json({"out": str(out), "file": str(file), "generator": f"local-dir:{out}"})
    elif not quiet:
        console.print(f"{file}: load it with --generator local-dir:{out}", markup=False, soft_wrap=True)
