"""The figure of a comparison: for each measure a panel with the methods' means, intervals and targets."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from gen_prior.errors import MissingExtraError
from gen_prior.report.comparison_analysis import Analysis
from gen_prior.report.comparison_sheet import COLOURS, GREY, INK
from gen_prior.report.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, COLUMNS = 7.2, 3
"""Inches: of a page of two columns of text; panels side by side."""
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": INK,
    "pdf.fonttype": 42,  # text stays text
}
"""Settings of matplotlib that differ from its defaults."""


def check_figures() -> None:
    """Raise `MissingExtraError` without matplotlib."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(
            "figures need matplotlib, which is not installed", fix="pip install 'gen-prior[figures]'"
        )


def figure_files(analysis: Analysis, natural: Mapping[str, Any]) -> dict[str, bytes]:
    """The figure as "pdf" (vectors) and "png" (200 dots per inch), the same bytes for the same analysis.

    `natural`: measure -> value for photographs, drawn as a dashed line.
    """
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        figure = _figure(analysis, natural)
        files = {}
        for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files


def _figure(analysis: Analysis, natural: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    rows = -(-len(analysis.measures) // COLUMNS)
    height = rows * (0.62 + 0.26 * len(analysis.methods))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
    for axes, measure in zip(grid.flat, analysis.measures, strict=False):
        _panel(axes, analysis, measure, natural.get(measure.name))
    for axes in grid.flat[len(analysis.measures) :]:
        axes.set_axis_off()
    return figure


def _panel(axes: Axes, analysis: Analysis, measure: Measure, photographs: float | None) -> None:
    """Draw one measure: a line for each method, from above in the order of the comparison."""
    source = np.random.default_rng(0)
    for place, method in enumerate(analysis.methods):
        colour = COLOURS[place % len(COLOURS)]
        values = measure.factor * np.asarray(list(analysis.values[measure.name][method].values()))
        heights = place + source.uniform(-0.22, 0.22, len(values))  # so that equal values are seen as several
        axes.scatter(values, heights, s=9, color=colour, alpha=0.3, linewidths=0)
        mean = analysis.means[measure.name].get(method)
        if mean is not None:
            if mean.low is not None and mean.high is not None:
                ends = [measure.factor * mean.low, measure.factor * mean.high]
                axes.plot(ends, [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
            point = [measure.factor * mean.value]
            axes.plot(point, [place], "o", color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6)
    if photographs is not None:
        axes.axvline(measure.factor * photographs, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    low, high = (measure.factor * bound for bound in measure.bounds)
    if math.isfinite(high - low):  # the whole range, so that small differences look small
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.set_title(measure.words, loc="left", color=INK)
    axes.set_yticks(range(len(analysis.methods)), analysis.methods)
    axes.set_ylim(len(analysis.methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=2, labelsize=7)
