"""`gen-prior atlas CLASSIFIER`: every unit of some layers, on one machine or many, and how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli import atlas_extras
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import print_json, print_remark
from gen_prior.cli.shared.progress import bar_or_lines
from gen_prior.errors import GenPriorError, OptionError
from gen_prior.util.words import counted

if TYPE_CHECKING:
    from gen_prior.atlas.reader import Atlas

AUTO = "auto"

Folder = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Folder of the atlas, where the same command goes on."),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="PATTERN...",
        help="Layers, such as blocks.10 or 'blocks.*'; blocks and logits if not given.",
    ),
]
UnitRanges = Annotated[
    list[str] | None,
    typer.Option(
        "--units",
        metavar="RANGE...",
        help="Units of each layer: 0-31, 1,5,9 or 0-999:31 (every 31st); of one layer: logits=0-999:31. All if not "
        "given.",
    ),
]
Generators = Annotated[
    list[str] | None,
    typer.Option(
        "--generators", "-g", metavar="NAME...", help=f"Generators, at the same evaluations; {defaults.GENERATOR}."
    ),
]


@with_classifier_options
def run(
    classifier: Annotated[
        str | None,
        typer.Argument(metavar="[CLASSIFIER]", help="A classifier; see gen-prior models.", show_default=False),
    ] = None,
    layers: Layers = None,
    units: UnitRanges = None,
    generators: Generators = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="A folder of photographs to compare with, which stays private."),
    ] = None,
    seeds: options.Seeds = 1,
    seed: options.Seed = None,
    steps: Annotated[
        int, typer.Option("--steps", "--evaluations", help="Classifier evaluations for each picture.")
    ] = 64,
    least: Annotated[
        bool, typer.Option("--least", help="Also make the least exciting picture of each unit; takes as long again.")
    ] = False,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Also measure how true the pictures are, beside the photographs of --images; implies --least.",
        ),
    ] = False,
    judge: Annotated[
        str, typer.Option("--judge", metavar="NAME", help="A classifier that no method optimises, auto or none.")
    ] = AUTO,
    scale: options.Scale = None,
    out: Folder = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes; one a GPU, or one a core, if not given.")
    ] = None,
    worker: Annotated[
        str | None,
        typer.Option(
            "--worker", metavar="K/N", help="Make one share of the atlas in --out, beside others on other machines."
        ),
    ] = None,
    status: Annotated[
        Path | None, typer.Option("--status", metavar="DIR", help="Say how far the atlas in DIR is.")
    ] = None,
    retry_failed: Annotated[
        Path | None,
        typer.Option("--retry-failed", metavar="DIR", help="Go on with DIR, with the shards that were set aside."),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="DIR", help="Compare all files with their hashes, make damaged shards again."),
    ] = None,
    export: atlas_extras.Export = None,
    executor: atlas_extras.ExecutorFile = None,
    activation_atlas: atlas_extras.MappedLayer = None,
    layout: atlas_extras.Layout = "umap",
    grid: atlas_extras.GridSide = 12,
    positions: atlas_extras.Positions = 4,
    points: atlas_extras.Points = 4,
    overwrite: atlas_extras.OverwriteMap = False,
    pages: Annotated[
        Path | None,
        typer.Option(
            "--pages",
            metavar="DIR",
            help="Write the pages of the atlas in DIR as it is now; with --out into that folder, with small copies of "
            "the pictures and no photographs, for a site.",
        ),
    ] = None,
    photographs: Annotated[
        str,
        typer.Option(
            "--photographs",
            metavar="KIND",
            help="What the pages show of the photographs: link (crops in photographs/, for this machine only), "
            "thumbnails (small copies, which are published with the pages) or none.",
        ),
    ] = "link",
    device: options.Device = AUTO,
    precision: options.Precision = AUTO,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Make an atlas: the preferred inputs of every unit of some layers, as pages to open from disk.

    An interrupted atlas goes on where it stopped, neuron by neuron.

    Example: [bold]gen-prior atlas efficientnet-lite0 --layers blocks.10 --images photographs --out atlas[/bold]
    """
    import gen_prior
    from gen_prior.atlas.atlas import go_on
    from gen_prior.atlas.page_photographs import check_mode
    from gen_prior.atlas.plan import parse_units

    mode = check_mode(photographs)
    if status is not None:
        _print_status(gen_prior.load_atlas(status), as_json)
        return
    if export is not None:
        atlas_extras.export_numbers(*export, as_json=as_json, quiet=quiet)
        return
    if activation_atlas is not None:
        with bar_or_lines(quiet) as report:
            atlas_extras.make_map(
                classifier, activation_atlas, images, out, generators, layout=layout, grid=grid, positions=positions,
                smallest=points, evaluations=steps, seed=(seed or [0])[0], overwrite=overwrite, device=device,
                as_json=as_json, quiet=quiet, progress=report, **network_options,
            )  # fmt: skip
        return
    if pages is not None:
        print(gen_prior.build_pages(pages, "none" if out is not None and mode == "link" else mode, out=out))
        return
    share = _share(worker)
    goes_on = next((folder for folder in (retry_failed, verify, out if worker is not None else None) if folder), None)
    if goes_on is None and (classifier is None or out is None):
        missing = "the name of a classifier" if classifier is None else "a folder"
        raise OptionError(f"an atlas needs {missing}", fix="gen-prior atlas efficientnet-lite0 --out DIR")
    on_bad = None if quiet else print_remark
    with atlas_extras.engine(executor, goes_on or out) as engine, bar_or_lines(quiet) as report:
        if goes_on is not None:
            atlas = gen_prior.load_atlas(goes_on)
            _check_code(atlas, classifier, judge)
            _prepare(atlas, retry_failed is not None, verify is not None, quiet)
            atlas = go_on(goes_on, share=share, workers=workers, executor=engine, on_bad=on_bad, progress=report)
        else:
            assert classifier is not None
            assert out is not None
            atlas = gen_prior.make_atlas(
                classifier, layers, out=out, units=parse_units(units) if units else None,
                generators=generators or [defaults.GENERATOR], images=images, seeds=options.chosen_seeds(seeds, seed),
                evaluations=steps, least=least, faithfulness=faithfulness, judge=None if judge == "none" else judge,
                scale=options.parsed_scale(scale), precision=precision, device=device, workers=workers,
                executor=engine, classifier_options=network_options, on_bad=on_bad, progress=report,
            )  # fmt: skip
    if share == (1, 1) or atlas.records.indices("records") == set(range(atlas.records.manifest.shards)):
        print_remark(f"pages: {gen_prior.build_pages(atlas.folder, mode)}", quiet=quiet)
    _conclude(atlas, as_json, quiet)


