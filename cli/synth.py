"""`gen-prior synth TARGET...`: the preferred inputs of units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import extras, options
from gen_prior.cli.output import console, note, print_json
from gen_prior.cli.progress import StepBar, keeping


def run(
    targets: options.Targets,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            metavar="NAME",
            help=f"Generator; {defaults.GENERATOR} if not given, or a pixel-space preset's own.",
        ),
    ] = None,
    preset: options.Preset = None,
    seeds: options.Seeds = defaults.SEEDS,
    seed: options.Seed = None,
    steps: options.Steps = None,
    rate: options.Rate = None,
    candidates: options.Candidates = None,
    trials: options.Trials = None,
    out: options.Out = Path(defaults.OUT),
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    compiled: options.Compile = False,
    settings: options.Settings = None,
    record: extras.Record = None,
    film: extras.Film = None,
    transparent: extras.Transparent = False,
    crop: extras.Crop = False,
    images: extras.Images = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Synthesise the input that each target responds to most, once per seed.

    Leaves every image and code, result.json and, of several images, a contact sheet.

    Example: [bold]gen-prior synth goldfish blocks.10:42 --seeds 4 --out fish[/bold]
    """
    with keeping(out):
        import gen_prior
        from gen_prior.optimise.loop import NO_GRADIENT
        from gen_prior.optimise.presets import preset_options, remark_on
        from gen_prior.optimise.resolve import check_domain, planned_names
        from gen_prior.report.grid import contact_sheet
        from gen_prior.util.image_io import write_png

        recipe = gen_prior.preset(preset) if preset is not None else None
        network = gen_prior.load_classifier(classifier, device=device)
        given = options.parse_settings(settings)
        name = generator or defaults.GENERATOR
        if preset is not None:
            if generator is None and gen_prior.preset(preset).domain == "image":
                name = gen_prior.preset_generator(preset)
            given = preset_options(preset, name) | given
        prior = gen_prior.load_generator(name, device=network.device, **given)
        check_domain(recipe or prior.recipe, prior)
        if preset is not None and (remark := remark_on(preset, name)):
            note(remark, quiet=quiet)
        chosen = options.chosen_seeds(seeds, seed)
        more = extras.Extras(
            prior.fitted_to(network.input_size), out, planned_names(network, targets, chosen),
            record=record, film=film, transparent=transparent, images=images,
        )  # fmt: skip
        with StepBar(quiet) as bar, more:
            result = gen_prior.synthesize(
                network,
                list(targets),
                more.generator,
                seeds=chosen,
                recipe=recipe,
                precision=precision,
                batch=batch,
                compile=compiled,
                out=out,
                progress=bar.steps,
                record=more.record,
                **options.given(steps=steps, rate=rate, candidates=candidates, trials=trials),
            )
        more.write(result, network, crop=crop, quiet=quiet)
        if result.activations.numel() > 1:
            write_png(out / "contact-sheet.png", contact_sheet(result))
    for t, target in enumerate(result.targets):
        for s, number in enumerate(result.seeds):
            if result.status[t][s] != "ok":
                hint = (
                    "; another --seed or more --candidates may find one" if result.status[t][s] == NO_GRADIENT else ""
                )
                note(f"{target['name']}, seed {number}: {result.status[t][s]}{hint}", quiet=quiet)
    if as_json:
        print_json({"out": str(out)} | json.loads((out / "result.json").read_text(encoding="utf-8")))
        return
    if not quiet:
        for t, target in enumerate(result.targets):
            numbers = ", ".join(f"{value:.4g}" for value in result.activations[t].tolist())
            console.print(f"{target['name']}: activation {numbers}", markup=False, soft_wrap=True)
        console.print(f"{result.activations.numel()} images in {out}", markup=False, soft_wrap=True)
