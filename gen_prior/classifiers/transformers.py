"""`transformers:REPO[@REVISION]`: vision models of transformers from the Hub or a folder (extra `transformers`).

A repository holds a configuration, which names a class of transformers, its image processor and safetensors files.
The network is built by the installed transformers; no code of a repository is executed, and nothing is unpickled.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.image_processor import probe
from gen_prior.classifiers.labels import Label, Labels, imagenet
from gen_prior.classifiers.text_tower import text_half
from gen_prior.errors import MissingExtraError, UnknownNameError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_tensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
OUTPUTS = ("logits", "image_embeds", "pooler_output", "last_hidden_state")
"""Fields of a model's output, of which the first that is there is the network's output."""
_UNUSED = re.compile(r"(^|\.)(pooler\.|position_ids$|mask_token$|num_batches_tracked$)")
"""Tensors that files may hold although the network does not use them."""
_RANDOM = re.compile(r"ViTMAE|ForPreTraining|ForMaskedImageModeling")


def load(spec: str, *, revision: str | None = None, fold: bool = True) -> Classifier:
    """Load the vision model in the Hub repository `spec`, `org/name[@revision]`.

    Raises `MissingExtraError` without transformers, `DownloadError`, and `WeightsError` for files that do not fit.
    """
    require_transformers()
    files = Files.from_hub(spec, revision=revision)
    with files.loading():
        return from_files(files, files.json("config.json"), name=f"transformers:{spec}", fold=fold)


def is_configuration(config: Mapping[str, Any]) -> bool:
    """True for a `config.json` of transformers, False for one of timm."""
    return "model_type" in config and "architecture" not in config


def from_files(files: Files, config: Mapping[str, Any], *, name: str, fold: bool = True) -> Classifier:
    """Build the classifier that `config`, the `config.json` of `files`, describes.

    A model with an image and a text half (CLIP, SigLIP) gives its image half, whose output is the image's vector in
    the joint space; the other half is kept for targets that are texts. A model without a classification head gives
    its features.
    """
    library = require_transformers()
    file = f"{files.source}/config.json"
    kind, settings = _find_class(library, config, file)
    if files.find(*PROCESSOR) is None:
        raise WeightsError(
            f"{files.source} has no {PROCESSOR[0]}, so size, mean and std of its images are not known",
            fix="save the image processor beside it: AutoImageProcessor.from_pretrained(BASE).save_pretrained(DIR)",
        )
    folder = files.get("config.json").parent
    tensors = _read_tensors(files)
    with _quiet(library):
        processor = library.AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        seen = probe(processor, file)
        model = _build(kind, settings, tensors, file)
    has_text = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
    network = ImageTower(model) if has_text else model
    network.register_forward_hook(_select_output)
    if seen.swaps_red_and_blue:
        network.register_forward_pre_hook(lambda module, args: (args[0].flip(1), *args[1:]))
    has_classes = "ForImageClassification" in kind.__name__
    licence = config.get("license")
    return Classifier(
        network,
        mean=seen.mean,
        std=seen.std,
        input_size=seen.size,
        interpolation=seen.interpolation,
        labels=read_labels(settings.id2label) if has_classes else None,
        name=name,
        fold=fold,
        has_classes=has_classes,
        in_place=True,
        text_tower=text_half(model, files, library) if has_text else None,
        provenance=files.provenance(licence=str(licence) if licence else None),
    )


class ImageTower(nn.Module):
    """The image half of a dual model: normalised images `[B, 3, H, W]` -> vectors `[B, D]` in the joint space.

    Its submodules are those of the model, under the same names, but for the text half, which is no submodule.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, part in model.named_children():
            if not name.startswith("text"):
                self.add_module(name, part)
        self._model: list[Any] = [model]

    def forward(self, images: Tensor) -> Any:
        return self._model[0].get_image_features(pixel_values=images)


def read_labels(id2label: Mapping[int, str]) -> Labels | None:
    """Class names of a configuration: ImageNet's table where they are its classes, None for LABEL_0, LABEL_1, ...

    A name such as "goldfish, Carassius auratus" is a name and its synonyms.
    """
    names = [str(id2label[index]) for index in range(len(id2label))]
    if all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return None
    parts = [[part.strip() for part in name.split(",")] for name in names]
    if len(parts) == len(imagenet()):
        known = ({x.name.lower(), *(s.lower() for s in x.synonyms)} for x in imagenet().entries)
        if all(table & {part.lower() for part in found} for table, found in zip(known, parts, strict=True)):
            return imagenet()
    return Labels([Label(i, name, None, tuple(parts[i]) if len(parts[i]) > 1 else ()) for i, name in enumerate(names)])


