"""The card of an exported generator: what it is, how to load it, samples, licence and the numbers of its comparison."""

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
"""Ours -> the Hub's identifier; anything else is "other"."""


def model_card(name: str, generator: Generator, samples: int, numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The README of an exported generator, with the Hub's header. `numbers`: `Comparison.summary()`."""
    set_options = {key: value for key, value in generator.options.items() if value is not None and key != "file"}
    options = "".join(f", {key}={value!r}" for key, value in set_options.items())
    provenance = generator.provenance
    licence = provenance.licence or "unknown"
    height, width = generator.image_shape()
    facts = {
        "code": f"{' x '.join(map(str, generator.code_shape))} numbers",
        "image": f"{height} x {width} px, RGB",
        "source": provenance.source,
        "revision": provenance.revision or "none",
        "paper": provenance.paper or "none",
        "licence": licence,
        "can encode images": "yes" if generator.can_encode else "no",
    }
    flow = getattr(generator.module, "flow", None)
    if isinstance(flow, CodeFlow) and flow.config.exemplars:
        facts["classes begin at"] = (
            f"codes of {flow.config.exemplars} photographs for each of {flow.config.classes} classes, which it holds: "
            "blurred likenesses, to which the photographs' own terms apply"
        )
    lines = [
        "---",
        f"license: {LICENCES.get(licence, 'other')}",
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
        *(f"| {_cell(key)} | {_cell(value)} |" for key, value in facts.items()),
        "",
    ]
    if samples:
        lines += ["Images of random codes, seeds from 0:", ""]
        lines += [" ".join(f"![seed {seed}](samples/seed-{seed}.png)" for seed in range(samples)), ""]
    if numbers:
        measures = sorted({measure for row in numbers.values() for measure in row})
        lines += ["Compared on the same targets, seeds and evaluations (value, 95 % interval):", ""]
        lines += [f"| method | {' | '.join(map(_cell, measures))} |", "|---" * (len(measures) + 1) + "|"]
        for method, row in numbers.items():
            lines.append(f"| {_cell(method)} | {' | '.join(_number(row.get(measure)) for measure in measures)} |")
        lines.append("")
    return "\n".join(lines)


def stated_comparison(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The numbers in the metadata of the weights in `folder`, as of `Comparison.summary()`; empty where there are none.

    The metadata's `comparison` is JSON: such a summary, or the whole record of a comparison.
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
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            log.warning("the comparison stated in %s cannot be read (%r), so it is left out", path.name, error)
    return {}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _number(entry: Any) -> str:
    """A measure's value and interval, or a bare number."""
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else "")


__all__ = ["model_card", "stated_comparison"]
