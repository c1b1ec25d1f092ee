"""`numbers.csv`: the measures of a run, one row for each image, as docs/howto/numbers.md describes its columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gen_prior.optimise.result_folder import beside_photographs, finite
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.report.tables import Row, write_tables

if TYPE_CHECKING:
    from gen_prior.optimise.result import Result

NUMBERS = "numbers"
"""File name, without its ending."""

TARGET: dict[str, type] = {"target_number": int, "target": str, "units": str}
ITEM: dict[str, type] = {"seed": int, "image": str, "status": str, "activation": float, "start_activation": float}
BESIDE: dict[str, type] = {"photograph_quantile": float, "photograph_ratio": float}
PANEL: dict[str, type] = {
    "target_path_similarity": float,
    "target_two_alternatives": float,
    "target_two_alternatives_photographs": float,
}
RESULT: dict[str, type] = TARGET | ITEM | BESIDE | {"terms": str} | PANEL
COMPARISON: dict[str, type] = {
    "method": str,
    **TARGET,
    **ITEM,
    **BESIDE,
    "probability": float,
    "rank": int,
    "judge_class": str,
    "judge_probability": float,
    "judge_rank": int,
    "judge_top1": int,
    "judge_top5": int,
    "kept_blur": float,
    "kept_jpeg": float,
    "kept_shift": float,
    "high_frequency": float,
    "slope": float,
    "target_diversity": float,
    **PANEL,
}
BENCHMARK: dict[str, type] = {
    "method": str,
    "target_number": int,
    "target": str,
    "layer": str,
    "seed": int,
    "activation": float,
    "photograph_ratio": float,
    "judge_rank": int,
    "target_seconds": float,
    "evaluations": int,
    **PANEL,
}
INVERSION: dict[str, type] = {
    "method": str,
    "layer": str,
    "seed": int,
    "image": str,
    "error": float,
    "style_error": float,
}
DREAM: dict[str, type] = {"image": str, "target": str, "seed": int, "activation": float, "start_activation": float}


def write_result_numbers(
    result: Result, folder: Path, panels: Sequence[Mapping[str, Any] | None] | None = None
) -> list[Path]:
    """Write the numbers of a synthesis; `panels`: the faithfulness of each target, where it was measured."""
    return write_tables(folder, NUMBERS, result_rows(result, panels), RESULT)


def write_comparison_numbers(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the numbers of a comparison, from what `comparison.json` holds."""
    return write_tables(folder, NUMBERS, comparison_rows(record), COMPARISON)


def write_benchmark_numbers(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the numbers of a benchmark, from what `benchmark.json` holds."""
    return write_tables(folder, NUMBERS, benchmark_rows(record), BENCHMARK)


def result_rows(result: Result, panels: Sequence[Mapping[str, Any] | None] | None = None) -> list[Row]:
    """A row for each image of a synthesis, targets outermost; those that are not finished have a status only."""
    rows: list[Row] = []
    names = iter(result.names())
    for t, target in enumerate(result.targets):
        for s, seed in enumerate(result.seeds):
            name, status = next(names), result.status[t][s]
            row = {"target_number": t, "target": target["name"], "units": target["target"], "seed": seed}
            if status == UNFINISHED:
                rows.append(row | {"status": status})
                continue
            row |= {"image": f"{name}.png", "status": status, "activation": finite(result.activations[t, s])}
            row |= {"start_activation": finite(result.start_activations[t, s])}
            row |= beside_photographs(result.activations[t, s], target)
            row |= {"terms": _terms(target, result.terms[t][s])} | _panel(panels[t] if panels else None)
            rows.append(row)
    return rows


def comparison_rows(record: Mapping[str, Any]) -> list[Row]:
    """A row for each image of a comparison, methods outermost, then targets."""
    rows: list[Row] = []
    for method in record["methods"]:
        panels = method.get("faithfulness") or [None] * len(record["targets"])
        for item in method["items"]:
            t = item["target"]
            target = record["targets"][t]
            row = {"method": method["name"], "target_number": t, "target": target["name"], "units": target["target"]}
            row |= {name: item.get(name) for name in COMPARISON if name in item and name not in row}
            rows.append(row | {"target_diversity": method["diversity"][t]} | _panel(panels[t]))
    return rows


def benchmark_rows(record: Mapping[str, Any]) -> list[Row]:
    """A row for each image of a benchmark, generators outermost, then targets."""
    rows: list[Row] = []
    for generator in record["generators"]:
        for t, item in enumerate(generator["items"]):
            shared = {"method": generator["name"], "target_number": t, "target": item["target"], "layer": item["layer"]}
            shared |= {"target_seconds": item["seconds"], "evaluations": item["evaluations"]}
            shared |= _panel(item.get("panel"))
            for s, seed in enumerate(record["seeds"]):
                own = {"activation": item["activations"][s], "photograph_ratio": item["ratios"][s]}
                if "judge_ranks" in item:
                    own["judge_rank"] = item["judge_ranks"][s] or None  # 0: logits that are not finite
                rows.append(shared | {"seed": seed} | own)
    return rows


def _panel(panel: Mapping[str, Any] | None) -> dict[str, Any]:
    """The faithfulness of a target's images together, which all of them share."""
    if panel is None:
        return {}
    return {
        "target_path_similarity": panel["path"]["normalised"],
        "target_two_alternatives": panel["two_alternatives"],
        "target_two_alternatives_photographs": panel["two_alternatives_photographs"],
    }


def _terms(target: Mapping[str, Any], values: Iterable[float]) -> str | None:
    """The activation of each unit of a mix, as JSON; None for a target that is no mix."""
    named = {term["name"]: finite(value) for term, value in zip(target.get("terms", []), values, strict=False)}
    return json.dumps(named) if named else None
