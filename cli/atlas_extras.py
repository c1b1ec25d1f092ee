"""Options of `gen-prior atlas` beside the sweep: numbers as a table, clusters, the activation atlas of a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gen_prior.cli.shared.output import print_json, print_remark
from gen_prior.errors import OptionError
from gen_prior.util.words import counted

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from gen_prior.util.progress import ProgressCallback

Export = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--export",
        metavar="DIR FILE",
        help="Write the numbers of the atlas in DIR as FILE, .csv or .parquet (extra tables).",
    ),
]
ExecutorFile = Annotated[
    Path | None,
    typer.Option(
        "--executor",
        metavar="FILE",
        help="Make the atlas by Parsl (extra cluster): a Python file that defines config, a parsl.config.Config.",
    ),
]
MappedLayer = Annotated[
    str | None,
    typer.Option(
        "--activation-atlas",
        metavar="LAYER",
        help="Instead of units, map the space that the units of LAYER span over the photographs of --images "
        "(Carter et al. 2019); writes map-LAYER.html.",
    ),
]
Layout = Annotated[
    str, typer.Option("--layout", metavar="NAME", help="Of the activation atlas: umap (extra atlas) or pca.")
]
GridSide = Annotated[int, typer.Option("--grid", help="Cells along each side of the activation atlas.")]
Positions = Annotated[
    int, typer.Option("--positions", help="Random positions of each photograph for the activation atlas.")
]
Points = Annotated[int, typer.Option("--points", help="Fewest points of a cell of the activation atlas.")]
OverwriteMap = Annotated[
    bool, typer.Option("--overwrite", help="Replace an activation atlas of the layer with other settings.")
]


@contextlib.contextmanager
def engine(file: Path | None, out: Path | None) -> Iterator[Executor | None]:
    """The engine of a file of --executor, which is ended after the block; None without one."""
    if file is None or out is None:
        yield None
        return
    from gen_prior.atlas.executors import load_engine

    with load_engine(file, out) as made:
        yield made


def export_numbers(folder: Path, file: Path, *, as_json: bool, quiet: bool) -> None:
    """Write the numbers of an atlas as a table, and print where."""
    from gen_prior.atlas.hub_export import export_numbers

    rows = export_numbers(folder, file)
    if as_json:
        print_json({"file": str(file), "rows": rows})
    elif not quiet:
        print(f"{counted(rows, 'row')} in {file}")


def make_map(
    classifier: str | None,
    layer: str,
    images: Path | None,
    out: Path | None,
    generators: list[str] | None,
    *,
    device: str,
    as_json: bool,
    quiet: bool,
    progress: ProgressCallback,
    layout: str,
    grid: int,
    positions: int,
    smallest: int,
    evaluations: int,
    seed: int,
    overwrite: bool,
    **network_options: Any,
) -> None:
    """Make the activation atlas of a layer, and print where its page is."""
    import gen_prior

    if classifier is None or images is None or out is None:
        missing = "a classifier" if classifier is None else "a folder of photographs" if images is None else "a folder"
        raise OptionError(
            f"an activation atlas needs {missing}",
            fix="gen-prior atlas efficientnet-lite0 --activation-atlas blocks.12 --images DIR --out DIR",
        )
    made = gen_prior.make_activation_map(
        gen_prior.load_classifier(classifier, device=device, **network_options), layer, images=images, out=out,
        **({"generators": generators} if generators else {}), layout=layout, grid=grid, positions=positions,
        smallest=smallest, evaluations=evaluations, seed=seed, overwrite=overwrite,
        on_bad=None if quiet else print_remark, progress=progress,
    )  # fmt: skip
    if as_json:
        print_json({"page": str(made.page), "cells": len(made.cells), "points": len(made.places)})
    elif not quiet:
        print(f"{counted(len(made.cells), 'cell')} of {counted(len(made.places), 'point')} in {made.page}")
