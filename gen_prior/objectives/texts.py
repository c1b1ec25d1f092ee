"""`text:"a photo of a fox"`: the similarity of an image and a text in the joint space of a CLIP-like model."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import TargetError
from gen_prior.objectives.features import Feature

PREFIX = "text:"


def text_feature(written: str, classifier: Classifier) -> Feature:
    """The text in `written`, `text:"..."` or `text:...`, as a function of the network's output.

    Its value is the model's own logit of image and text: scale * cosine + bias, with the learned scale and bias
    (Radford et al. 2021, arXiv 2103.00020; Zhai et al. 2023, arXiv 2303.15343).

    Raises `TargetError` for a network without a text tower, and for a text that is empty or too long.
    """
    text = written.strip().removeprefix(PREFIX).strip()
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    tower = classifier.text_tower
    if tower is None:
        raise TargetError(
            f"{classifier.name} has no text tower, so {text!r} cannot be a target",
            fix="take a model with one and its tokeniser: transformers:openai/clip-vit-base-patch32",
        )
    vector = torch.nn.functional.normalize(tower.encode(text), dim=0).to(classifier.device)

    def logit(outputs: Tensor) -> Tensor:
        """[..., D] -> [...]"""
        cosine = torch.nn.functional.normalize(outputs, dim=-1) @ vector.to(outputs)
        return tower.scale * cosine + tower.bias

    return Feature(f'{PREFIX}"{text}"', text, logit, logit)
