"""The numbers of a benchmark: items -> means with 95 % bootstrap intervals -> one table in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gen_prior.report.distances import bootstrap_interval, diversity, frechet_distance, kernel_distance
from gen_prior.util.words import counted

Item = dict[str, Any]
CONTROLS = ("start", "shuffled unit", "random network")


def summary(items: Sequence[Item], features: Sequence[Tensor], natural: Tensor | None) -> dict[str, Any]:
    """Means over images or targets, each `{value, low, high, count}`; distances are plain numbers.

    `features`: the judge's, `[seeds, D]` for the images of each item; `natural`: of photographs, `[M, D]`. What was
    not measured is left out.
    """
    classes, units = [one for one in items if one["is_class"]], [one for one in items if not one["is_class"]]
    ranks = [rank for one in classes for rank in one["judge_ranks"]]
    found: dict[str, Any] = {
        "classes: judge names it": mean([float(rank == 1) for rank in ranks]),
        "classes: in the judge's top 5": mean([float(rank <= 5) for rank in ranks]),
        "classes: logit in the source": mean([value for one in classes for value in one["activations"]]),
    }
    of_classes = [part for one, part in zip(items, features, strict=True) if one["is_class"]]
    if of_classes:
        found["classes: diversity over seeds"] = _diversity(of_classes)
        images = torch.cat(of_classes)
        if natural is not None and len(images) > 1:
            found["classes: kernel distance from photographs"] = kernel_distance(images, natural)
            found["classes: Frechet distance from photographs"] = frechet_distance(images, natural)
    for layer in dict.fromkeys(one["layer"] for one in units):
        inside = [one for one in units if one["layer"] == layer]
        found |= {f"{layer}: {name}": value for name, value in _of_units(inside).items()}
        own = [part for one, part in zip(items, features, strict=True) if not one["is_class"] and one["layer"] == layer]
        found[f"{layer}: diversity over seeds of a unit"] = _diversity(own)
        found[f"{layer}: diversity over units at a seed"] = _diversity(list(torch.stack(own, 1)))
    if len({one["layer"] for one in units}) > 1:
        found |= {f"all units: {name}": value for name, value in _of_units(units).items()}
    found["seconds for an image"] = mean([one["seconds"] for one in items])
    found["evaluations for an image"] = mean([float(one["evaluations"]) for one in items])
    return {name: value for name, value in found.items() if value is not None}


def _diversity(groups: Sequence[Tensor]) -> dict[str, Any] | None:
    """Mean over groups of images, `[N, D]` each, of the distance between two images of a group."""
    return mean([value for group in groups if (value := diversity(group)) is not None])


def _of_units(items: Sequence[Item]) -> dict[str, Any]:
    panels = [one["panel"] for one in items if one.get("panel")]
    ratios = [ratio for one in items for ratio in one["ratios"] if ratio is not None]

    def over(read: Callable[[Item], float | None]) -> dict[str, Any] | None:
        return mean([value for panel in panels if (value := read(panel)) is not None])

    controls = {
        f"control: {name}, of the best photograph": over(
            lambda panel, name=name: (panel["controls"][name] or {}).get("ratio")  # type: ignore[misc]
        )
        for name in CONTROLS
    }
    scores = {
        f"control: {name}, two alternatives": over(
            lambda panel, name=name: (panel["controls"][name] or {}).get("two_alternatives")  # type: ignore[misc]
        )
        for name in CONTROLS
    }
    return {
        "activation / best photograph's": mean(ratios),
        "above the best photograph": mean([float(ratio > 1) for ratio in ratios]),
        "path similarity (photographs of the unit: 1, arbitrary: 0)": over(lambda panel: panel["path"]["normalised"]),
        "two alternatives, shown these pictures": over(lambda panel: panel["two_alternatives"]),
        "two alternatives, shown photographs": over(lambda panel: panel["two_alternatives_photographs"]),
        **controls,
        **scores,
    }


def mean(values: Sequence[float]) -> dict[str, Any] | None:
    """The mean with its 95 % bootstrap interval; None for no values."""
    if not values:
        return None
    low, high = bootstrap_interval(values, statistic="mean")
    return {"value": sum(values) / len(values), "low": low, "high": high, "count": len(values)}


def markdown(record: dict[str, Any]) -> str:
    """The table of a benchmark's record: a column for each generator; 95 % intervals in brackets."""
    generators = record["generators"]
    names = list(dict.fromkeys(name for one in generators for name in one["summary"]))
    lines = [
        f"# {record['classifier']['name']}, judged by {record['judge']['name']}",
        "",
        f"{counted(len(record['targets']), 'target')}, {counted(len(record['seeds']), 'seed')}, "
        f"{counted(record['evaluations'], 'evaluation')} for an image at most. "
        "Means; 95 % bootstrap intervals in brackets.",
        "",
        "| | " + " | ".join(f"`{one['name']}`" for one in generators) + " |",
        "|---|" + "---|" * len(generators),
    ]
    for name in names:
        cells = [_cell(one["summary"].get(name)) for one in generators]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
