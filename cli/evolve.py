"""`gen-prior evolve TARGET`: preferred inputs without gradients, of units or of neurons in an experiment."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json, print_remark
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder
from gen_prior.errors import OptionError
from gen_prior.util.files import is_file

if TYPE_CHECKING:
    from gen_prior.applications.evolve import Evolution
    from gen_prior.applications.experiment import Experiment, Told
    from gen_prior.classifiers import Classifier
    from gen_prior.generators import Generator
    from gen_prior.objectives.mixes import AnyTarget


@with_classifier_options
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            show_default=False,
            help="Classes or units of the classifier, each with a search of its own; with --ask, names of the neurons "
            "of an experiment, if there are several; none with --tell.",
        ),
    ] = None,
    evaluations: Annotated[int, typer.Option("--evaluations", help="Images to score in all, for each target.")] = 2000,
    method: Annotated[
        str | None, typer.Option("--method", help="cma, sep-cma (for many dimensions) or genetic; chosen if not given.")
    ] = None,
    dims: Annotated[
        int | None,
        typer.Option("--dims", "--numbers", help="Search only this many dimensions of the code, the first; or all."),
    ] = None,
    population: Annotated[int | None, typer.Option("--population", help="Images per generation.")] = None,
    sigmas: Annotated[
        float | None, typer.Option("--sigmas", help="Clip codes to this many standard deviations from the mean.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="IMAGE", help="Start at the code of this image.")
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option("--spread", help="Standard deviation of the first generation: 1, or 0.3 with --start."),
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Only write the images that wait for scores.")] = False,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference", metavar="DIR", help="With --ask: images to show with every generation; repeatable."
        ),
    ] = None,
    tell: Annotated[
        Path | None,
        typer.Option(
            "--tell",
            metavar="FILE",
            help="Scores of those images: the scores.csv beside them, or one per line in order.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the search; 0 if not given.")] = None,
    generator: options.GeneratorName = defaults.GENERATOR,
    image_size: options.ImageSize = None,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = None,
    device: options.Device = "auto",
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Search a generator's codes without gradients, for units or for scores of your own experiment.

    The search is saved in evolution.npz; the same command continues it. Every code with its score is in
    codes.safetensors and responses.csv. For scores from an experiment, alternate --ask, which writes
    gen-0000/image-00.png, ... and gen-0000/scores.csv, and --tell gen-0000/scores.csv, with any time between them.
    Animations are made by synth --record, or in Python by evolve(record=Recorder(1)).

    Example: [bold]gen-prior evolve goldfish --evaluations 2000 --out evolved[/bold]
    """
    names, in_experiment = list(targets or []), ask or tell is not None
    with run_folder(out, "evolve", [] if in_experiment else names, numbered=False) as folder:
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.report.pages.gallery import keep_gallery
        from gen_prior.util.devices import resolve_device

        if (bool(names) and not ask) + ask + (tell is not None) != 1:
            raise OptionError("evolve takes one of TARGET, --ask and --tell", fix="gen-prior evolve goldfish")
        if tell is not None and not (any(folder.glob("evolution.npz")) or is_file(folder / "experiment.json")):
            raise OptionError(f"there is no experiment in {folder}", fix="pass the --out of the command with --ask")
        if reference and not ask:
            raise OptionError("--reference has no effect without --ask", fix="gen-prior evolve --ask --reference DIR")
        size = options.generator_options(None, image_size)
        prior = load_generator(generator, device=resolve_device(device), **size)
        settings = options.given(
            method=method, dims=dims, population=population, sigmas=sigmas, spread=spread, seed=seed
        ) | (_start(start, prior, quiet) if start is not None else {})
        if in_experiment:
            _experiment(folder, prior, names, reference or [], tell, settings, as_json, quiet)
        else:
            network = load_classifier(classifier, device=device, **network_options)
            _searches(folder, prior, network, names, evaluations, settings, as_json, quiet)
        keep_gallery(folder, html)


def _start(path: Path, prior: Generator, quiet: bool) -> dict[str, Any]:
    """Options of a search that starts at an image, whose code is found only if the search is new."""
    from gen_prior.applications.encode import encode
    from gen_prior.hub.tensors import file_sha256
    from gen_prior.util.image_io import read_image
    from gen_prior.util.progress import labelled

    picture = read_image(path)

    @cache  # several searches start at the same code
    def found() -> Any:
        with ProgressBar(quiet) as bar:
            return encode(prior, picture, progress=labelled(bar.show, "the photograph's code"))

    return {"start": found, "start_source": {"image": path.name, "sha256": file_sha256(path)}}


