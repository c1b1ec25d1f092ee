"""`gen-prior synth TARGET...`: preferred inputs of units."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import extra_outputs, options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_remark, print_remarks
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder
from gen_prior.util.words import best_in_words, counted, percent, short

if TYPE_CHECKING:
    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator
    from gen_prior.optimise.result import Result
    from gen_prior.recipe import Recipe


@with_classifier_options
def run(
    targets: options.Targets,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            metavar="NAME",
            help=f"Generator; if not given, {defaults.GENERATOR}, or the generator of a preset in pixels.",
        ),
    ] = None,
    preset: options.Preset = None,
    seeds: options.Seeds = defaults.SEEDS,
    seed: options.Seed = None,
    steps: options.Steps = None,
    evaluations: options.Evaluations = None,
    rate: options.Rate = None,
    candidates: options.Candidates = None,
    trials: options.Trials = None,
    scale: options.Scale = None,
    score: options.Score = None,
    natural: options.Natural = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    compiled: options.Compile = False,
    image_size: options.ImageSize = None,
    settings: options.Settings = None,
    record: extra_outputs.Record = None,
    film: extra_outputs.Film = None,
    transparent: extra_outputs.Transparent = False,
    crop: extra_outputs.Crop = False,
    in_place: extra_outputs.InPlace = False,
    images: extra_outputs.Images = None,
    faithfulness: extra_outputs.Faithfulness = False,
    judge: extra_outputs.Judge = defaults.JUDGE,
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Synthesise the input that each target responds to most, once for each seed.

    Writes every image and code, result.json, numbers.csv and, for several images, a contact sheet.

    Example: [bold]gen-prior synth goldfish blocks.10:42 --seeds 4 --out fish[/bold]
    """
    with run_folder(out, "synth", targets) as folder:
        import gen_prior
        from gen_prior.optimise.resolve import planned_names
        from gen_prior.report.numbers import write_result_numbers
        from gen_prior.report.pages.gallery import keep_gallery

        network = gen_prior.load_classifier(classifier, device=device, **network_options)
        if natural is not None:
            gen_prior.NaturalStatistics.load(natural).attach(network)
        prior, recipe = _load_generator(
            generator, preset, options.generator_options(settings, image_size), network, quiet
        )
        chosen = options.chosen_seeds(seeds, seed)
        extra = extra_outputs.ExtraOutputs(
            folder, planned_names(network, targets, chosen),
            record=record, film=film, transparent=transparent, crop=crop, in_place=in_place, images=images, quiet=quiet,
            faithfulness=faithfulness, judge=judge,
        )  # fmt: skip
        with ProgressBar(quiet) as bar, extra:
            result = gen_prior.synthesize(
                network, list(targets), prior, seeds=chosen, recipe=recipe, precision=precision,
                batch=batch, compile=compiled, out=folder, overwrite=overwrite, progress=bar.show,
                record=extra.record, **options.given(steps=steps, rate=rate, candidates=candidates, trials=trials),
                evaluations=evaluations, **options.given(scale=options.parsed_scale(scale), score=score),
            )  # fmt: skip
        extra.write(result, network, prior)
        if extra.panels:
            write_result_numbers(result, folder, extra.panels)
        keep_gallery(folder, html)
    _print(result, folder, as_json, quiet, extra.panels)


def _load_generator(
    name: str | None, preset: str | None, settings: dict[str, Any], network: Classifier, quiet: bool
) -> tuple[Generator, Recipe | None]:
    """The generator with its options, and the preset's recipe; None for the generator's own."""
    import gen_prior
    from gen_prior.optimise.presets import preset_options, remark_on
    from gen_prior.optimise.resolve import check_domain

    recipe = gen_prior.preset(preset) if preset is not None else None
    if name is None:
        in_pixels = preset is not None and recipe is not None and recipe.domain == "image"
        name = gen_prior.preset_generator(preset) if preset is not None and in_pixels else defaults.GENERATOR
    if preset is not None:
        settings = preset_options(preset, name) | settings
    prior = gen_prior.load_generator(name, device=network.device, **settings)
    check_domain(recipe or prior.recipe, prior)
    if preset is not None and (remark := remark_on(preset, name)):
        print_remark(remark, quiet=quiet)
    return prior, recipe


def _print(
    result: Result, out: Path, as_json: bool, quiet: bool, panels: Sequence[dict[str, Any] | None] | None
) -> None:
    """Print remarks on images that failed, and the activations, with their faithfulness, or the record."""
    from gen_prior.optimise.batch import NO_GRADIENT

    remarks: dict[str, list[str]] = {}
    for t, target in enumerate(result.targets):
        for s, number in enumerate(result.seeds):
            if (status := result.status[t][s]) != "ok":
                hint = "; another --seed or more --candidates may help" if status == NO_GRADIENT else ""
                remarks.setdefault(f"{status}{hint}", []).append(f"{target['name']} (seed {number})")
    print_remarks(remarks, quiet=quiet)
    if as_json:
        print_json({"out": str(out)} | json.loads((out / "result.json").read_text(encoding="utf-8")))
    elif not quiet:
        for t, target in enumerate(result.targets):
            values = ", ".join(f"{value:.4g}" for value in result.activations[t].tolist())
            ratios = [short(ratio) for ratio in _ratios(result, t, panels)]
            panel = panels[t] if panels else None
            beside = f"; {', '.join(ratios)} times {best_in_words(target['photographs'], panel)}" if ratios else ""
            console.print(f"{target['name']}: activation {values}{beside}", markup=False, soft_wrap=True)
            for n, term in enumerate(target.get("terms", []) if result.terms[t][0] else []):
                values = ", ".join(f"{terms[n]:.4g}" for terms in result.terms[t])
                console.print(f"  {term['name']}: activation {values}", markup=False, soft_wrap=True)
            for line in _faithfulness(panel) if panel is not None else ():
                console.print(f"  {line}", markup=False, soft_wrap=True)
        console.print(f"{counted(result.activations.numel(), 'image')} in {out}", markup=False, soft_wrap=True)


def _ratios(result: Result, t: int, panels: Sequence[dict[str, Any] | None] | None) -> list[float]:
    """Activations of a target's images divided by the best photograph's, of the table or else of the panel."""
    from gen_prior.objectives.natural_statistics import ratio_to

    known = [ratio for ratio in result.photograph_ratios[t].tolist() if math.isfinite(ratio)]
    if known or not panels or (panel := panels[t]) is None:
        return known
    found = [ratio_to(panel["best_photograph"], value) for value in result.activations[t].tolist()]
    return [ratio for ratio in found if ratio is not None and math.isfinite(ratio)]


def _faithfulness(panel: dict[str, Any]) -> list[str]:
    """The faithfulness of a target's images in words, and a line for each control."""
    best = best_in_words(None, panel)
    lines = [f"{_scores(panel, best)}, of photographs {percent(panel['two_alternatives_photographs'])}"]
    controls = {name: scores for name, scores in panel["controls"].items() if scores is not None}
    return lines + [f"control, {name}: {_scores(scores, 'that best')}" for name, scores in controls.items()]


def _scores(scores: dict[str, Any], best: str) -> str:
    """Ratio, path similarity and two-alternative score of images together, as far as there are any."""
    ratio, path = scores["ratio"], scores["path"]["normalised"]
    words = [f"mean activation {short(ratio)} times {best}"] if ratio is not None else []
    words += [f"path similarity {short(path)}"] if path is not None else []
    return "; ".join([*words, f"two-alternative score {percent(scores['two_alternatives'])}"])
