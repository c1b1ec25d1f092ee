"""Quality of a prior, in a few numbers and a picture, after each stage of its training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.applications.measurement import judged_class
from gen_prior.classifiers import Classifier
from gen_prior.generators.base import Generator
from gen_prior.generators.dgn.generator import FILE, from_file
from gen_prior.objectives.targets import parse_target
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.distances import kernel_distance
from gen_prior.report.metrics import activations_of, has_features, logits_and_features, logits_of, verdict
from gen_prior.training.photograph_codes import PhotographEncoder
from gen_prior.training.prior_file import Prior

Numbers = dict[str, float | None]


class Quality(NamedTuple):
    """Numbers of a prior, None where one cannot be measured, and images `[N, 3, S, S]` in [0, 1] of a few classes."""

    numbers: Numbers
    images: Tensor


def measure_prior(
    prior: Prior,
    classifier: Classifier,
    judge: Classifier | None,
    held_out: Tensor,
    photographs: Tensor,
    count: int,
    steps: int = 0,
) -> Quality:
    """Measure the prior of `classifier` by images of `count` classes and half as many hidden units.

    reconstruction: PSNR in dB of `held_out` photographs `[N, 3, S, S]`, by their coarse codes, at their side S.
    judge: share of the images of classes whose class is the judge's first guess.
    kernel_distance: between the judge's features of these images and of `photographs` `[M, 3, H, W]`.
    hidden_reach: share of the hidden units whose image exceeds the best of `photographs`.
    """
    generator = from_file(prior.folder / FILE, name=prior.folder.name, origin=FILE, source="training")
    generator = generator.to(classifier.device)
    options: dict[str, Any] = {"steps": steps} if steps else {}
    numbers: Numbers = {"reconstruction": reconstruction(prior, held_out)}
    classes = classifier.classes
    targets = [parse_target(f"logits:{index * classes // count}", classifier) for index in range(min(count, classes))]
    made = synthesize(classifier, targets, generator, seeds=1, **options).images[:, 0]
    numbers |= _judged(targets, made, classifier, judge, photographs)
    numbers["hidden_reach"] = hidden_reach(prior, classifier, generator, photographs, max(1, count // 2), options)
    return Quality({name: value and round(value, 4) for name, value in numbers.items()}, made)


def reconstruction(prior: Prior, photographs: Tensor) -> float:
    """Mean PSNR in dB of photographs `[N, 3, S, S]` drawn from their coarse codes, at their own side."""
    network = prior.network.eval().to(photographs.device)
    with torch.no_grad():
        spatial = PhotographEncoder(prior, photographs)(photographs)
        if network.details is not None:
            spatial = network.details.expected(spatial)
        images = F.adaptive_avg_pool2d(network.decode(spatial).clamp(0, 1), photographs.shape[-1])
        errors = (images - photographs).square().flatten(1).mean(1).clamp_min(1e-10)
    return float((-10 * errors.log10()).mean())


def _judged(
    targets: list[Any], images: Tensor, classifier: Classifier, judge: Classifier | None, photographs: Tensor
) -> Numbers:
    """The judge's numbers of one image of each target, `[N, 3, S, S]`."""
    if judge is None:
        return {"judge": None, "kernel_distance": None}
    wanted = [judged_class(target, classifier, judge)[0] for target in targets]
    logits, distance = logits_of(judge, images), None
    ranks = [verdict(logits[i : i + 1], index).rank for i, index in enumerate(wanted) if index is not None]
    if has_features(judge) and min(len(images), len(photographs)) > 1:
        features = [logits_and_features(judge, judge.resize(group))[1] for group in (images, photographs)]
        distance = kernel_distance(features[0], features[1])
    return {
        "judge": float((torch.cat(ranks) == 1).float().mean()) if ranks else None,
        "kernel_distance": distance,
    }


def hidden_reach(
    prior: Prior, classifier: Classifier, generator: Generator, photographs: Tensor, count: int, options: dict[str, Any]
) -> float:
    """Share of `count` hidden units, of the layers that the encoder reads, whose image exceeds the best photograph."""
    assert prior.extractor is not None
    layers = prior.extractor.hook_layers
    source = torch.Generator().manual_seed(0)
    units = []
    for index in range(count):
        layer = layers[index % len(layers)]
        width = classifier.layouts()[layer].units(layer)
        units.append(parse_target(f"{layer}:{int(torch.randint(width, (1,), generator=source))}@mean", classifier))
    reached = synthesize(classifier, units, generator, seeds=1, **options).activations[:, 0]
    seen = classifier.resize(photographs)
    best = torch.stack([activations_of(classifier, unit, seen).max() for unit in units])
    return float((reached.cpu() > best).float().mean())
