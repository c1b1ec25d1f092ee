"""A wheel holds all that a user needs, and nothing lands beside the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import load_file

ROOT = Path(__file__).parent.parent
SOURCES = {"gen_prior": "gen_prior", "cli": "gen_prior.cli", "weights": "gen_prior.weights"}
"""Folder of the repository -> the package it is installed as."""
DATA = (".safetensors", ".tsv", ".json", ".md", ".html", ".css", ".js", "py.typed")
NOT_INSTALLED = ("gen_prior.weights.make",)


def repository_packages() -> dict[str, Path]:
    """Every folder with Python files that belongs to the package, by its installed name."""
    found: dict[str, Path] = {}
    for folder, package in SOURCES.items():
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]:
            if path.is_dir() and any(path.glob("*.py")):
                name = ".".join([package, *path.relative_to(ROOT / folder).parts])
                if name not in NOT_INSTALLED:
                    found[name] = path
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that no build folder of an earlier day slips in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = out.glob("*.whl")
    return file


def test_every_package_is_listed() -> None:
    settings = load_file(ROOT / "pyproject.toml")["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted(repository_packages())


def test_wheel_holds_the_code_the_weights_and_the_labels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package, folder in repository_packages().items():
        for path in [*folder.iterdir(), *folder.glob("templates/*"), *folder.glob("assets/*")]:
            if path.suffix == ".py" or path.name.endswith(DATA):
                assert f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}" in names, path
    assert "gen_prior/classifiers/imagenet_classes.tsv" in names
    assert "gen_prior/py.typed" in names
    assert "gen_prior/weights/natural-statistics.safetensors" in names


def test_nothing_lands_beside_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gen_prior"}


def test_installed_command_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    assert (target / "bin" / "gen-prior").exists()
    assert not {"cli", "weights", "tests", "benchmarks"} & {path.name for path in target.iterdir()}

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONWARNINGS": "ignore", "COLUMNS": "200"}
        command = [sys.executable, str(target / "bin" / "gen-prior"), *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import gen_prior, pathlib; print(pathlib.Path(gen_prior.__file__).parent)"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(where.stdout.strip()) == target / "gen_prior"
    assert "compare" in run("--help")
    assert "efficientnet-lite0" in run("models")
    assert "goldfish" in run("labels", "goldfish")
