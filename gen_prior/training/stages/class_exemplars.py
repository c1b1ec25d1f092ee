"""Stage "class exemplars": store for each class codes of photographs to start from. Nothing is trained.

1. Encode all photographs, and rank them for each class by the classifier's log odds.
2. Take the first ones for each class that differ enough from those taken before; every second one mirrored.
3. Write their codes into the prior's flow, which starts seeds of the class at them.

The photographs need not be of the class: those that the classifier takes for it most have its form, or a similar one.
After Nguyen et al. 2016 (arXiv 1602.03616), who start at means of a class's photographs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gen_prior.errors import ImageError, OptionError
from gen_prior.generators.dgn.config import MAX_ELEMENTS
from gen_prior.generators.dgn.flow import CodeFlow, quantise_exemplars
from gen_prior.generators.dgn.generator import FILE
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.generators.shared.checks import LARGEST_SIDE
from gen_prior.training.photograph_codes import VIEW, PhotographCodes, read_codes
from gen_prior.training.prior_file import Prior
from gen_prior.training.settings import TrainingSettings
from gen_prior.training.stage import Material, Stage
from gen_prior.util.reading import reading_weights

MOST = 256
CANDIDATES = 8
"""Photographs considered for each one that is taken."""
CHUNK = 8192


@dataclass(frozen=True)
class ExemplarSettings(TrainingSettings):
    """All that class exemplars are a function of, beside the photographs, the classifier and the prior."""

    steps: int = 0
    batch: int = 1
    size: int = 0
    """Side of the photographs in pixels; set by the stage: that of the prior's coarse images."""
    layouts: int = 8
    """Photographs per class."""
    alike: float = 0.7
    """Least distance of two of them, relative to the mean distance of two photographs."""
    view: int = 0
    """Side at which the classifier sees the photographs, in pixels; 0: as for the prior's flow."""

    def check(self) -> None:
        if not 1 <= self.layouts <= MOST:
            raise OptionError(f"layouts must lie in 1 to {MOST}, got {self.layouts}")
        if not 0 <= self.alike <= 1:
            raise OptionError(f"alike must lie in 0 to 1, got {self.alike}")


class ClassExemplarsStage(Stage):
    """Chooses for each class the photographs in which the classifier is surest of it; no weights change."""

    Settings = ExemplarSettings
    record = "layouts"
    settings: ExemplarSettings

    def __init__(self, material: Material, settings: ExemplarSettings) -> None:
        super().__init__(material, settings)
        self.train_networks()
        self.data = read_codes(material, settings.view)

    @classmethod
    def completed(cls, settings: ExemplarSettings, prior: Prior) -> ExemplarSettings:
        flow, folder = prior.network.flow, prior.folder
        if flow is None:
            raise OptionError(f"the prior in {folder} has no flow", fix="run the stage flow on it first")
        with reading_weights(folder / FILE):
            names = json.loads(prior.metadata.get("classes", "[]"))
            seen = int(json.loads(prior.metadata.get("flow", "{}")).get("view", VIEW))
            if not 1 <= seen <= LARGEST_SIDE:
                raise ValueError(f"its flow has seen photographs of {seen} pixels")
        if not names:
            raise OptionError(
                f"the classes of the prior in {folder} have no names, by which seeds find their exemplars",
                fix="run the stage flow with a classifier that has labels",
            )
        return replace(settings, view=settings.view or seen, size=prior.network.config.size)

    def network(self, *, final: bool = False) -> WhitenedDecoder:
        assert self.material.prior is not None
        network = self.material.prior.network
        assert network.flow is not None
        flow = with_exemplars(network.flow, self.data, network, self.settings.layouts, self.settings.alike)
        return network.with_parts(flow=flow)


def with_exemplars(
    flow: CodeFlow, data: PhotographCodes, prior: WhitenedDecoder, layouts: int, alike: float
) -> CodeFlow:
    """`flow` with the codes of `layouts` photographs for each class.

    Raises `OptionError` if it is for other classes or cannot hold as many, `ImageError` for too few photographs.
    """
    classes, directions = len(flow.classes), flow.directions
    if classes != data.head.out_features:
        raise OptionError("the prior has no flow for these classes", fix="run the stage flow on it first")
    if layouts > (most := MAX_ELEMENTS // classes // directions):
        raise OptionError(f"layouts must lie in 1 to {most} for so many classes, got {layouts}")
    if len(data.white) < layouts:
        raise ImageError(
            f"{len(data.white)} readable images are too few for {layouts} layouts",
            fix="pass more images, or a smaller --layouts",
        )
    ranking = ranked(data.features, data.head, CANDIDATES * layouts)
    chosen = chosen_codes(data.white, ranking, prior.basis.float().square().sum(0).cpu(), layouts, alike)
    new = CodeFlow(directions, replace(flow.config, exemplars=layouts))
    new.load_state_dict(flow.state_dict() | {"layouts": quantise_exemplars(chosen)})
    return new


def ranked(features: Tensor, last: nn.Linear, count: int) -> Tensor:
    """Indices of the photographs with the highest log odds of each class, best first: `[classes, count]`.

    `features`: `[N, F]`; fewer than `count` if there are fewer photographs.
    """
    classes = last.out_features
    values, indices = torch.empty(0, classes, dtype=torch.double), torch.empty(0, classes, dtype=torch.long)
    for start in range(0, len(features), CHUNK):
        with torch.no_grad():
            logits = last(features[start : start + CHUNK].to(last.weight)).cpu()
        log_p = logits.double().log_softmax(1)
        odds = log_p - torch.log(-torch.expm1(log_p))  # probabilities would all be 1 for the surest
        rows = torch.arange(start, start + len(odds))[:, None].expand(-1, classes)
        values, indices = torch.cat([values, odds]), torch.cat([indices, rows])
        values, best = values.topk(min(count, len(values)), dim=0)
        indices = indices.gather(0, best)
    return indices.T


def chosen_codes(white: Tensor, ranking: Tensor, variances: Tensor, layouts: int, alike: float) -> Tensor:
    """White codes `[classes, layouts, D]` of the first different photographs of `ranking` `[classes, M]`.

    `white`: `[N, 2, D]`, photographs and their mirrors. A photograph too near to one taken before is left out as long
    as there are others; every second one taken is mirrored.
    """
    weights = variances / variances.mean()
    source = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(white), (2, 1024), generator=source)
    usual = distance(white[pairs[0], 0].float(), white[pairs[1], 0].float(), weights).mean()
    classes = []
    for order in ranking:
        candidates = white[order].float()
        taken: list[int] = []
        for index in range(len(order)):
            if len(taken) == layouts:
                break
            before = candidates[taken].flatten(0, 1)
            near = distance(before, candidates[index, 0], weights) if taken else usual[None]
            if float(near.min()) >= alike * float(usual):
                taken.append(index)
        left = [index for index in range(len(order)) if index not in taken]
        taken = (taken + left)[:layouts]
        taken += [taken[0]] * (layouts - len(taken))
        classes.append(candidates[taken, torch.arange(layouts) % 2])
    return torch.stack(classes)


def distance(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """RMS distance of white codes `[..., D]`, each dim weighted by its variance in spatial codes: `[...]`."""
    return ((one - other).square() * weights).mean(-1).sqrt()
