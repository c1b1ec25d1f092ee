"""The version is stated in pyproject.toml; what else names it says the same."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gen_prior.cli import app

ROOT = Path(__file__).parent.parent


def stated(file: str, pattern: str) -> str:
    """The first match of `pattern` in a file of the repository."""
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, file
    return found[1]


VERSION = stated("pyproject.toml", r'^version = "(.+)"$')


@pytest.mark.parametrize(
    ("file", "pattern"), [("CITATION.cff", r"^version: (.+)$"), ("CHANGELOG.md", r"^## \[(\d.+?)\]")]
)
def test_other_files_name_the_same_version(file: str, pattern: str) -> None:
    assert stated(file, pattern) == VERSION


def test_the_installed_package_and_the_command_have_it() -> None:
    assert metadata.version("gen-prior") == VERSION, "install again: pip install -e ."
    assert CliRunner().invoke(app, ["--version"]).stdout == f"gen-prior {VERSION}\n"
