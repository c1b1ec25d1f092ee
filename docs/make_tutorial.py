"""Runs the commands and the Python of tutorial.md, and writes what they print and draw into it.

    python docs/make_tutorial.py

A block of text behind a block of bash or Python is its output. Pictures are the contact sheets of the runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
TUTORIAL = DOCS / "tutorial.md"
PAIR = re.compile(r"```(bash|python)\n([^`]*)```\n(?:\n```text\n([^`]*)```\n)?")
SHEETS = {"first": "first.jpg", "compared": "compared.jpg", "hidden": "hidden.jpg"}
WIDEST = 720


def output_of(command: str) -> str:
    """Standard output of the commands of a block, run by this Python."""
    text = ""
    for line in command.splitlines():
        name, *rest = shlex.split(line)
        if name != "gen-prior":
            raise ValueError(f"only gen-prior is run, not {line!r}")
        ran = subprocess.run([sys.executable, "-m", "gen_prior", *rest], check=True, stdout=subprocess.PIPE, text=True)
        text += ran.stdout
    return text


def renewed(page: str, variables: dict[str, object]) -> str:
    """The tutorial with the output of each block that has one; `...` in an output keeps it as it is."""

    def run(match: re.Match[str]) -> str:
        kind, code, before = match.groups()
        if "pip install" in code:
            return match.group()
        if kind == "bash":
            printed = output_of(code)
        else:
            with contextlib.redirect_stdout(io.StringIO()) as caught:
                exec(compile(code, TUTORIAL.name, "exec"), variables)
            printed = caught.getvalue()
        if before is None or "..." in before:
            return match.group()
        return match.group().replace(before, "".join(f"{line.rstrip()}\n" for line in printed.splitlines()))

    return PAIR.sub(run, page)


def main() -> None:
    """Run the tutorial in a folder of its own and keep its outputs and pictures."""
    page = TUTORIAL.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        variables: dict[str, object] = {}
        page = renewed(page, variables)
        pictures = {name: Image.open(Path(run, "contact-sheet.png")).convert("RGB") for run, name in SHEETS.items()}
        pictures["mixed.jpg"] = variables["mixed"].sheet()  # type: ignore[attr-defined]
        for name, picture in pictures.items():
            picture.thumbnail((WIDEST, 4 * WIDEST))
            picture.save(DOCS / "images" / "tutorial" / name, quality=88)
    TUTORIAL.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
