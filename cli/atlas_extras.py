"""What `gen-prior atlas` does beside the sweep: the activation atlas of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gen_prior.cli.output import note, print_json
from gen_prior.errors import OptionError

if TYPE_CHECKING:
    from gen_prior.util.progress import ProgressCallback

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
        on_bad=None if quiet else note, progress=progress,
    )  # fmt: skip
    if as_json:
        print_json({"page": str(made.page), "cells": len(made.cells), "points": len(made.places)})
    elif not quiet:
        print(f"{len(made.cells)} cells of {len(made.places)} points in {made.page}")
