"""Scores for evolution: any function of images, such as a unit of a classifier (forward passes only)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.mixes import AnyTarget

BlackBox = Callable[[Tensor], Tensor | Sequence[float]]
"""Images `[N, 3, H, W]` in [0, 1] -> N scores, higher is better; no gradient is needed."""


@dataclass(frozen=True)
class ActivationScore:
    """The activation of a unit of a classifier as a score; `batch` images at a time."""

    classifier: Classifier
    target: AnyTarget
    batch: int

    def __call__(self, images: Tensor) -> Tensor:
        """Images `[N, 3, H, W]` -> activations `[N]`, on the CPU."""
        target, parts = self.target, images.split(self.batch)
        return torch.cat([target.score(self.classifier.activations(part, target.layers)) for part in parts]).cpu()

    @property
    def source(self) -> dict[str, Any]:
        """Identity of the score as plain values; a search is continued only with the same one."""
        return {
            "target": str(self.target),
            "label": self.target.label,
            "classifier": self.classifier.name,
            "sha256": dict(self.classifier.provenance.sha256),
        }


def activation_score(
    classifier: Classifier | str, target: str | int | AnyTarget, *, batch: int = 16
) -> ActivationScore:
    """The activation of `target` as a score for `evolve`. Raises `TargetError` if there is no such unit."""
    classifier = as_classifier(classifier)
    return ActivationScore(classifier, single_target(target, classifier), batch)


def source_words(source: Mapping[str, Any] | None, *, unlike: Mapping[str, Any] | None = None) -> str:
    """Name of a score in messages; its weights are mentioned if nothing else distinguishes it from `unlike`."""
    if source is None:
        return "externally supplied scores"
    words = f"{source['label'] or source['target']} of {source['classifier']}"
    return f"{words} with other weights" if unlike is not None and words == source_words(unlike) else words
