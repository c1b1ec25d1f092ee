"""The report of a comparison: `report.md`, `report.tex`, and the figure as `figure.pdf` and `figure.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gen_prior.report.comparison_analysis import Analysis, Pair, analyse
from gen_prior.report.comparison_figure import check_figures, figure_files
from gen_prior.report.latex import latex_table, latex_text
from gen_prior.report.measures import RELATIVE, Measure
from gen_prior.report.paired import EXACT_UP_TO, FEWEST, RANDOM_FLIPS, RESAMPLES
from gen_prior.util.files import write_files
from gen_prior.util.words import counted

PAIRED = ("measure", "difference of", "targets", "difference", "p", "p (Holm)")
SIGNIFICANT = 0.05


def write_report(record: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Write the report of a comparison, from what `comparison.json` holds, and return the paths of its four files.

    Raises `MissingExtraError` without matplotlib, `OutputError` if they cannot be written.
    """
    check_figures()
    analysis, folder = analyse(record), Path(folder)
    files = {folder / f"figure.{kind}": data for kind, data in figure_files(analysis, record["natural"]).items()}
    files |= {
        folder / "report.md": markdown(record, analysis).encode(),
        folder / "report.tex": latex(record, analysis).encode(),
    }
    write_files(files)
    return list(files)


def markdown(record: Mapping[str, Any], analysis: Analysis) -> str:
    """The report in Markdown."""
    names = [f"`{name}`" for name in analysis.methods]
    lines = [f"# Methods compared for `{record['classifier']['name']}`", "", _terms(record), "", _methods(analysis), ""]
    lines += ["![Means over targets; each dot is a target](figure.png)", "", _of_figure(record, analysis), ""]
    lines += ["## Means over targets", ""]
    lines += _markdown_table(["", *names, "photographs"], _means(record, analysis))
    lines += ["", *(f"- {words}" for words in notes(record, analysis))]
    if analysis.pairs:
        lines += ["", "## Paired differences between methods", ""]
        rows = [[*row[:-1], f"**{row[-1]}**" if _stands(pair) else row[-1]] for pair, row in _differences(analysis)]
        lines += _markdown_table(list(PAIRED), rows)
    return "\n".join(lines) + "\n"


def latex(record: Mapping[str, Any], analysis: Analysis) -> str:
    """The tables in LaTeX, to be read with `\\input`; they need the packages booktabs and graphicx."""
    heads = ["measure", *analysis.methods, "photographs"]
    name = record["classifier"]["name"]
    words = f"Methods compared for {name}: means over targets. {_terms(record)} {' '.join(notes(record, analysis))}"
    words = words.replace("`", "")
    parts = [
        "% Needs \\usepackage{booktabs,graphicx}. Tables of a comparison by gen-prior. figure.pdf lies beside it;\n"
        f"% a caption for it: {latex_text(_of_figure(record, analysis))}",
        latex_table(
            _escaped(heads), list(map(_escaped, _means(record, analysis))), columns="l" + "r" * (len(heads) - 1),
            caption=latex_text(words), label="tab:methods",
        ),
    ]  # fmt: skip
    if analysis.pairs:
        heads = _escaped([PAIRED[0], *PAIRED[2:]])
        words = f"Paired differences between methods. {_methods(analysis)}"
        parts.append(
            latex_table(heads, _grouped(analysis), columns="lrrrr", caption=latex_text(words), label="tab:differences")
        )
    return "\n\n".join(parts) + "\n"


def _grouped(analysis: Analysis) -> list[list[str]]:
    """Rows of the differences in LaTeX, those of two methods below a row that names them."""
    groups: dict[str, list[list[str]]] = {}
    for pair, row in _differences(analysis):
        last = f"\\textbf{{{latex_text(row[-1])}}}" if _stands(pair) else latex_text(row[-1])
        groups.setdefault(_pair(pair), []).append([*_escaped([row[0], *row[2:-1]]), last])
    return [line for name, rows in groups.items() for line in ([latex_text(name)], *rows)]


def notes(record: Mapping[str, Any], analysis: Analysis) -> list[str]:
    """Explain the measures of a report, a sentence or two for each kind of them."""
    counts = {mean.count for means in analysis.means.values() for mean in means.values()}
    found = [note for note in dict.fromkeys(measure.note for measure in analysis.measures) if note]
    if RELATIVE in analysis.measures:
        found.insert(0, "Activation: divided by the largest magnitude that any method reaches for the same target.")
    fewer = min(counts, default=0) < len(record["targets"])
    return found + (["(n=...): targets with a value, where these are not all."] if fewer else [])


