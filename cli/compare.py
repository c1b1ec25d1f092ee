"""`gen-prior compare TARGET...`: several methods side by side, measured in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_numbers, print_remark, print_remarks
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder
from gen_prior.report.measures import MEASURES, best_photograph
from gen_prior.util.words import percent, short


@with_classifier_options
def run(
    targets: options.Targets,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    methods: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            help="A generator, a preset with its own generator (preset:NAME) or with another one (GENERATOR+PRESET); "
            f"repeatable. Presets: {options.PRESETS}.",
        ),
    ] = list(defaults.METHODS),  # noqa: B006
    judge: Annotated[
        str, typer.Option("--judge", metavar="NAME", help="A classifier that no method optimises, or none.")
    ] = defaults.JUDGE,
    seeds: options.Seeds = defaults.SEEDS,
    seed: options.Seed = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", "--evaluations", help="Classifier evaluations for each image, the same for all methods."
        ),
    ] = defaults.EVALUATIONS,
    scale: options.Scale = None,
    image_size: options.ImageSize = None,
    natural: options.Natural = None,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Also compare with photographs (--images) and controls: the paths through the network, and a "
            "two-alternative test. Takes several times as long again.",
        ),
    ] = False,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="A folder of photographs, for --faithfulness.")
    ] = None,
    film: Annotated[
        str | None,
        typer.Option(
            "--film",
            metavar="KIND",
            help="Also write a film of each target with the methods side by side, and one, always webp, of each image: "
            "gif, webp or mp4. Methods that are finished without films are made again.",
        ),
    ] = None,
    html: options.Html = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write means and paired differences over the targets with intervals and tests, as report.md and "
            "report.tex, and a figure. For a finished comparison, nothing is computed anew.",
        ),
    ] = False,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch: options.Batch = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Compare methods on the same targets, seeds and number of classifier evaluations.

    Writes a contact sheet, every image, all measures (comparison.json, numbers.csv) and the codes to the output folder.

    Example: [bold]gen-prior compare goldfish monarch -m dgn-lite0 -m pixel --out cmp[/bold]
    """
    with run_folder(out, "compare", targets) as folder:
        import gen_prior
        from gen_prior.applications.methods import preset_remarks
        from gen_prior.report.comparison_figure import check_figures
        from gen_prior.report.pages.gallery import keep_gallery

        if report:
            check_figures()
        network = gen_prior.load_classifier(classifier, device=device, **network_options)
        if natural is not None:
            gen_prior.NaturalStatistics.load(natural).attach(network)
        with ProgressBar(quiet) as bar:
            comparison = gen_prior.compare(
                network, list(targets), methods, judge=None if judge == "none" else judge,
                seeds=options.chosen_seeds(seeds, seed), evaluations=steps, precision=precision, batch=batch,
                scale=options.parsed_scale(scale) if scale is not None else None, faithfulness=faithfulness,
                images=images, image_size=options.chosen_size(image_size), out=folder, overwrite=overwrite, film=film,
                progress=bar.show,
            )  # fmt: skip
        if report:
            comparison.report(folder)
        keep_gallery(folder, html)
    if images is not None and not faithfulness:
        print_remark("--images is for --faithfulness, which is not given", quiet=quiet)
    record = comparison.record
    for remark in preset_remarks(methods):
        print_remark(remark, quiet=quiet)
    print_remarks(_remarks(record), quiet=quiet)
    if as_json:
        print_json({"out": str(folder)} | record)
    elif not quiet:
        _print(record)
        also = [word for word, given in (("report", report), ("figure", report), ("films", film)) if given]
        listed = ", ".join([*also, "sheet", "images", "measures and codes"])
        console.print(f"{listed} in {folder}", markup=False, soft_wrap=True)


def _remarks(record: dict[str, Any]) -> dict[str, list[str]]:
    """Remarks on images that were not judged or failed: remark -> the names that it is about."""
    remarks: dict[str, list[str]] = {}
    for target in record["targets"] if record["judge"] is not None else []:
        if not target["judged"]:
            reason = target["why_not_judged"].replace(f" named {target['name']!r}", " of that name")
            remarks.setdefault(f"not judged ({reason})", []).append(target["name"])
    for method in record["methods"]:
        for item in method["items"]:
            if item["status"] != "ok":
                name = f"{record['targets'][item['target']]['name']} (seed {item['seed']})"
                remarks.setdefault(f"{item['status']}, by {method['name']}", []).append(name)
    return remarks


def _print(record: dict[str, Any]) -> None:
    """Print the summary: a column for each method, and one for photographs; measures that none has are left out."""
    methods = record["methods"]
    summaries = [method["summary"] for method in methods]
    photographs = dict(record["natural"])
    if shown := summaries[0].get("two_alternatives_photographs"):  # the same for all methods
        photographs["two_alternatives"] = shown["value"]
    rows: list[list[str]] = []
    for measure in MEASURES:
        name, form = measure.name, percent if measure.percent else short
        if measure.label and name != "two_alternatives_photographs" and any(found.get(name) for found in summaries):
            values = [form(found[name]["value"]) if found.get(name) else "-" for found in summaries]
            rows.append([measure.label, *values, form(photographs[name]) if name in photographs else ""])
    rows.append(["seconds", *(f"{method['seconds']:.0f}" for method in methods), ""])
    names = [method["name"] for method in methods]
    print_numbers(["median", *names, "photographs"], rows)
    if best := best_photograph(record):
        console.print(f"best photograph: {best}", markup=False, soft_wrap=True)
