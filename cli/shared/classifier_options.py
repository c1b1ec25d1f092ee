"""The options of a command's classifier: its input and labels, for networks of the user's own, and axes of units."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_prior.cli.shared.options import parse_size
from gen_prior.errors import OptionError

MAX_LABELS_BYTES = 2**24
"""Most bytes that are read of a file of class names."""
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size", metavar="SIZE", help="Side of the classifier's input, or HEIGHTxWIDTH, for MODULE:NAME."
    ),
]
Mean = Annotated[
    str | None, typer.Option("--mean", metavar="M,M,M", help="Mean of each input channel in [0, 1], for MODULE:NAME.")
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="S,S,S", help="Standard deviation of each input channel, for MODULE:NAME."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Class names for MODULE:NAME: one a line in order, or a JSON list or object of number: name.",
    ),
]
UnitAxis = Annotated[
    list[str] | None,
    typer.Option(
        "--unit-axis",
        metavar="LAYER=AXIS",
        help="Axis of a layer's output that holds its units, such as 1 or -1, where that is unclear; repeatable.",
    ),
]
_OPTIONS: dict[str, Any] = {
    "input_size": InputSize, "mean": Mean, "std": Std, "labels": LabelsFile, "unit_axis": UnitAxis,
}  # fmt: skip


def with_classifier_options(run: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; its parameter `network_options` receives them as options of `load_classifier`."""

    @functools.wraps(run)
    def command(**values: Any) -> None:
        own = {name: values.pop(name) for name in _OPTIONS}
        run(**values, network_options=parse(**own))

    signature = inspect.signature(run, eval_str=True)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "network_options"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    by_keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in kept]
    command.__signature__ = signature.replace(parameters=[*by_keyword, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*by_keyword, *added)}
    return command


def parse(
    input_size: str | None, mean: str | None, std: str | None, labels: Path | None, unit_axis: list[str] | None = None
) -> dict[str, Any]:
    """Options of `load_classifier`, those that are given. Raises `OptionError` for text that cannot be parsed."""
    found: dict[str, Any] = {}
    if input_size is not None:
        found["input_size"] = parse_size(input_size, "--input-size")
    for name, text in (("mean", mean), ("std", std)):
        if text is not None:
            try:
                found[name] = tuple(float(number) for number in text.split(","))
            except ValueError as error:
                raise OptionError(
                    f"--{name} is one number per channel, got {text!r}", fix=f"for example --{name} 0.5,0.5,0.5"
                ) from error
    if labels is not None:
        found["labels"] = read_labels(labels)
    if unit_axis:
        found["unit_axis"] = dict(map(_axis_of, unit_axis))
    return found


def _axis_of(text: str) -> tuple[str, int]:
    """`"LAYER=AXIS"` -> layer and axis. Raises `OptionError` for text of another form."""
    layer, equals, axis = text.rpartition("=")
    if not (layer and equals and re.fullmatch(r"-?\d{1,2}", axis)):
        raise OptionError(f"--unit-axis is LAYER=AXIS, got {text!r}", fix="for example --unit-axis blocks.3=-1")
    return layer, int(axis)


def read_labels(file: Path) -> list[str]:
    """The class names in `file`, in order. Raises `OptionError` for a file that holds none."""
    from gen_prior.util.reading import read_regular

    try:
        text = read_regular(file, limit=MAX_LABELS_BYTES).decode("utf-8-sig")
        if file.suffix != ".json":
            return text.splitlines()
        found = json.loads(text)
        if isinstance(found, dict):  # id2label of transformers
            found = [found[str(number)] for number in range(len(found))]
        if not isinstance(found, list):
            raise ValueError(f"holds a {type(found).__name__}")
        return [str(name) for name in found]
    except (OSError, ValueError, KeyError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OptionError(
            f"no class names in {file}: {reason}", fix="write one name a line, or a JSON list of all names"
        ) from error