def require_transformers() -> ModuleType:
    """Import transformers. Raises `MissingExtraError` with the command that installs it."""
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        fix = "pip install 'gen-prior[transformers]'"
        raise MissingExtraError("this classifier needs transformers", fix=fix) from error


def _find_class(library: ModuleType, config: Mapping[str, Any], file: str) -> tuple[Any, Any]:
    """Class and configuration of the model. Raises `WeightsError` for one that is unknown or sees no images."""
    named = config.get("architectures") or [None]
    model_type, architecture = str(config.get("model_type")), str(named[0])
    if model_type not in library.CONFIG_MAPPING:
        unknown = UnknownNameError("model_type", model_type, library.CONFIG_MAPPING)
        raise WeightsError(f"{file}: {unknown}", fix="pip install --upgrade transformers, or check config.json")
    kind: Any = getattr(library, architecture, None)
    if library.PreTrainedModel not in getattr(kind, "__mro__", ()):
        raise WeightsError(
            f"{file} names the architecture {architecture!r}, which transformers {library.__version__} does not have",
            fix="pip install --upgrade transformers; code that comes with a repository is never run",
        )
    if _RANDOM.search(architecture):
        raise WeightsError(f"{file}: {architecture} hides random parts of its input, so a unit has no one value")
    if kind.main_input_name != "pixel_values" and not hasattr(kind, "get_image_features"):
        raise WeightsError(f"{file}: {architecture} reads {kind.main_input_name}, not images")
    settings = library.CONFIG_MAPPING[model_type].from_dict(dict(config))
    settings.return_dict, settings.output_hidden_states, settings.output_attentions = True, False, False
    return kind, settings


def _build(kind: Any, settings: Any, tensors: dict[str, Tensor], file: str) -> Any:
    """The model with these weights, in float32. Raises `WeightsError` that lists the differences.

    transformers renames tensors of older files. Its attention is PyTorch's own where the model supports it, which has
    gradients, and else written out.
    """
    model, report = kind.from_pretrained(
        None,
        config=settings,
        state_dict=tensors,
        dtype=torch.float32,
        attn_implementation="sdpa" if kind._supports_sdpa else "eager",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    missing = list(report["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        model.pooler, missing = None, []  # features without a pooler, as DINO's files have it
    problems = [f"lacks {key}" for key in missing]
    problems += [f"has unexpected {key}" for key in report["unexpected_keys"] if not _UNUSED.search(key)]
    problems += [f"has {key} {[*found]} where {[*own]} is expected" for key, found, own in report["mismatched_keys"]]
    if problems:
        listed = "; it ".join(sorted(problems)[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise WeightsError(f"the weights of {file} do not fit {kind.__name__}: it {listed}")
    return model.eval()


def _read_tensors(files: Files) -> dict[str, Tensor]:
    """All tensors of `files`, from one file or from the parts that an index lists."""
    if files.find(WEIGHTS) is not None:
        return read_tensors(files.weights(WEIGHTS))
    if files.find(INDEX) is None:
        files.get(WEIGHTS)  # raises
    parts = json.loads(files.get(INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    if bad := [part for part in parts if not re.fullmatch(r"[\w.-]+\.safetensors", str(part))]:
        raise WeightsError(f"{files.source}/{INDEX} names {bad[0]!r}, which is no safetensors file")
    return {key: value for part in sorted(set(parts)) for key, value in read_tensors(files.weights(part)).items()}


def _select_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """The tensor that counts as the network's output, of a `ModelOutput`."""
    found = next((value for name in OUTPUTS if isinstance(value := getattr(output, name, None), Tensor)), None)
    if found is None and (maps := getattr(output, "feature_maps", None)):
        found = maps[-1]
    return output if found is None else found


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """No progress bars and remarks of transformers, which are about training."""
    logging = importlib.import_module(f"{library.__name__}.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
