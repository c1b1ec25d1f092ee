"""Options that several commands share, as typer annotations; their defaults are those of the library."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_prior.errors import OptionError

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET...",
        show_default=False,
        help="A class (goldfish, 1, n01443537) or a unit: LAYER:UNIT, LAYER:UNIT@y,x, LAYER:UNIT@mean, "
        "LAYER:UNIT@token=3; several units: 'LAYER:*', LAYER:0-63, LAYER:1,5,9, 'blocks.*:3'; a mix: goldfish+monarch, "
        "0.7*goldfish-tabby; 'text:\"a fox\"' of a CLIP-like classifier. After --, one that is "
        "to respond least: -- -goldfish.",
    ),
]
ClassifierName = Annotated[
    str,
    typer.Option(
        "--classifier",
        "-c",
        metavar="NAME",
        help="Classifier; see gen-prior models. my_package.my_module:build is your own code, which is imported and "
        "run: a network, or a function that returns one.",
    ),
]
GeneratorName = Annotated[
    str, typer.Option("--generator", "-g", metavar="NAME", help="Generator; see gen-prior models.")
]
PRESETS = (
    "simonyan2014, mahendran2015, yosinski2015-1, yosinski2015-2, yosinski2015-3, yosinski2015-4, deepdream2015, "
    "lucid2017, maco2023 in pixels; dgnam2016, ppgn2017, biggan-am, reno2024, tokenopt2025 through a generator"
)
"""The presets of `gen_prior.optimise.presets`, repeated here because --help does not import torch."""
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help=f"Published settings; the generator's own if not given. One of {PRESETS}."
    ),
]
Html = Annotated[
    bool, typer.Option("--html", help="Also write gallery.html: all images with their numbers, as a page to open.")
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds: 0, 1, 2, ...")]
Seed = Annotated[list[int] | None, typer.Option("--seed", help="A seed, instead of --seeds; repeatable.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimisation steps; the recipe's if not given.")]
Evaluations = Annotated[
    int | None,
    typer.Option(
        "--evaluations",
        help="Instead of --steps: classifier evaluations for each image, those that choose its start included, as "
        "compare counts them.",
    ),
]
Rate = Annotated[float | None, typer.Option("--rate", help="Step size; the recipe's if not given.")]
Candidates = Annotated[
    int | None,
    typer.Option(
        "--candidates",
        help="Random starts, of which the best is optimised (random restarts); the recipe's if not given.",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials",
        help="Best starts that are optimised for an eighth of the steps each, to keep the best (successive halving); "
        "the recipe's if not given.",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="Size of a hidden unit's image in the input: unit (the part that it sees most of), image (the whole "
        "input) or a side in pixels; the recipe's if not given.",
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        "--score",
        help="What is maximised: activation, log_probability (of classes), or capped (climb to what the best "
        "photograph reaches, and stay there); the recipe's if not given.",
    ),
]
Natural = Annotated[
    Path | None,
    typer.Option(
        "--natural",
        metavar="FILE",
        help="What photographs reach at each unit, a table that gen-prior natural made; the installed one if not "
        "given.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for the results, where the same command goes on if it was stopped; if not given, a folder of its "
        "own in gen-prior-out.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out, with all files that it wrote.")]
Precision = Annotated[str, typer.Option("--precision", metavar="FORMAT", help="fp32, bf16 or auto.")]
Batch = Annotated[
    int | None,
    typer.Option("--batch", help="Images at a time; if not given, chosen by memory and halved when it runs out."),
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the classifier, which pays off on a GPU.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of the generator, such as image_size=128; repeatable."),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="SIZE",
        help="Side of the images in pixels, or HEIGHTxWIDTH in pixels and Fourier coefficients; the generator's own if "
        "not given. The embedded prior draws 256, 512 or 1024.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no remarks.")]


def chosen_seeds(seeds: int, seed: list[int] | None) -> int | list[int]:
    """The `seeds` argument of the library: those given by --seed, or else the number of --seeds."""
    return list(seed) if seed else seeds


def parsed_scale(scale: str | None) -> str | int | None:
    """A side in pixels as a number; "unit" and "image" as they are."""
    return int(scale) if scale is not None and scale.isdecimal() and len(scale) < 10 else scale


def given(**values: Any) -> dict[str, Any]:
    """The `values` that are not None: those that the user set."""
    return {name: value for name, value in values.items() if value is not None}


def parse_size(text: str, name: str) -> int | tuple[int, int]:
    """`"224"` -> 224, `"36x64"` -> (36, 64). Raises `OptionError`, which calls it `name`, for other text."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise OptionError(f"{name} is a side or HEIGHTxWIDTH in pixels, got {text!r}", fix="224, 36x64")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


def chosen_size(image_size: str | None) -> int | tuple[int, int] | None:
    """The `image_size` argument of the library. Raises `OptionError` as `parse_size`."""
    return None if image_size is None else parse_size(image_size, "--image-size")


def generator_options(pairs: Sequence[str] | None, image_size: str | None) -> dict[str, Any]:
    """Options of a generator from --set and --image-size. Raises `OptionError` as `parse_settings`, `parse_size`."""
    return parse_settings(pairs) | given(image_size=chosen_size(image_size))


def parse_settings(pairs: Sequence[str] | None, *, example: str = "image_size=128") -> dict[str, Any]:
    """`["image_size=128", "kind=a"]` -> `{"image_size": 128, "kind": "a"}`; values that are JSON are parsed.

    Raises `OptionError`, which shows `example`, for a pair without a name or "=".
    """
    settings: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in ("spec", "device"):  # which commands pass themselves
            raise OptionError(f"--set takes NAME=VALUE of a setting, got {pair!r}", fix=f"for example --set {example}")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):
            settings[name] = value
    return settings
