"""Every code block of the README and of docs/ runs as it stands, with fewer steps.

`<!-- test: parse only -->` above a block: its commands are only parsed, because they train for hours or download.
`<!-- test: output -->` above a `text` block: it is what the command before it prints, to the letter.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import gen_prior
from gen_prior import api
from gen_prior.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "weights" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("python", "bash", "text", "{toctree}", "{eval-rst}")
CHEAP_NUMBERS = {"steps": 1, "iterations": 10, "seeds": 1, "octaves": 2, "population": 4, "candidates": 3, "trials": 2}
"""Keyword arguments of the examples -> the value that is run."""
CHEAP_OPTIONS = {"--steps": "1", "--seeds": "1"}
"""Given to every command that has the option."""
CHEAPER_OPTIONS = {
    "--evaluations": "8",
    "--per-class": "1",
    "--frames": "2",
    "--population": "4",
    "--candidates": "3",
    "--trials": "2",
}
"""Replace the value where an example gives the option."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its first line of code, its language, and the mark above it."""

    line: int
    language: str
    source: str
    mark: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    form = re.compile(
        r"^(?:<!-- test: (?P<mark>[a-z ]+) -->\n)?```(?P<language>\S*)\n(?P<source>.*?)^```$", re.M | re.S
    )
    return [
        Block(text.count("\n", 0, found.start("source")), found["language"], found["source"], found["mark"] or "")
        for found in form.finditer(text)
    ]


def command_lines(source: str) -> Iterator[list[str]]:
    """The words of each command of a bash block, without assignments of environment variables."""
    for line in source.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


def parse_command(words: list[str]) -> Any:
    """The typer command that `gen-prior WORDS` calls, its options parsed; fails where they do not exist."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("gen-prior", [], resilient_parsing=True)
    command = group.get_command(context, words[0])
    assert command is not None, f"no command {words[0]}"
    while words[1:] and words[1] in getattr(command, "commands", ()):
        command, words = command.commands[words[1]], words[1:]
    command.make_context(words[0], list(words[1:]), parent=context)
    return command


def cheap_command(words: list[str]) -> list[str]:
    """The same command with fewer steps, seeds, images."""
    known = {name for parameter in parse_command(words).params for name in parameter.opts}
    words = [CHEAPER_OPTIONS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    cheap = [word for name, value in CHEAP_OPTIONS.items() if name in known for word in (name, value)]
    end = words.index("--") if "--" in words else len(words)
    return words[:end] + cheap + words[end:]


def check_names(source: str) -> None:
    """Every `gp.name` of a Python block is public, and so is every name taken from a public module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "gp":
                assert node.attr in api.__all__, f"gp.{node.attr} is not public"
            elif node.value.id in ("objectives", "regularisers", "transforms", "edits"):
                module = getattr(gen_prior, node.value.id, None)
                assert module is None or hasattr(module, node.attr), f"{node.value.id}.{node.attr} does not exist"


def check_other_command(words: list[str]) -> None:
    """A command of another program names what exists: an extra of the package, or a script of the repository."""
    if words[:2] == ["pip", "install"]:
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"no extra {extra}"
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), words[1]
    else:
        assert words[0] in ("pytest", "sphinx-build", "pre-commit", "git"), words


def run_bash(block: Block) -> str:
    """Run the commands of a block, or only parse them; returns what the last one printed."""
    printed = ""
    for words in command_lines(block.source):
        if words[0] != "gen-prior":
            assert block.mark == "parse only", f"{words[0]} cannot run here"
            check_other_command(words)
        elif block.mark == "parse only":
            parse_command(words[1:])
        else:
            options = words[1:] if words[1].startswith("-") else cheap_command(words[1:])
            outcome = CliRunner().invoke(app, options, env={"COLUMNS": "100"})
            assert outcome.exit_code == 0, f"{shlex.join(words)}\n{outcome.output}\n{outcome.exception}"
            printed = outcome.stdout
    return printed


