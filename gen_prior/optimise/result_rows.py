"""The numbers of a result, a row for each image: `numbers.csv` in its folder, and `Result.to_dataframe`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gen_prior.objectives.natural_statistics import ratio_to
from gen_prior.optimise.result_data import ResultData
from gen_prior.optimise.result_folder import finite, relative_to_photographs
from gen_prior.optimise.stored_result import UNFINISHED
from gen_prior.util.tables import Row, write_tables

NUMBERS = "numbers"
"""File name, without its ending."""

TARGET: dict[str, type] = {"target_number": int, "target": str, "units": str}
ITEM: dict[str, type] = {"seed": int, "image": str, "status": str, "activation": float, "start_activation": float}
RELATIVE_TO_PHOTOGRAPHS: dict[str, type] = {"photograph_quantile": float, "photograph_ratio": float}
FAITHFULNESS: dict[str, type] = {
    "target_path_similarity": float,
    "target_two_alternatives": float,
    "target_two_alternatives_photographs": float,
}
CONTROLS: dict[str, type] = {
    f"target_{measure}_{control}": float
    for measure in ("path_similarity", "two_alternatives")
    for control in ("start", "shuffled_unit", "random_network")
}
RESULT: dict[str, type] = TARGET | ITEM | RELATIVE_TO_PHOTOGRAPHS | {"terms": str} | FAITHFULNESS | CONTROLS


def write_result_numbers(
    result: ResultData, folder: Path, panels: Sequence[Mapping[str, Any] | None] | None = None
) -> list[Path]:
    """Write the numbers of a synthesis; `panels`: as `result_rows` takes them."""
    return write_tables(folder, NUMBERS, result_rows(result, panels), RESULT)


def has_numbers(folder: Path) -> bool:
    """True if the numbers of a run are in `folder`."""
    return (folder / f"{NUMBERS}.csv").is_file()


def result_rows(result: ResultData, panels: Sequence[Mapping[str, Any] | None] | None = None) -> list[Row]:
    """A row for each image of a synthesis, targets outermost; those that are not finished have a status only.

    `panels`: the faithfulness of each target, as `applications.faithfulness` measures it, None for a target without;
    where None, those stored in `result.targets`.
    """
    panels = panels or [target.get("faithfulness") for target in result.targets]
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
            row |= relative_to_photographs(result.activations[t, s], target)
            if row.get("photograph_ratio") is None and (panel := panels[t]) is not None:
                row["photograph_ratio"] = ratio_to(panel.get("best_photograph"), row["activation"])
            row |= {"terms": _terms(target, result.terms[t][s])} | faithfulness_row(panels[t])
            row |= control_row(panels[t])
            rows.append(row)
    return rows


def faithfulness_row(panel: Mapping[str, Any] | None) -> dict[str, Any]:
    """The faithfulness of a target's images together, which all of them share."""
    if panel is None:
        return {}
    return {
        "target_path_similarity": panel["path"]["normalised"],
        "target_two_alternatives": panel["two_alternatives"],
        "target_two_alternatives_photographs": panel["two_alternatives_photographs"],
    }


def control_row(panel: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same measures of the controls: the start, a shuffled unit, a random network."""
    row: dict[str, Any] = {}
    for name, scores in (panel or {}).get("controls", {}).items():
        if scores is not None:
            control = name.replace(" ", "_")
            row[f"target_path_similarity_{control}"] = scores["path"]["normalised"]
            row[f"target_two_alternatives_{control}"] = scores["two_alternatives"]
    return row


def _terms(target: Mapping[str, Any], values: Iterable[float]) -> str | None:
    """The activation of each unit of a mix, as JSON; None for a target that is no mix."""
    named = {term["name"]: finite(value) for term, value in zip(target.get("terms", []), values, strict=False)}
    return json.dumps(named) if named else None
