"""Options of the commands that train a prior, as typer annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prior = Annotated[Path, typer.Argument(metavar="PRIOR", help="The folder that an earlier stage, or export, wrote.")]
Images = Annotated[
    list[Path],
    typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder, nested or flat, or .tar shards."),
]
MaybeImages = Annotated[
    list[Path] | None,
    typer.Option("--images", "-i", metavar="DIR", help="Photographs: a folder or .tar shards; repeatable."),
]
Large = Annotated[
    list[Path] | None,
    typer.Option(
        "--large", metavar="DIR", help="Larger photographs, for the high-resolution part of codes; repeatable."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Checkpoints, log, sheets and the result.")]
MaybeOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Stages, index.html and the result.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="Settings of all stages, in TOML; see --print-recipe.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")]
Plan = Annotated[bool, typer.Option("--plan", help="Only measure: print stages, time, memory and disk.")]
Print = Annotated[bool, typer.Option("--print-recipe", help="Only print the recipe, every setting explained.")]
Hours = Annotated[
    float | None, typer.Option("--hours", metavar="H", help="Choose the numbers of steps so that it takes this long.")
]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", metavar="FILE", help="Start with the networks.safetensors of another run."),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Training steps; the library's default if not given.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Photographs per step.")]
Layouts = Annotated[
    int | None,
    typer.Option("--layouts", help="Class exemplars: photographs whose codes are kept for each class; 8 if not given."),
]
Size = Annotated[int | None, typer.Option("--size", help="Side of the first stage's images: 64, 128 or 256.")]
Width = Annotated[float | None, typer.Option("--width", help="Factor on the channels of the generator.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, e.g. adversarial_weight=0.15."),
]
StageSet = Annotated[
    list[str] | None, typer.Option("--set", metavar="STAGE.NAME=VALUE", help="Any setting, e.g. flow.steps=2000.")
]
