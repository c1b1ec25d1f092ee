"""`train-prior`: train a prior by all stages of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import train_stages
from gen_prior.cli.shared import options, training_options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.help import PlainGroup
from gen_prior.cli.shared.output import print_json, print_table
from gen_prior.cli.shared.training_output import announce, reporting
from gen_prior.cli.train_stages import train_stage, warn_of_old_name
from gen_prior.errors import OptionError
from gen_prior.util.files import is_file

app = typer.Typer(cls=PlainGroup, invoke_without_command=True, rich_markup_mode="rich", add_completion=False)
app.add_typer(
    train_stages.app, name="stage", help="Run one stage: make a prior, or extend the prior of an earlier stage."
)


@app.callback()
@with_classifier_options
def train_prior(
    context: typer.Context,
    images: training_options.MaybeImages = None,
    large: training_options.Large = None,
    out: training_options.MaybeOut = None,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    recipe: training_options.RecipeFile = None,
    resume: training_options.Resume = False,
    plan: training_options.Plan = False,
    print_recipe: training_options.Print = False,
    hours: training_options.Hours = None,
    others: training_options.StageSet = None,
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
        warn_of_old_name("train-prior with settings of one stage", "decoder")
        if not images or out is None:
            raise OptionError("training needs --images and --out")
        train_stage(
            "decoder", out, own, others, quiet, as_json, classifier, device, network_options,
            images=images, resume=resume, start_from=start_from,
        )  # fmt: skip
        return
    from gen_prior import load_classifier
    from gen_prior.training.pipeline import train_all
    from gen_prior.training.plan import measured_plan, within
    from gen_prior.training.recipe import TrainingRecipe, read_recipe, recipe_text, with_settings

    stored = out / "recipe.toml" if resume and out is not None and recipe is None and not images else None
    given = stored if stored is not None and is_file(stored) else recipe
    chosen = read_recipe(given) if given is not None else TrainingRecipe(classifier=classifier)
    chosen = with_settings(chosen.with_sources(images, large), options.parse_settings(others, example="flow.steps=99"))
    if print_recipe:
        print(recipe_text(chosen), end="")
        return
    if out is None and not plan:
        raise OptionError("the result needs a folder", fix="pass --out DIR")
    network = load_classifier(chosen.classifier, device=device, **network_options)
    with reporting(out or Path(), quiet) as callbacks:
        fresh = plan or not (resume and out is not None and is_file(out / "recipe.toml"))
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