def _searches(
    folder: Path,
    prior: Generator,
    network: Classifier,
    texts: list[str],
    evaluations: int,
    settings: dict[str, Any],
    as_json: bool,
    quiet: bool,
) -> None:
    """Search for each target, one after the other: a single one in `folder`, several in folders inside it."""
    from gen_prior.objectives.expressions import parse_targets
    from gen_prior.optimise.resolve import unique_slugs

    found = parse_targets(texts, network)
    folders = [folder] if len(found) == 1 else [folder / slug for slug in unique_slugs(found)]
    summaries = []
    for target, own in zip(found, folders, strict=True):
        search = _search(own, prior, network, target, evaluations, settings, quiet)
        summaries.append({"target": target.name} | _summary(search, own))
        if not quiet and not as_json:
            _print_best(summaries[-1], target.name if len(found) > 1 else "")
    if as_json:
        print_json(summaries[0] if len(found) == 1 else {"out": str(folder), "searches": summaries})


def _search(
    folder: Path,
    prior: Generator,
    network: Classifier,
    target: AnyTarget,
    evaluations: int,
    settings: dict[str, Any],
    quiet: bool,
) -> Evolution:
    """Begin the search for a target in a folder or go on with it; its best image and table are written at the end."""
    from gen_prior.applications.evolve import activation_score, evolve, load_or_create
    from gen_prior.applications.responses import export_search
    from gen_prior.util.folders import check_kind
    from gen_prior.util.image_io import write_png

    score, path = activation_score(network, target), folder / "evolution.npz"
    check_kind(folder, ("evolution.npz", "experiment.json") if path.exists() else "evolution.npz")
    search = load_or_create(path, prior, score.source, settings)
    try:
        with ProgressBar(quiet) as bar:
            evolve(search, score, evaluations=evaluations, save=path, progress=bar.show)
    finally:  # after Ctrl-C too: the best image so far
        if search.best_code is not None:
            write_png(folder / "best.png", prior.final_images(search.best_code[None])[0].cpu())
            export_search(search, folder)
    return search


def _experiment(
    folder: Path,
    prior: Generator,
    neurons: list[str],
    references: list[Path],
    tell: Path | None,
    settings: dict[str, Any],
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the generation that waits for scores, or receive its scores."""
    from gen_prior.applications.experiment import Experiment
    from gen_prior.util.folders import check_kind
    from gen_prior.util.image_io import write_png

    check_kind(folder, ("evolution.npz", "experiment.json"))
    experiment = Experiment(folder, prior, neurons=neurons, references=references, **settings)
    asked, told = (experiment.ask(), None) if tell is None else (None, experiment.tell(tell))
    if told is not None:
        experiment.export()
        for name in experiment.neurons:
            if (image := experiment.best_image(name)) is not None:
                write_png(folder / ("best.png" if len(experiment.neurons) == 1 else f"{name}/best.png"), image)
    _print_experiment(experiment, asked, told, as_json, quiet)


def _print_experiment(
    experiment: Experiment, asked: Path | None, told: Told | None, as_json: bool, quiet: bool
) -> None:
    summaries = {name: _summary(search, experiment.folder) for name, search in experiment.searches.items()}
    missing = sum(told.missing.values()) if told is not None else 0
    if as_json:
        alone = len(summaries) == 1
        printed = next(iter(summaries.values())) if alone else {"out": str(experiment.folder), "searches": summaries}
        print_json(printed | {"waiting": str(asked) if asked else None, "missing": missing})
        return
    if missing:
        methods = {search.settings["method"] for search in experiment.searches.values()}
        how = (
            "take no part in the next generation"
            if methods == {"genetic"}
            else "count as the median of their generation"
        )
        print_remark(f"{missing} image{'s have' if missing > 1 else ' has'} no score: they {how}", quiet=quiet)
    if not quiet:
        if asked is not None:
            count = sum(search.settings["population"] for search in experiment.searches.values())
            console.print(f"{count} images wait for scores in {asked}; fill in its scores.csv", soft_wrap=True)
        for name, summary in summaries.items():
            if summary["best"] is not None:
                _print_best(summary, name if len(summaries) > 1 else "")


def _summary(search: Evolution, out: Path) -> dict[str, Any]:
    best = search.best_score if search.scores else None
    summary = {"out": str(out), "method": search.settings["method"], "evaluations": search.evaluations}
    return summary | {"best": best, "generations": len(search.scores)}


def _print_best(summary: dict[str, Any], name: str) -> None:
    words = f"best {summary['best']:.4g} after {summary['evaluations']} evaluations, in {summary['out']}"
    console.print(f"{name}: {words}" if name else words, markup=False, soft_wrap=True)
