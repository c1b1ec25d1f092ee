"""Is a synthesised image true to its unit? Measures of feature vectors, beside a floor and a ceiling of photographs.

Pure functions of tensors. `gen_prior.applications.faithfulness` gathers the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Vectors = Mapping[str, Tensor]
"""{layer: `[N, units]`}: N images on their way through a network."""


@dataclass(frozen=True)
class PathSimilarity:
    """How alike images and the photographs that excite a unit go through the network.

    Attributes:
        images: mean rank correlation of the images' and the photographs' activations, over layers, in [-1, 1].
        floor: the same of arbitrary photographs. ceiling: of the exciting photographs among themselves.
        layers: {layer: (images, floor, ceiling)}.
    """

    images: float
    floor: float
    ceiling: float
    layers: dict[str, tuple[float, float, float]]

    @property
    def normalised(self) -> float | None:
        """0 for images at the floor, 1 for images at the ceiling; None where these are the same."""
        return (self.images - self.floor) / (self.ceiling - self.floor) if self.ceiling > self.floor else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "normalised": self.normalised}


def path_similarity(images: Vectors, exciting: Vectors, arbitrary: Vectors) -> PathSimilarity:
    """Similarity of the paths of images and of photographs that excite the unit (Geirhos et al. 2024).

    "Don't trust your eyes" (ICML 2024, arXiv 2306.04719) compares layer by layer the activations of feature
    visualisations with those of photographs, by Spearman's rank correlation over the units of the layer, and sets 0 at
    unrelated and 1 at related photographs. Here each unit counts by how far it is from its mean over the arbitrary
    photographs, in their standard deviations: of the activations themselves, most is alike in all photographs. There
    must be at least two exciting and two arbitrary photographs.
    """
    layers = {}
    for layer in images:
        mean, spread = arbitrary[layer].mean(0), arbitrary[layer].std(0).clamp_min(1e-6)
        images_here, related, unrelated = ((rows[layer] - mean) / spread for rows in (images, exciting, arbitrary))
        among = rank_correlation(related, related)
        count = len(related)
        ceiling = (among.sum() - among.diagonal().sum()) / (count * (count - 1))
        between = [rank_correlation(rows, related).mean() for rows in (images_here, unrelated)]
        layers[layer] = (float(between[0]), float(between[1]), float(ceiling))
    means = torch.tensor(list(layers.values()), dtype=torch.float64).mean(0).tolist()
    return PathSimilarity(means[0], means[1], means[2], layers)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of all pairs of rows of `[N, D]` and `[M, D]`: `[N, M]`."""
    unit = [F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1) for ranks in (_ranks(first), _ranks(second))]
    return unit[0] @ unit[1].T


def _ranks(rows: Tensor) -> Tensor:
    """The rank of each value in its row, equal values sharing their mean rank."""
    ordered = rows.sort(1).values.contiguous()
    below = torch.searchsorted(ordered, rows.contiguous())
    upto = torch.searchsorted(ordered, rows.contiguous(), right=True)
    return (below + upto).double() / 2


def two_alternative_score(most: Tensor, least: Tensor, high: Tensor, low: Tensor) -> float:
    """Share of pairs of photographs of which a machine, shown pictures, says rightly which one excites a unit more.

    Pictures of most and of least exciting inputs, `[R, D]` each in a perceptual feature space, are shown. Of a pair,
    the photograph that is nearer to the most exciting pictures, relative to the least exciting ones, is taken for the
    stronger. All pairs of a strongly (`high`, `[Q, D]`) and a weakly exciting photograph (`low`) are asked; chance is
    0.5. The test is that of Borowski et al. 2021 (arXiv 2010.12606) and Zimmermann et al. 2023 (arXiv 2307.05471) with
    viewers, done by a machine as in Zimmermann, Klindt & Brendel 2024 ("Measuring Per-Unit Interpretability at Scale
    Without Humans", NeurIPS).
    """
    leans = [
        (F.normalize(queries, dim=1) @ F.normalize(most, dim=1).T).mean(1)
        - (F.normalize(queries, dim=1) @ F.normalize(least, dim=1).T).mean(1)
        for queries in (high, low)
    ]
    difference = leans[0][:, None] - leans[1][None]
    return float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())
