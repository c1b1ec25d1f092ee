"""Tables in LaTeX, with the packages booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}", "`": r"\`{}",
}  # fmt: skip
"""Character -> what LaTeX prints as that character."""
SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Opens what is as wide as it is, or as the text where that is less."""
MINUS = re.compile(r"(?<!\S)-(?=[\s\d])|(?<=\[)-(?=\d)")
"""A hyphen that is a minus: before a number, or alone."""


def latex_text(text: str) -> str:
    """`text` so that LaTeX prints it as it is, in one line, with minus signs for the hyphens that are meant as such."""
    escaped = "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    return MINUS.sub("$-$", escaped)


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, columns: str, caption: str, label: str) -> str:
    """A `table` whose heads, cells and caption are LaTeX; `columns`: their alignment, such as "lrr".

    A row of one cell spans all columns, as the heading of those below it. In small type, and made smaller where it is
    wider than the text.
    """

    def line(row: Sequence[str]) -> str:
        whole = row if len(row) > 1 else [f"\\multicolumn{{{len(columns)}}}{{l}}{{\\emph{{{row[0]}}}}}"]
        return " & ".join(whole) + r" \\"

    lines = [
        "\\begin{table}", "\\setlength{\\belowcaptionskip}{1ex}",  # else the caption touches the rule
        "\\centering", f"\\caption{{{caption}}}", f"\\label{{{label}}}",
        "\\footnotesize\\setlength{\\tabcolsep}{4pt}", SHRUNK,
        f"\\begin{{tabular}}{{{columns}}}", "\\toprule", " & ".join(heads) + r" \\", "\\midrule",
        *map(line, rows), "\\bottomrule", "\\end{tabular}}", "\\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)