def _of_figure(record: Mapping[str, Any], analysis: Analysis) -> str:
    """The caption of the figure."""
    drawn = any(mean.low is not None for means in analysis.means.values() for mean in means.values())
    bars = " with 95 % bootstrap intervals (bars)" if drawn else ""
    words = f"Means over {counted(len(record['targets']), 'target')} (large dots){bars}; "
    dashed = any(measure.name in record["natural"] for measure in analysis.measures)
    return words + "each small dot is a target." + (" Dashed: photographs." if dashed else "")


def _pair(pair: Pair) -> str:
    return f"{pair.first} minus {pair.second}"


def _escaped(row: Sequence[str]) -> list[str]:
    return [latex_text(cell) for cell in row]


def _terms(record: Mapping[str, Any]) -> str:
    """How many targets, seeds and evaluations; the judge."""
    targets, seeds = len(record["targets"]), len(record["seeds"])
    words = f"{counted(targets, 'target')}, {counted(seeds, 'seed')} each, {record['evaluations']} classifier "
    words += "evaluations for each image."
    judge = record["judge"]
    return words + (f" Judge, which no method optimises: `{judge['name']}`." if judge else " There was no judge.")


def _methods(analysis: Analysis) -> str:
    """How the numbers were computed."""
    words = (
        "The unit of analysis is the target: values are averaged over its seeds first. In brackets: 95 % bootstrap "
        f"intervals over targets ({RESAMPLES:,} resamples), where there are at least {FEWEST}."
    )
    if not analysis.pairs:
        return words
    if not analysis.tests:
        return words + f" Differences of fewer than {FEWEST} targets are not tested: no p could be below {SIGNIFICANT}."
    words += (
        f" p: two-sided sign-flip permutation test of the paired differences (all flips up to {EXACT_UP_TO} targets, "
        f"{RANDOM_FLIPS:,} random ones beyond). p (Holm): corrected for all {counted(analysis.tests, 'test')} of this "
        "report."
    )
    return words + _power(analysis)


def _power(analysis: Analysis) -> str:
    """A sentence that says so where no corrected p can be below `SIGNIFICANT`, and how many targets would allow it."""
    most, tests = max(pair.difference.count for pair in analysis.pairs), analysis.tests
    smallest = min(1.0, tests * 2.0 ** (1 - most))
    if smallest < SIGNIFICANT:
        return ""
    enough = next(count for count in range(most, 64) if tests * 2.0 ** (1 - count) < SIGNIFICANT)
    return (
        f" With {most} targets and so many tests, no corrected p can be below {smallest:.2g}; with {enough} targets, "
        f"it can be below {SIGNIFICANT}."
    )


def _means(record: Mapping[str, Any], analysis: Analysis) -> list[list[str]]:
    """A row for each measure: its mean by each method, and its value for photographs."""

    def cell(measure: Measure, method: str) -> str:
        mean = analysis.means[measure.name].get(method)
        if mean is None:
            return "-"
        fewer = f" (n={mean.count})" if mean.count < len(record["targets"]) else ""
        return f"{measure.shown(mean.value)}{_interval(measure, mean.low, mean.high)}{fewer}"

    natural = record["natural"]
    return [
        [
            measure.words,
            *(cell(measure, method) for method in analysis.methods),
            measure.shown(natural[measure.name]) if measure.name in natural else "",
        ]
        for measure in analysis.measures
    ]


def _differences(analysis: Analysis) -> list[tuple[Pair, list[str]]]:
    """Each pair with its row of the table of differences."""
    rows = []
    for pair in analysis.pairs:
        found, measure = pair.difference, pair.measure
        difference = measure.shown(found.mean, signed=True) + _interval(measure, found.low, found.high, signed=True)
        values = [_p(found.p), _p(pair.p)]
        rows.append((pair, [measure.words, _pair(pair), str(found.count), difference, *values]))
    return rows


def _stands(pair: Pair) -> bool:
    return pair.p is not None and pair.p < SIGNIFICANT


def _interval(measure: Measure, low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None:
        return ""
    return f" [{measure.shown(low, signed=signed)}, {measure.shown(high, signed=signed)}]"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
