"""Small text-to-image models of one step with random weights, in the published layout of diffusers' pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from checkpoints import kl
from safetensors.torch import load_file, save_file

library: Any = diffusers  # its constructors are not typed
text: Any = transformers
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 7
TURBO = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "trailing"}


def tokeniser(folder: Path) -> None:
    """The published files: byte pairs without merges, so that a text is read letter by letter."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = ends | {"pad_token": "<|endoftext|>", "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def encoder(width: int, projects: bool) -> Any:
    sizes = {"hidden_size": width, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = text.CLIPTextConfig(vocab_size=54, max_position_embeddings=LENGTH, projection_dim=6, **sizes, **ends)
    network = (text.CLIPTextModelWithProjection if projects else text.CLIPTextModel)(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


def save_encoder(network: Any, folder: Path) -> None:
    """As published: every tensor below `text_model.`, but for the projection, and the old table of positions."""
    network.save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    named = {key if key.startswith("text_") else f"text_model.{key}": value for key, value in state.items()}
    named["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file(named, folder / "model.safetensors", {"format": "pt"})


def saved_pipeline(folder: Path, xl: bool) -> Path:
    """The folder of a pipeline of SD-Turbo's kind, or SDXL-Turbo's."""
    torch.manual_seed(5)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 6,
    }
    unet = library.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=8 + 10 if xl else 8,
        **(added if xl else {}),
    ).eval()
    vae = kl().eval()
    predicts = "epsilon" if xl else "v_prediction"
    scheduler = "EulerAncestralDiscreteScheduler" if xl else "EulerDiscreteScheduler"
    for name, part in (("unet", unet), ("vae", vae)):
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    settings = TURBO | {"_class_name": scheduler, "prediction_type": predicts, "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"scheduler": ["diffusers", scheduler]}
    for suffix, width, projects in (("", 8, False), ("_2", 10, True))[: 2 if xl else 1]:
        tokeniser(folder / f"tokenizer{suffix}")
        save_encoder(encoder(width, projects), folder / f"text_encoder{suffix}")
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
        index[f"text_encoder{suffix}"] = [
            "transformers",
            "CLIPTextModelWithProjection" if projects else "CLIPTextModel",
        ]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