def cheap_source(source: str) -> str:
    """Python with few steps and images."""
    for name, value in CHEAP_NUMBERS.items():
        source = re.sub(rf"(\b{name} ?= ?)\d+", rf"\g<1>{value}", source)
    return source


def plain_lines(text: str) -> list[str]:
    """Lines without trailing blanks."""
    return [line.rstrip() for line in text.strip().splitlines()]


@cache
def cached_loader(name: str) -> Callable[..., Any]:
    """`load_generator` or `load_classifier` that reads each embedded model once; default recipes take one step."""
    load, loaded = getattr(gen_prior, name), {}

    def cached(spec: str, **options: Any) -> Any:
        key = f"{spec} {options}"
        if key not in loaded or spec.startswith("local-dir:"):
            loaded[key] = load(spec, **options)
            if isinstance(loaded[key], gen_prior.Generator):
                loaded[key].recipe = loaded[key].recipe.with_options(steps=1)
        return loaded[key]

    return cached


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples use, and default recipes of one step."""
    photograph = Image.fromarray(data.chelsea()).resize((224, 160))
    photograph.save(tmp_path / "photo.jpg")
    (tmp_path / "photographs").mkdir()
    for number in range(2):
        photograph.crop((16 * number, 0, 160 + 16 * number, 160)).save(tmp_path / "photographs" / f"{number}.png")
    (tmp_path / "scores.txt").write_text("\n".join(map(str, range(4))))
    monkeypatch.chdir(tmp_path)

    preset = gen_prior.preset
    monkeypatch.setattr(gen_prior, "preset", lambda name: preset(name).with_options(steps=1))
    for name in ("load_generator", "load_classifier"):
        original, cached = getattr(gen_prior, name), cached_loader(name)
        for module in [m for key, m in sys.modules.items() if key.partition(".")[0] == "gen_prior"]:
            if vars(module).get(name) is original:
                monkeypatch.setattr(module, name, cached)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, at_work: Path) -> None:
    names: dict[str, Any] = {}
    printed = ""
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: a block of {block.language or 'no language'}"
        if block.language == "python":
            check_names(block.source)
            code = compile("\n" * block.line + cheap_source(block.source), str(page), "exec")
            if block.mark != "parse only":
                exec(code, names)
        elif block.language == "bash":
            printed = run_bash(block)
        elif block.mark == "output":
            assert plain_lines(printed) == plain_lines(block.source), where


def test_a_bad_block_is_found() -> None:
    with pytest.raises(AssertionError, match="not public"):
        check_names("import gen_prior as gp\ngp.synthesise()")
    with pytest.raises(BaseException, match="no-such-option"):
        parse_command(["synth", "goldfish", "--no-such-option"])
    with pytest.raises(AssertionError, match="no command"):
        parse_command(["dream-on", "goldfish"])
    with pytest.raises(AssertionError, match="cannot run"):
        run_bash(Block(1, "bash", "rm important\n", ""))


def test_the_cheap_settings_reach_the_commands() -> None:
    words = cheap_command(["evolve", "goldfish", "--evaluations", "2000"])
    assert words == ["evolve", "goldfish", "--evaluations", "8"]
    assert cheap_command(["synth", "goldfish", "--seeds", "4"])[-4:] == ["--steps", "1", "--seeds", "1"]
    assert cheap_command(["synth", "--", "-ant"]) == ["synth", "--steps", "1", "--seeds", "1", "--", "-ant"]
    assert torch.get_num_threads() == 1


def test_stimuli_to_be_shown_have_the_mean_and_contrast_that_are_fixed(at_work: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "howto" / "mei.md")[:2]:
        exec(cheap_source(block.source), names)
        stimuli = names.pop("stimuli")
        assert stimuli.mean((1, 2, 3)).tolist() == pytest.approx([0.5] * len(stimuli), rel=0.01)
        assert stimuli.std((1, 2, 3)).tolist() == pytest.approx([0.15] * len(stimuli), rel=0.01)
