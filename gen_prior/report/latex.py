"""Tables in LaTeX, with the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}", "`": r"\`{}",
}  # fmt: skip
"""Character -> what LaTeX prints as that character."""
MINUS = re.compile(r"(?<!\S)-(?=[\s\d])|(?<=\[)-(?=\d)")
"""A hyphen that is a minus: before a number, or alone."""


def latex_text(text: str) -> str:
    """`text` so that LaTeX prints it as it is, in one line, with minus signs for the hyphens that are meant as such."""
    escaped = "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    return MINUS.sub("$-$", escaped)


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, columns: str, caption: str, label: str) -> str:
    """A `table` whose heads, cells and caption are LaTeX; `columns`: their alignment, such as "lrr"."""
    lines = [
        "\\begin{table}", "\\centering", f"\\caption{{{caption}}}", f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{{columns}}}", "\\toprule", " & ".join(heads) + r" \\", "\\midrule",
        *(" & ".join(row) + r" \\" for row in rows), "\\bottomrule", "\\end{tabular}", "\\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)
