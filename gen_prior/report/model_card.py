"""The model card of an exported generator: description, how to load it, samples, licence and comparison."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen_prior.generators.base import Generator
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.hub.tensors import read_file_metadata

log = logging.getLogger(__name__)

LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
"""Our name of a licence -> the Hub's identifier; all others are "other" there."""


def model_card(name: str, generator: Generator, samples: int, numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The README of an exported generator, with the Hub's header.

    `samples` is the number of sample images in the folder, `numbers` the `Comparison.summary()` to print.
    """
    set_options = {key: value for key, value in generator.options.items() if value is not None and key != "file"}
    options = "".join(f", {key}={value!r}" for key, value in set_options.items())
    lines = [
        "---",
        f"license: {LICENCES.get(generator.provenance.licence or '', 'other')}",
        "library_name: gen-prior",
        "tags: [activation-maximization, feature-visualization, image-generation]",
        "---",
        "",
        f"# {name}",
        "",
        "A generator prior for the synthesis of preferred inputs of neurons.",
        "",
        "```python",
        "import gen_prior as gp",
        "",
        f'generator = gp.load_generator("hf-hub:ORG/NAME"{options})  # or "local-dir:THIS_FOLDER"',
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {_cell(key)} | {_cell(value)} |" for key, value in _facts(generator).items()),
        "",
    ]
    if samples:
        lines += ["Images of random codes, seeds from 0:", ""]
        lines += [" ".join(f"![seed {seed}](samples/seed-{seed}.png)" for seed in range(samples)), ""]
    if numbers:
        lines += _comparison_table(numbers)
    return "\n".join(lines)


def _facts(generator: Generator) -> dict[str, str]:
    """Rows of the card's table about the generator."""
    provenance = generator.provenance
    height, width = generator.image_shape()
    facts = {
        "code": f"{' x '.join(map(str, generator.code_shape))} dimensions",
        "image": f"{height} x {width} px, RGB",
        "source": provenance.source,
        "revision": provenance.revision or "none",
        "paper": provenance.paper or "none",
        "licence": provenance.licence or "unknown",
        "can encode images": "yes" if generator.can_encode else "no",
    }
    flow = getattr(generator.module, "flow", None)
    if isinstance(flow, CodeFlow) and flow.config.exemplars:
        facts["classes start from"] = (
            f"codes of {flow.config.exemplars} photographs for each of {flow.config.classes} classes, "
            "which it contains: they decode to blurred likenesses, to which the photographs' own terms apply"
        )
    return facts


def _comparison_table(numbers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of a table of methods and their measures."""
    measures = sorted({measure for row in numbers.values() for measure in row})
    lines = ["Compared on the same targets, seeds and evaluations (value, 95 % interval):", ""]
    lines += [f"| method | {' | '.join(map(_cell, measures))} |", "|---" * (len(measures) + 1) + "|"]
    for method, row in numbers.items():
        lines.append(f"| {_cell(method)} | {' | '.join(_value(row.get(measure)) for measure in measures)} |")
    return [*lines, ""]


def stated_comparison(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The comparison in the metadata of the weights in `folder`, as a `Comparison.summary()`; empty if there is none.

    The metadata's entry `comparison` is JSON: a summary, or the whole record of a comparison.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        text = read_file_metadata(path).get("comparison")
        if text is None:
            continue
        try:
            found = json.loads(text)
            rows = found["methods"] if isinstance(found.get("methods"), list) else None
            summary = {row["name"]: row["summary"] for row in rows} if rows is not None else found
            return {str(name): row for name, row in summary.items() if isinstance(row, Mapping)}
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            log.warning("the comparison stated in %s cannot be read and is left out (%r)", path.name, error)
    return {}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _value(entry: Any) -> str:
    """Text of a measure: its value and interval, or a bare number; "-" for anything else."""
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else "")


def _number(value: Any) -> float | None:
    """The number in a file of someone else's, or None if it is another thing or too large."""
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None
