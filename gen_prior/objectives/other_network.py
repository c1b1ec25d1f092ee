"""The activation of a target in a second network, beside one in the first: a class of any classifier beside a text."""

from __future__ import annotations

from torch import Tensor

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.hooks import Activations
from gen_prior.objectives.base import Objective, made_by
from gen_prior.objectives.expressions import single_target
from gen_prior.objectives.mixes import AnyTarget


def seen_by(classifier: Classifier | str, target: str | int | AnyTarget) -> Objective:
    """Activation of `target`, a class, unit or mix, in another `classifier`, which sees the same image.

    Add it to an objective of the first network, as in `activation(text) + 0.5 * seen_by("efficientnet-lite0", "fox")`.
    The second network sees the whole image, before the transforms of the recipe. Raises as `parse_targets`.
    """
    second = as_classifier(classifier)
    found = single_target(target, second)

    def score(activations: Activations, image: Tensor, code: Tensor) -> Tensor:
        return found.score(second.activations(image.to(second.device), found.layers)).to(image.device)

    made_by(score, "seen_by", classifier=second.describe(), target=str(found))
    return Objective(score, (), f"{found} in {second.name}", positions=())
