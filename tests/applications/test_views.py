"""Morphs, searches, experiments and accentuations in notebooks and terminals: one line, a table, a sheet."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError, UnknownNameError

HOSTILE = "<script>alert(1)</script>"


def test_a_morph_is_shown(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    made = gp.morph(tiny_classifier, ["ant", "bee"], tiny_generator, names=[HOSTILE, "b"], frames=12, steps=1)
    assert repr(made) == f"<Morph: 12 frames from {HOSTILE} to b; tiny for tiny>"
    page = made._repr_html_()
    assert page.count("<img ") == 9
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page
    assert all(f"{float(value):.4g}" in page for value in made.activations[[0, -1]].flatten())
    assert made.sheet().width > 9 * 100


def test_a_search_is_shown(tiny_generator: gp.Generator) -> None:
    search = gp.Evolution(tiny_generator, population=4)
    assert repr(search) == "<Evolution: no scores yet; 0 generations of 4, cma in 8 dims of tiny>"
    assert "no scores yet" in search._repr_html_()
    for act in (search.sheet, search.image):
        with pytest.raises(OptionError, match="score"):
            act()
    for number in range(10):
        search.ask()
        search.tell([number, torch.nan, -1.0, 0.5])
    assert repr(search) == "<Evolution: best 9; 10 generations of 4, cma in 8 dims of tiny>"
    page = search._repr_html_()
    assert page.count("<img ") == 8
    assert "generation 0" in page
    assert "generation 9" in page
    assert f"mean {(9 - 1 + 0.5) / 3:.4g}" in page
    assert search.sheet().width > 8 * 100
    assert search.image().size == (16, 16)


def test_an_experiment_is_shown(tiny_generator: gp.Generator, tmp_path: Path) -> None:
    experiment = gp.Experiment(tmp_path, tiny_generator, neurons=["a", "b"], population=4)
    experiment.ask()
    assert repr(experiment) == f"<Experiment: a, b; generation 0 waits for scores, in {tmp_path}>"
    assert experiment._repr_html_().count("no scores yet") == 2


def test_an_accentuation_is_shown(tiny_classifier: gp.Classifier) -> None:
    photograph = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = gp.accentuate(tiny_classifier, photograph, ["ant", "bee"], layer="conv1", steps=1)
    assert repr(made) == "<Accentuation: photograph towards ant, bee; fourier for tiny, near at conv1>"
    assert made._repr_html_().count("<img ") == 4
    assert made["bee"] is made.images[1]
    with pytest.raises(UnknownNameError, match="bee"):
        made["bees"]
    assert made.sheet().height > 2 * 192
    with pytest.raises(OptionError, match="pages 1 to 1"):
        made.sheet(2)
