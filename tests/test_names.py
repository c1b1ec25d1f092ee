"""Names are accepted wherever classifiers, generators and recipes go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gen_prior as gp
from gen_prior import api, classifiers, generators
from gen_prior.applications.evolve import activation_score
from gen_prior.util.image_io import write_png

IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


CALLS: dict[str, Callable[[Any, Any, Path], Any]] = {
    "synthesize": lambda c, g, _: gp.synthesize(c, "bee", g, steps=2).images,
    "preset": lambda c, g, _: gp.synthesize(c, "bee", g, recipe="reno2024", steps=2).images,
    "compare": lambda c, g, _: gp.compare(c, "bee", [g], judge=None, seeds=1, evaluations=2).results["tiny"].images,
    "dream": lambda c, g, _: gp.dream(c, IMAGE, "conv2", steps=1, octaves=1),
    "dream_frames": lambda c, g, _: torch.stack(list(gp.dream_frames(c, IMAGE, "conv2", frames=1, steps=1, octaves=1))),
    "dream_through": lambda c, g, _: gp.dream_through(c, g, torch.zeros(8), "conv2", steps=2).images,
    "invert": lambda c, g, _: gp.invert(c, IMAGE, ["conv2"], {"a": g}, steps=2).reconstructions["a"]["conv2"].image,
    "invert in order": lambda c, g, _: gp.invert(c, IMAGE, ["fc"], [g], steps=2).reconstructions["tiny"]["fc"].image,
    "accentuate": lambda c, g, _: gp.accentuate(c, IMAGE, "bee", g, layer="conv1", steps=2).rows(),
    "interpolate": lambda c, g, _: gp.interpolate(g, torch.zeros(8), torch.ones(8), torch.tensor([0.0, 0.4])),
    "morph": lambda c, g, _: gp.morph(c, ["bee", "cup"], g, frames=2, steps=2).activations,
    "evolve": lambda c, g, _: gp.evolve(gp.Evolution(g), activation_score(c, "bee"), evaluations=12).best_code,
    "encode": lambda c, g, _: gp.encode(g, IMAGE, steps=2),
    "fit_code": lambda c, g, _: gp.fit_code(g, IMAGE, c, layer="conv1", steps=2),
    "make_dataset": lambda c, g, folder: [
        sample.activation for sample in gp.make_dataset(c, g, folder / "set", classes=["bee"], per_class=1, steps=2)
    ],
    "make_atlas": lambda c, g, folder: [
        {k: v for k, v in row.items() if k != "command"}
        for row in gp.make_atlas(
            c, "conv2", units="0-1", generators=[g], evaluations=2, out=folder / "atlas", workers=1
        ).neurons()
    ],
    "make_activation_map": lambda c, g, folder: [
        (cell.classes, cell.activations)
        for cell in gp.make_activation_map(
            c,
            "conv2",
            images=folder,
            out=folder / "map",
            generators=[g],
            layout="pca",
            grid=1,
            evaluations=2,
            smallest=1,
        ).cells
    ],
    "find_exemplars": lambda c, g, folder: gp.find_exemplars(c, "conv2:1", folder, count=1)[0].activation,
    "match_photographs": lambda c, g, folder: (
        gp.match_photographs(c, "conv2:1", gp.find_exemplars(c, "conv2:1", folder, count=1)).description
    ),
    "receptive_field": lambda c, g, _: gp.receptive_field(c, "conv2:3@5,5"),
    "sample_chain": lambda c, g, _: gp.sample_chain(c, "bee", g, iterations=10).visited,
    "synthesize_apart": lambda c, g, _: gp.synthesize_apart(c, "bee", g, "conv1", seeds=1, steps=2)[0].images,
    "parse_target": lambda c, g, _: gp.parse_target("bee", c),
    "parse_targets": lambda c, g, _: gp.parse_targets("conv1:0-2", c),
    "benchmark": lambda c, g, folder: gp.benchmark(
        c, [g], folder / "out", judge="judge", units=0, classes=1, seeds=1, evaluations=2
    )["generators"][0]["items"][0]["activations"],
    "faithfulness": lambda c, g, folder: gp.faithfulness(
        gp.synthesize(c, "conv1:1", g, steps=1), c, g, folder, judge="judge"
    ),
    "objectives": lambda c, g, _: gp.objectives.style(c, IMAGE, ["conv1"]).description,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_name_is_as_good_as_what_it_names(
    call: str,
    tmp_path: Path,
    tiny_classifier: gp.Classifier,
    tiny_generator: gp.Generator,
    make_tiny_network: Callable[..., nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(classifiers.NAMED, "tiny", lambda name: tiny_classifier)
    monkeypatch.setitem(generators.NAMED, "tiny", lambda name: tiny_generator)
    labels = [tiny_classifier.class_name(index) for index in range(5)]
    judge = gp.Classifier(make_tiny_network(1), input_size=32, labels=labels, name="judge")
    monkeypatch.setitem(classifiers.NAMED, "judge", lambda name: judge)
    monkeypatch.setattr(classifiers, "resolve_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(generators, "resolve_device", lambda device: torch.device("cpu"))
    for folder in (tmp_path / "a", tmp_path / "b"):
        for number in range(32 if call == "faithfulness" else 1):
            write_png(folder / f"photograph-{number}.png", IMAGE.roll(number, 2))
    named = CALLS[call]("tiny", "tiny", tmp_path / "a")
    given = CALLS[call](tiny_classifier, tiny_generator, tmp_path / "b")
    assert torch.equal(named, given) if isinstance(named, torch.Tensor) else named == given


def test_every_function_that_takes_a_model_is_called_by_name() -> None:
    models = {"classifier", "generator", "generators", "methods", "judge"}
    takes = {
        name
        for name in api.__all__
        if inspect.isfunction(value := getattr(api, name)) and models & inspect.signature(value).parameters.keys()
    }
    assert takes <= CALLS.keys()


def test_unknown_names_are_refused(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: gp.synthesize("efficientnet-lite", "goldfish", tiny_generator), "unknown classifier"),
        (lambda: gp.synthesize(tiny_classifier, "bee", "dgn-lite"), "unknown generator .*dgn-lite0"),
        (lambda: gp.synthesize(tiny_classifier, "bee", tiny_generator, recipe="dgnam"), "unknown preset .*dgnam2016"),
    ]
    for call, says in calls:
        with pytest.raises(gp.GenPriorError, match=says):
            call()


def test_the_embedded_models_by_name() -> None:
    result = gp.synthesize("efficientnet-lite0", "goldfish", "dgn-lite0", steps=2)
    assert result.targets[0]["name"] == "goldfish"
    assert result.activations.shape == (1, 1)
