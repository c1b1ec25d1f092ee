"""The documentation names everything that is public, its links lead to files, and the site builds without a warning."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gen_prior
from gen_prior import api
from gen_prior.cli import COMMANDS, app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "weights" / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(scope="module")
def conf() -> Any:
    """docs/conf.py, which writes the reference pages."""
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as the contributors' command does."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "trees")]
    built = subprocess.run([*command, str(DOCS), str(out / "html")], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return out / "html"


def members(module: ModuleType) -> set[str]:
    """Functions that are defined for users of a public module, without those that build them by name."""
    found = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__.startswith(module.__name__) and not name.startswith("_")
    }
    return {name for name in found if not re.match(r"(build|check|as)_|checked_", name)}


def test_the_built_pages_name_everything(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in api.__all__:
        place = f"module-gen_prior.{name}" if isinstance(getattr(api, name), ModuleType) else f"gen_prior.{name}"
        assert f'id="{place}"' in text, name
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f'id="gen-prior-{name}"' in commands, name


def test_the_reference_pages_are_written_from_the_library(conf: Any) -> None:
    text = conf.api_page()
    for name in api.__all__:
        assert re.search(rf"gen_prior\.{name}$", text, re.MULTILINE), name
    text = conf.commands_page()
    for command in app.registered_commands:
        assert (f"## gen-prior {command.name}\n" in text) != command.hidden
    assert "## gen-prior train-prior stage flow\n" in text
    assert "| `--layer LAYER` |" in text
    assert "| `--seeds SEEDS` | Number of seeds: 0, 1, 2, ... | `4` |" in text


def test_docstrings_need_no_markup(conf: Any) -> None:
    lines = ["Mean |x| of `a|b` and", "`several", "words`s, for x_ and *rest."]
    conf.on_docstring(None, "function", "name", None, None, lines)
    assert lines == ["Mean \\|x\\| of `a|b` and", "`several", "words`\\ s, for x\\_ and \\*rest."]


@pytest.mark.parametrize("name", ["objectives", "regularisers", "transforms", "edits"])
def test_the_tables_of_functions_are_complete(name: str) -> None:
    module = importlib.import_module(f"gen_prior.{name}") if name not in api.__all__ else getattr(gen_prior, name)
    text = (DOCS / "howto" / "own-objective.md").read_text(encoding="utf-8")
    for member in members(module) - {"activation", "log_probability", "gram"}:
        assert re.search(rf"`{member}[(`]", text), member


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_hashes_of_the_weights_are_true() -> None:
    text = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)
    weights = ROOT / "weights"
    assert {name for _, name in found} == {
        path.relative_to(weights).as_posix() for path in weights.rglob("*.safetensors")
    }
    for digest, name in found:
        assert hashlib.sha256((ROOT / "weights" / name).read_bytes()).hexdigest() == digest, name
