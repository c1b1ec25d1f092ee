"""`gen-prior evolve TARGET`: the preferred input of a unit without any gradient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import options
from gen_prior.cli.output import console, print_json
from gen_prior.cli.progress import StepBar, keeping


def run(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A class or unit of the classifier; none with --ask or --tell."),
    ] = None,
    evaluations: Annotated[int, typer.Option("--evaluations", help="Images to score in all.")] = 2000,
    method: Annotated[
        str | None, typer.Option("--method", help="cma, sep-cma (many numbers) or genetic; chosen if not given.")
    ] = None,
    numbers: Annotated[
        int | None, typer.Option("--numbers", help="Search only the first so many principal directions of the code.")
    ] = None,
    population: Annotated[int | None, typer.Option("--population", help="Images per generation.")] = None,
    sigmas: Annotated[float | None, typer.Option("--sigmas", help="Clip codes to so many deviations.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Only write the images that wait for scores.")] = False,
    tell: Annotated[
        Path | None, typer.Option("--tell", metavar="FILE", help="Scores of those images: one number a line, in order.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the search; 0 if not given.")] = None,
    generator: options.GeneratorName = defaults.GENERATOR,
    classifier: options.ClassifierName = defaults.CLASSIFIER,
    out: options.Out = Path(defaults.OUT),
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evolve the code of a generator under a black-box score: a unit's activation, or scores of your own.

    The state is in evolution.npz; the same command goes on from there. For scores from an experiment, alternate
    --ask (writes waiting/image-00.png, ...) and --tell scores.txt, hours apart if need be.
    Films are made by synth --record, or in Python by evolve(record=Recorder(1)).

    Example: [bold]gen-prior evolve goldfish --evaluations 2000 --out evolved[/bold]
    """
    with keeping(out):
        from gen_prior.applications.evolve import Evolution, activation_score, evolve
        from gen_prior.errors import OptionError
        from gen_prior.generators import load_generator
        from gen_prior.util.devices import resolve_device
        from gen_prior.util.image_io import write_png

        if (target is not None) + ask + (tell is not None) != 1:
            raise OptionError("evolve takes one of TARGET, --ask and --tell", fix="gen-prior evolve goldfish")
        prior = load_generator(generator, device=resolve_device(device))
        score = None
        if target is not None:
            from gen_prior.classifiers import load_classifier

            score = activation_score(load_classifier(classifier, device=device), target)
        source = score.source if score is not None else None
        path = out / "evolution.npz"
        wanted = options.given(method=method, numbers=numbers, population=population, sigmas=sigmas, seed=seed)
        if path.is_file():
            state = Evolution.load(path, prior)
            _same_search(path, state.settings, wanted, source)
        else:
            state = Evolution(prior, source=source, **wanted)
        try:
            if score is not None:
                with StepBar(quiet) as bar:
                    evolve(
                        state, score, evaluations=evaluations, save=path,
                        progress=lambda done, total, scores: bar.work("evolving", done, total, scores),
                    )  # fmt: skip
            if tell is not None:
                state.tell(_scores(tell))
                state.save(path)
            if ask:
                generation = state.ask()
                state.save(path)
                for place, picture in enumerate(prior(generation.codes)):
                    write_png(out / "waiting" / f"image-{place:02d}.png", picture.cpu())
        finally:  # also after Ctrl-C: the best so far can be looked at
            if state.best_code is not None:
                write_png(out / "best.png", prior(state.best_code[None])[0].cpu())
    summary = {"out": str(out), "method": state.settings["method"], "evaluations": state.evaluations}
    best = state.best_score if state.scores else None
    if as_json:
        print_json(summary | {"best": best, "generations": len(state.scores)})
    elif not quiet:
        if ask:
            console.print(f"{state.settings['population']} images wait for scores in {out / 'waiting'}", soft_wrap=True)
        if best is not None:
            console.print(f"best {best:.4g} after {state.evaluations} evaluations, in {out}", soft_wrap=True)


def _same_search(path: Path, begun: Mapping[str, Any], wanted: dict[str, Any], source: dict[str, Any] | None) -> None:
    """Refuses to go on with another search than the one that the folder holds, or to mix two in it."""
    from gen_prior.applications.black_boxes import source_words
    from gen_prior.errors import OptionError

    fix = "pass another --out, or go on with what is there"
    if begun["source"] != source:
        now = source_words(source, unlike=begun["source"])
        raise OptionError(f"{path} holds a search by {source_words(begun['source'])}, not by {now}", fix=fix)
    if changed := [name for name, value in wanted.items() if begun[name] != value]:
        raise OptionError(f"{path} was begun with {changed[0]} {begun[changed[0]]}, not {wanted[changed[0]]}", fix=fix)


def _scores(path: Path) -> list[float]:
    from gen_prior.errors import OptionError

    try:
        return [float(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} does not hold one number a line: {error}") from error
