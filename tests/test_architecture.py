"""The packages of the library: imports go strictly downwards, without circles, and each says what may be in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "util",
    "hub",
    "classifiers",
    "objectives",
    "generators",
    "optimise",
    "report",
    "applications",
    "atlas",
    "training",
)
ORDER = ("errors", *PACKAGES, "api", "cli")
"""From the bottom up; `defaults` and `recipe` are as low as `errors`, `gen_prior` itself is as high as `api`,
`gen_prior.__main__` as `cli`."""


def module_name(path: Path) -> str:
    """`gen_prior/util/files.py` -> gen_prior.util.files; `cli/` is the package gen_prior.cli."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "gen_prior" else ("gen_prior", *parts)).removesuffix(".__init__")


FILES = {module_name(path): path for top in ("gen_prior", "cli") for path in (ROOT / top).rglob("*.py")}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items() if name != "gen_prior"}


def height(module: str) -> int:
    package = module.split(".")[1] if "." in module else "api"
    if package == "__main__":
        return ORDER.index("cli")
    return ORDER.index(package) if package in ORDER else 0


def imports(nodes: Iterable[ast.AST]) -> set[str]:
    """Our modules that the import statements among `nodes` name, wherever these stand."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in inside}
    return found & FILES.keys()


def test_imports_go_strictly_downwards_without_circles() -> None:
    arrows = {module: imports(ast.walk(tree)) for module, tree in TREES.items()}
    upward = {f"{module} -> {other}" for module in arrows for other in arrows[module] if height(other) > height(module)}
    assert not upward
    TopologicalSorter(arrows).prepare()  # raises CycleError, which lists the modules of a circle


def test_no_import_hides_in_a_function() -> None:
    """Only commands import inside functions, so that `gen-prior --help` need not wait for torch."""
    hidden = {
        f"{module} -> {name}"
        for module, tree in TREES.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and height(module) < ORDER.index("cli")
        for name in imports(ast.walk(function))
    }
    assert not hidden


def test_torchvision_is_imported_where_it_is_used() -> None:
    """It takes as long as torch itself: seconds, which every command and every worker of an atlas would wait for."""
    early = {
        module
        for module, tree in TREES.items()
        if not module.startswith("gen_prior.training")
        for node in tree.body
        if "torchvision" in {str(name).partition(".")[0] for name in _third_party(node)}
    }
    assert not early


def _third_party(node: ast.stmt) -> list[str | None]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def test_packages_say_what_they_hold_and_what_they_import() -> None:
    assert len(list((ROOT / "gen_prior").glob("*.py"))) <= 8
    assert {path.parent.name for path in (ROOT / "gen_prior").glob("*/__init__.py")} == set(PACKAGES)
    for module, path in FILES.items():
        if path.name == "__init__.py" and module in TREES:
            said = (ast.get_docstring(TREES[module]) or "").partition("\n\n")[0]
            assert said.endswith("."), f"{module} does not say what it holds"
            assert "imports " in said or module.split(".")[-1] not in PACKAGES, f"{module} does not say what it imports"