def _check_code(atlas: Atlas, classifier: str | None, judge: str) -> None:
    """Raise `OptionError` where the manifest names other networks, or code to be run that the user has not named."""
    from gen_prior.classifiers import is_own_code

    for spec, given in ((atlas.manifest["classifier_spec"], classifier), (atlas.manifest["judge_spec"], judge)):
        if given not in (None, AUTO, spec):
            raise OptionError(f"{atlas.folder} is an atlas of {spec}, not of {given}", fix=f"leave out {given}")
        if spec is not None and given != spec and is_own_code(spec):
            raise OptionError(
                f"the atlas is of {spec}, code of your own, which is not run because a file names it",
                fix=f"name it as well: gen-prior atlas {spec} ...",
            )


def _prepare(atlas: Atlas, retry: bool, verify: bool, quiet: bool) -> None:
    """Forget failures or damaged shards, so that they are made again."""
    if retry:
        print_remark(f"{counted(atlas.retry_failed(), 'shard')} that failed will be tried again", quiet=quiet)
    if verify:
        damaged = atlas.verify()
        print_remark(f"{', '.join(damaged)} damaged" if damaged else "no shard is damaged", quiet=quiet)


def _share(text: str | None) -> tuple[int, int]:
    """`3/16` -> (3, 16). Raises `OptionError` for other text."""
    if text is None:
        return 1, 1
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and len(text) < 20):
        raise OptionError(f"--worker takes K/N, got {text!r}", fix="--worker 3/16")
    return int(number), int(of)


def _conclude(atlas: Atlas, as_json: bool, quiet: bool) -> None:
    """Print how far the atlas is. Raises `GenPriorError` where shards were set aside."""
    state = atlas.status()
    if as_json:
        print_json({"out": str(atlas.folder)} | state)
    elif not quiet:
        print(f"{state['finished']} of {counted(state['neurons'], 'neuron')} in {atlas.folder}")
    if aside := [one for one in state["failed"] if one["set_aside"]]:
        place, reason = f"{aside[0]['layer']}:{aside[0]['units']}", aside[0]["reasons"][-1]
        raise GenPriorError(
            f"{counted(len(aside), 'shard')} failed, the first one ({place}) with {reason}",
            fix=f"mend the cause, then gen-prior atlas --retry-failed {atlas.folder}",
        )


def _print_status(atlas: Atlas, as_json: bool) -> None:
    state = atlas.status()
    if as_json:
        print_json({"out": str(atlas.folder)} | state)
        return
    print(
        f"{state['finished']} of {counted(state['neurons'], 'neuron')} finished, {state['shards_finished']} of "
        f"{counted(state['shards'], 'shard')}, {state['shards_begun']} begun"
    )
    for one in state["failed"]:
        print(
            f"{one['layer']}:{one['units']} failed {counted(one['attempts'], 'time')}"
            f"{', set aside' if one['set_aside'] else ''}: {one['reasons'][-1]}"
        )
