"""Tiny random vision models of each family of transformers with their image processors, as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

library: Any = transformers  # its classes are typed in part

WIDTHS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = WIDTHS | {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
DINOV2 = WIDTHS | {"image_size": 32, "patch_size": 8}
SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "num_labels": 5,
}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
RESNET = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "hidden_act": "silu",
}  # never without gradient
MOBILEVIT = {"image_size": 32, "patch_size": 2, "hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [4, 4, 4, 4, 8, 8, 8]}
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "photo", "of", "fox", "cup"]
TEXT = WIDTHS | {"intermediate_size": 32, "vocab_size": len(WORDS), "max_position_embeddings": 8}
TEXT |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}

FAMILIES: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", VIT | {"num_labels": 5}, "ViTImageProcessor", SQUARE),
    "deit": (
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        VIT | {"num_labels": 5},
        "DeiTImageProcessor",
        {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "beit": ("BeitForImageClassification", "BeitConfig", VIT | {"num_labels": 5}, "BeitImageProcessor", SQUARE),
    "dinov2": ("Dinov2Model", "Dinov2Config", DINOV2, "BitImageProcessor", CROPPED),
    "dinov2-registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        DINOV2,
        "BitImageProcessor",
        CROPPED,
    ),
    "dinov3-vit": ("DINOv3ViTModel", "DINOv3ViTConfig", VIT, "DINOv3ViTImageProcessor", SQUARE),
    "dinov3-convnext": ("DINOv3ConvNextModel", "DINOv3ConvNextConfig", STAGES, "DINOv3ViTImageProcessor", SQUARE),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": VIT, "projection_dim": 12},
        "CLIPImageProcessor",
        CROPPED,
    ),
    "clip-vision": (
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        VIT | {"projection_dim": 12},
        "CLIPImageProcessor",
        CROPPED,
    ),
    "siglip": (
        "SiglipModel",
        "SiglipConfig",
        {"text_config": TEXT | {"projection_size": 16}, "vision_config": VIT},
        "SiglipImageProcessor",
        SQUARE,
    ),
    "siglip-vision": ("SiglipVisionModel", "SiglipVisionConfig", VIT, "SiglipImageProcessor", SQUARE),
    "swin": ("SwinForImageClassification", "SwinConfig", SWIN, "ViTImageProcessor", SQUARE),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Config", SWIN, "ViTImageProcessor", SQUARE),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        STAGES | {"num_labels": 5},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
    ),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        STAGES | {"num_labels": 5},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        RESNET | {"num_labels": 5},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
    ),
    "resnet-backbone": (
        "ResNetBackbone",
        "ResNetConfig",
        RESNET,
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
    ),
    "regnet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        RESNET | {"groups_width": 4, "num_labels": 5},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}},
    ),
    "mobilevit": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        MOBILEVIT | {"num_attention_heads": 2, "num_labels": 5},
        "MobileViTImageProcessor",
        CROPPED,
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128, "num_labels": 5},
        "EfficientNetImageProcessor",
        SQUARE,
    ),
}
"""Family -> names of the model, its configuration (with options) and its image processor (with options)."""


def save(family: str, folder: Path, change: Callable[[Any], None] = lambda model: None) -> tuple[Any, Any]:
    """Write a random model of `family` with all its files to `folder`; return the model and its image processor."""
    kind, config, options, processor_kind, processor_options = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = getattr(library, kind)(getattr(library, config)(**options)).eval()
        for name, values in model.state_dict().items():  # zeros would hide errors
            if values.ndim == 1 and name.endswith(("weight", "running_var", "lambda1")):
                torch.nn.init.uniform_(values, 0.5, 1.5)
            elif values.ndim > 1 and values.numel():
                torch.nn.init.kaiming_normal_(values)
            elif values.is_floating_point():
                torch.nn.init.uniform_(values, -0.1, 0.3)
    change(model)
    model.save_pretrained(folder)
    processor = getattr(library, processor_kind)(**processor_options)
    processor.save_pretrained(folder)
    if "text_config" in options:
        tokeniser().save_pretrained(folder)
    return model, processor


def tokeniser() -> Any:
    """Words to numbers, between <bos> and <eos>."""
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return library.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
