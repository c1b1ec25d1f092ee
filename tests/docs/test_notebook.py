"""The notebook runs as it stands, with fewer steps; what is stored in it is what its cells show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
CHEAP_NUMBERS = {"steps": 1, "evaluations": 4, "seeds": 2}
"""Keyword arguments of the cells -> the value that is run."""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> set[str]:
    """What a cell shows: kinds of data, and text that it prints; not its progress bar."""
    shown = {kind for output in cell.outputs for kind in output.get("data", {})}
    printed = {output.name for output in cell.outputs if output.output_type == "stream"}
    return shown | (printed & {"stdout"})


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(NOTEBOOK, 4)


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own, which come and go
def test_the_notebook_runs(stored: Any, tmp_path: Path) -> None:
    notebook = nbformat.from_dict(json.loads(json.dumps(stored)))
    for cell in code_cells(notebook):
        for name, value in CHEAP_NUMBERS.items():
            cell.source = re.sub(rf"(\b{name}=)\d+", rf"\g<1>{value}", cell.source)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    for before, now in zip(code_cells(stored), code_cells(notebook), strict=True):
        assert kinds(now) == kinds(before), before.source


def test_its_outputs_are_stored(stored: Any) -> None:
    for cell in code_cells(stored):
        assert cell.execution_count, cell.source
        assert kinds(cell), cell.source
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert "Warning" not in text
    assert "site-packages" not in text
    assert len(text) < 500_000


def test_its_links_lead_to_files(stored: Any) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", "\n".join(cell.source for cell in stored.cells))
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).exists(), link
