"""Every application takes a mix and a unit that is to respond least, not only `synthesize`."""

from __future__ import annotations

from pathlib import Path

import torch

import gen_prior as gp
from gen_prior.applications.evolve import activation_score

MIX = "ant - 0.5*conv2:3@mean"


def logits_and_unit(classifier: gp.Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen = classifier.activations(images, ["logits", "conv2"])
    return seen["logits"], seen["conv2"][:, 3].mean((1, 2))


def test_compare(tiny_classifier: gp.Classifier, tmp_path: Path) -> None:
    found = gp.compare(
        tiny_classifier, [MIX, "-bee", "conv2:1-2@mean"], ["pixel"], judge=None, evaluations=2, out=tmp_path
    )
    names = [target["name"] for target in found.record["targets"]]
    assert names == [MIX, "-bee", "conv2:1@mean", "conv2:2@mean"]
    assert found.record["targets"][0]["terms"][1]["weight"] == -0.5
    assert (tmp_path / "contact-sheet.png").is_file() or list(tmp_path.glob("*.png"))


def test_evolve_scores_what_is_maximised(tiny_classifier: gp.Classifier) -> None:
    images = torch.rand(3, 3, 32, 32)
    logits, unit = logits_and_unit(tiny_classifier, images)
    score = activation_score(tiny_classifier, MIX)
    torch.testing.assert_close(torch.as_tensor(score(images)), logits[:, 0] - 0.5 * unit)
    assert score.source["target"] == "logits:0 - 0.5*conv2:3@mean"
    torch.testing.assert_close(torch.as_tensor(activation_score(tiny_classifier, "-bee")(images)), -logits[:, 1])


def test_a_chain_and_a_dream(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    chain = gp.sample_chain(tiny_classifier, MIX, tiny_generator, iterations=2, reset=2, every=2, threshold=-1e6)
    logits, unit = logits_and_unit(tiny_classifier, chain.images)
    torch.testing.assert_close(chain.scores, logits[:, 0] - 0.5 * unit)
    photograph = torch.rand(3, 32, 32)
    dreamt = gp.dream(tiny_classifier, photograph, target="-bee", octaves=1, steps=10)
    before, after = (tiny_classifier(image[None])[0, 1] for image in (photograph, dreamt))
    assert after < before


def test_seeds_pushed_apart_report_the_unit(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    results = gp.synthesize_apart(tiny_classifier, "-bee", tiny_generator, "conv1", seeds=2, steps=2)
    for result in results:
        logits, _ = logits_and_unit(tiny_classifier, result.inputs(0))
        torch.testing.assert_close(result.activations[0], logits[:, 1])
