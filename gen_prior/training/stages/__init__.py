"""The stages of a prior's training, each with its settings, losses and networks; imports `training`."""

from __future__ import annotations

from gen_prior.training.stage import Stage
from gen_prior.training.stages.class_exemplars import ClassExemplarsStage
from gen_prior.training.stages.decoder import DecoderStage
from gen_prior.training.stages.fine_code import FineCodeStage
from gen_prior.training.stages.flow import FlowStage
from gen_prior.training.stages.larger_images import LargerImagesStage
from gen_prior.training.stages.texture import TextureStage

STAGES: dict[str, type[Stage]] = {
    "decoder": DecoderStage,
    "larger-images": LargerImagesStage,
    "flow": FlowStage,
    "texture": TextureStage,
    "fine-code": FineCodeStage,
    "class-exemplars": ClassExemplarsStage,
}
"""Stages by their names in recipes and commands."""
