"""`numbers.csv`: the measures of a run, one row for each image, as docs/howto/numbers.md describes its columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen_prior.optimise.result_rows import (
    CONTROLS,
    FAITHFULNESS,
    ITEM,
    NUMBERS,
    RELATIVE_TO_PHOTOGRAPHS,
    RESULT,
    TARGET,
    control_row,
    faithfulness_row,
    result_rows,
    write_result_numbers,
)
from gen_prior.util.tables import Row, write_tables

COMPARISON: dict[str, type] = {
    "method": str,
    **TARGET,
    **ITEM,
    **RELATIVE_TO_PHOTOGRAPHS,
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
    **FAITHFULNESS,
    **CONTROLS,
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
    **FAITHFULNESS,
    **CONTROLS,
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


def write_comparison_numbers(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the numbers of a comparison, from what `comparison.json` holds."""
    return write_tables(folder, NUMBERS, comparison_rows(record), COMPARISON)


def write_benchmark_numbers(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the numbers of a benchmark, from what `benchmark.json` holds."""
    return write_tables(folder, NUMBERS, benchmark_rows(record), BENCHMARK)


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
            rows.append(
                row
                | {"target_diversity": method["diversity"][t]}
                | faithfulness_row(panels[t])
                | control_row(panels[t])
            )
    return rows


def benchmark_rows(record: Mapping[str, Any]) -> list[Row]:
    """A row for each image of a benchmark, generators outermost, then targets."""
    rows: list[Row] = []
    for generator in record["generators"]:
        for t, item in enumerate(generator["items"]):
            shared = {"method": generator["name"], "target_number": t, "target": item["target"], "layer": item["layer"]}
            shared |= {"target_seconds": item["seconds"], "evaluations": item["evaluations"]}
            shared |= faithfulness_row(item.get("panel")) | control_row(item.get("panel"))
            for s, seed in enumerate(record["seeds"]):
                own = {"activation": item["activations"][s], "photograph_ratio": item["ratios"][s]}
                if "judge_ranks" in item:
                    own["judge_rank"] = item["judge_ranks"][s] or None  # 0: logits that are not finite
                rows.append(shared | {"seed": seed} | own)
    return rows


__all__ = [
    "BENCHMARK",
    "COMPARISON",
    "DREAM",
    "INVERSION",
    "NUMBERS",
    "RESULT",
    "benchmark_rows",
    "comparison_rows",
    "result_rows",
    "write_benchmark_numbers",
    "write_comparison_numbers",
    "write_result_numbers",
]
