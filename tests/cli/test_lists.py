"""`models`, `layers`, `labels`, and what every command has."""

from __future__ import annotations

import re

import pytest
from command_runner import Run

from gen_prior.cli import COMMANDS
from gen_prior.cli.shared import options, output
from gen_prior.hub.registry import ENTRIES
from gen_prior.optimise.presets import PRESETS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run: type[Run], command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert f"gen-prior {command}" in done.out
    assert "Example" in done.out
    assert "--json" in done.out


@pytest.mark.parametrize("command", ["synth", "compare"])
def test_help_names_every_preset(run: type[Run], command: str) -> None:
    shown = "".join(run(command, "--help").out.replace("│", " ").split())
    assert [name for name in PRESETS if name not in shown] == []
    named = re.split(r"[,;]? ", options.PRESETS)
    assert [name for name in named if re.search(r"\d|-am", name)] == list(PRESETS)


def test_help_says_where_films_are_made_and_how_presets_are_compared(run: type[Run]) -> None:
    for command in ("evolve", "dataset"):
        assert "Animations are made by synth --record" in run(command, "--help").out
    assert "--film" in run("compare", "--help").out
    assert "GENERATOR+PRESET" in run("compare", "--help").out


def test_models_lists_the_registry(run: type[Run]) -> None:
    listed = run("models", "--json").json
    assert [entry["name"] for entry in listed] == [entry.name for entry in ENTRIES]
    assert next(entry for entry in listed if entry["name"] == "efficientnet-lite0")["cached"] is True


def test_models_can_be_searched(run: type[Run]) -> None:
    done = run("models", "deepsim")
    assert done.code == 0
    for fact in ("at a815407b", "224 MB", "research", "Dosovitskiy"):
        assert fact in done.out
    assert "deepsim-fc6" in done.out
    assert "efficientnet" not in done.out


def test_models_are_one_line_each_unless_on_a_terminal(run: type[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run("models").out.splitlines()
    assert [line.split()[0] for line in lines] == [entry.name for entry in ENTRIES]
    for entry, line in zip(ENTRIES, lines, strict=True):
        assert line.endswith(f"; {entry.licence}; {entry.paper}")
        assert ("not pinned" in line) == (entry.revision == "main"), line
    monkeypatch.setattr(output.console, "_force_terminal", True)
    shown = run("models").out
    for entry in ENTRIES:
        for word in (entry.name, *(entry.repo or "").split(), *entry.paper.split()):
            assert word in shown.split(), word  # nothing is broken in the middle
    assert max(map(len, shown.splitlines())) <= 80


def test_layers_have_shapes(run: type[Run], tiny: tuple[str, ...]) -> None:
    assert run("layers", "tiny", "--json").json["conv2"] == [12, 16, 16]
    shown = run("layers", "tiny")
    assert "12 x 16 x 16" in shown.out
    assert "logits" in shown.out


def test_layers_of_an_unknown_classifier(run: type[Run], tiny: tuple[str, ...]) -> None:
    done = run("layers", "tinyy")
    assert done.code == 2
    assert "tiny" in done.complaint


def test_labels_find_names_synonyms_and_ids(run: type[Run]) -> None:
    assert [x["index"] for x in run("labels", "goldfish", "--json").json] == [1]
    assert [x["index"] for x in run("labels", "n01443537", "--json").json] == [1]
    assert "golden retriever" in run("labels", "retriever").out
    assert run("labels", "Carassius auratus", "--json").json[0]["name"] == "goldfish"


def test_labels_of_another_classifier(run: type[Run], tiny: tuple[str, ...]) -> None:
    assert run("labels", "retriever", "--classifier", "tiny", "--json").json[0]["index"] == 3


def test_labels_that_nobody_has(run: type[Run]) -> None:
    done = run("labels", "qqqqq", "--json")
    assert done.code == 2
    assert done.json == []
    assert "qqqqq" in done.complaint


def test_unknown_commands_and_options_are_usage_errors(run: type[Run]) -> None:
    assert run("sinth").code == 2
    assert run("synth").code == 2
    assert run("synth", "bee", "--nonsense").code == 2
    assert run("synth", "bee", "--steps", "many").code == 2
