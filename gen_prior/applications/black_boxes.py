"""What evolution goes by: any function of images. A unit of a classifier is one, by forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.objectives.targets import Target, parse_target

BlackBox = Callable[[Tensor], Tensor | Sequence[float]]
"""Images `[N, 3, H, W]` in [0, 1] -> N scores, higher is better. No gradient is ever asked for."""


@dataclass(frozen=True)
class ActivationScore:
    """A unit of a classifier as a black box; `batch` images at a time."""

    classifier: Classifier
    target: Target
    batch: int

    def __call__(self, images: Tensor) -> Tensor:
        """Images `[N, 3, H, W]` -> activations `[N]`, on the CPU."""
        layer = self.target.layer
        parts = [self.target.read(self.classifier.activations(part, [layer])) for part in images.split(self.batch)]
        return torch.cat(parts).cpu()

    @property
    def source(self) -> dict[str, Any]:
        """What a search must agree in to be the same search, as plain values."""
        return {
            "target": str(self.target),
            "label": self.target.label,
            "classifier": self.classifier.name,
            "sha256": dict(self.classifier.provenance.sha256),
        }


def activation_score(classifier: Classifier, target: str | int | Target, *, batch: int = 16) -> ActivationScore:
    """A unit of a classifier as a black box: forward passes only."""
    return ActivationScore(classifier, parse_target(target, classifier), batch)


def source_words(source: Mapping[str, Any] | None, *, unlike: Mapping[str, Any] | None = None) -> str:
    """What gives the scores, for people; its weights are mentioned where nothing else sets it off from `unlike`."""
    if source is None:
        return "scores that are told"
    words = f"{source['label'] or source['target']} of {source['classifier']}"
    return f"{words} with other weights" if unlike is not None and words == source_words(unlike) else words
