"""`gen-prior evolve TARGET`: the preferred input of a unit without gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.network import takes_network
from gen_prior.cli.output import console, print_json
from gen_prior.cli.progress import ProgressBar
from gen_prior.cli.run_folder import run_folder
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from gen_prior.applications.black_boxes import ActivationScore
    from gen_prior.applications.evolve import Evolution
    from gen_prior.generators import Generator


@takes_network
def run(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A class or unit of the classifier; none with --ask or --tell."),
    ] = None,
    evaluations: Annotated[int, typer.Option("--evaluations", help="Images to score in all.")] = 2000,
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
    ask: Annotated[bool, typer.Option("--ask", help="Only write the images that wait for scores.")] = False,
    tell: Annotated[
        Path | None, typer.Option("--tell", metavar="FILE", help="Scores of those images, one per line, in order.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the search; 0 if not given.")] = None,
    generator: options.GeneratorName = defaults.GENERATOR,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Search a generator's codes without gradients, for a unit or for scores of your own experiment.

    The search is saved in evolution.npz; the same command continues it. For scores from an experiment, alternate
    --ask, which writes waiting/image-00.png, ..., and --tell scores.txt, with any time between them.
    Animations are made by synth --record, or in Python by evolve(record=Recorder(1)).

    Example: [bold]gen-prior evolve goldfish --evaluations 2000 --out evolved[/bold]
    """
    with run_folder(out, "evolve", [target] if target is not None else [], numbered=False) as folder:
        from gen_prior.applications.evolve import activation_score, evolve
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.util.devices import resolve_device
        from gen_prior.util.folders import check_kind
        from gen_prior.util.image_io import write_png

        if (target is not None) + ask + (tell is not None) != 1:
            raise OptionError("evolve takes one of TARGET, --ask and --tell", fix="gen-prior evolve goldfish")
        prior = load_generator(generator, device=resolve_device(device))
        score = None
        if target is not None:
            score = activation_score(load_classifier(classifier, device=device, **network_options), target)
        check_kind(folder, "evolution.npz")
        path = folder / "evolution.npz"
        settings = options.given(method=method, dims=dims, population=population, sigmas=sigmas, seed=seed)
        search = _load_or_create(path, prior, score, settings)
        try:
            if score is not None:
                with ProgressBar(quiet) as bar:
                    evolve(search, score, evaluations=evaluations, save=path, progress=bar.show)
            if tell is not None:
                search.tell(_read_scores(tell))
                search.save(path)
            if ask:
                generation = search.ask()
                search.save(path)
                for number, picture in enumerate(prior(generation.codes)):
                    write_png(folder / "waiting" / f"image-{number:02d}.png", picture.cpu())
        finally:  # after Ctrl-C too: the best image so far
            if search.best_code is not None:
                write_png(folder / "best.png", prior(search.best_code[None])[0].cpu())
    _print(search, folder, ask, as_json, quiet)


def _load_or_create(path: Path, prior: Generator, score: ActivationScore | None, settings: dict[str, Any]) -> Evolution:
    """The search saved at `path`, or a new one. Raises `OptionError` if the saved one has other settings."""
    from gen_prior.applications.black_boxes import source_words
    from gen_prior.applications.evolve import Evolution

    source = score.source if score is not None else None
    if not path.is_file():
        return Evolution(prior, source=source, **settings)
    search = Evolution.load(path, prior)
    saved, fix = search.settings, "pass another --out, or continue the search that is there"
    if saved["source"] != source:
        now = source_words(source, unlike=saved["source"])
        raise OptionError(f"{path} holds a search for {source_words(saved['source'])}, not for {now}", fix=fix)
    if changed := [name for name, value in settings.items() if saved[name] != value]:
        name = changed[0]
        raise OptionError(f"the search in {path} has {name} {saved[name]}, not {settings[name]}", fix=fix)
    return search


def _read_scores(path: Path) -> list[float]:
    try:
        return [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} does not hold one score per line: {error}") from error


def _print(search: Evolution, out: Path, ask: bool, as_json: bool, quiet: bool) -> None:
    best = search.best_score if search.scores else None
    if as_json:
        summary = {"out": str(out), "method": search.settings["method"], "evaluations": search.evaluations}
        print_json(summary | {"best": best, "generations": len(search.scores)})
    elif not quiet:
        if ask:
            waiting = out / "waiting"
            console.print(f"{search.settings['population']} images wait for scores in {waiting}", soft_wrap=True)
        if best is not None:
            console.print(f"best {best:.4g} after {search.evaluations} evaluations, in {out}", soft_wrap=True)
