"""`torchvision:NAME[@WEIGHTS]`: torchvision's classifiers with their published weights, input size and normalisation.

The file is downloaded once into torch's cache, checked against the digest in its name, read with `weights_only=True`,
and must fit the network exactly.
"""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import Labels, imagenet
from gen_prior.errors import DownloadError, OptionError, UnknownNameError, WeightsError
from gen_prior.hub.convert import read_pickled
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.strict_loading import check_shapes
from gen_prior.hub.tensors import check_finite, file_sha256, hashed

LICENCE = "torchvision: BSD-3-Clause; weights trained on ImageNet: see the page of the model"
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Network -> its extra heads for training, which are removed after the weights, which include them, are loaded."""


def models() -> Any:
    """The module `torchvision.models`, imported when it is first needed: it imports the compiler of torch, too."""
    return importlib.import_module("torchvision.models")


def names() -> list[str]:
    """Names of all classifiers of the installed torchvision."""
    module = models()
    listed: list[str] = module.list_models(module=module)
    return listed


def load(spec: str, *, weights: str | None = "DEFAULT", fold: bool = True) -> Classifier:
    """Load the classifier `NAME` or `NAME@WEIGHTS`.

    `weights` is one of torchvision's for this network (`IMAGENET1K_V1`, `DEFAULT`); None or "none" gives random
    weights, to measure speed. Raises `UnknownNameError` for the name or the weights, `OptionError` for weights
    without a classifier, `DownloadError`, and `WeightsError` for a damaged file.
    """
    name, at, chosen = spec.partition("@")
    weights = chosen if at else weights
    if name not in names():
        raise UnknownNameError("torchvision classifier", name, names(), fix="list them: gen-prior models")
    entry, is_random = find_weights(name, weights)
    categories = entry.meta["categories"]
    if categories is None:
        raise OptionError(f"the weights {entry.name} of {name} have no classifier", fix=f"torchvision:{name}@DEFAULT")
    transforms = entry.transforms()
    side = int(transforms.crop_size[0])
    network = build(name, classes=len(categories), side=side, published=not is_random)
    sha256: dict[str, str] = {}
    if not is_random:
        path = download(entry.url)
        sha256[path.name] = file_sha256(path)
        load_weights(network, read(path, sha256[path.name]), str(path), name)
    return Classifier(
        without_auxiliary(network, name),
        mean=transforms.mean,
        std=transforms.std,
        input_size=side,
        labels=match_labels(categories),
        name=f"torchvision:{name}",
        interpolation=transforms.interpolation.value,
        provenance=Provenance(
            source=f"torchvision:{name}",
            revision="random weights" if is_random else entry.name,
            sha256=sha256,
            licence=entry.meta.get("license", LICENCE),
        ),
        fold=fold,
        in_place=True,
    )


def find_weights(name: str, weights: str | None) -> tuple[Any, bool]:
    """The entry of torchvision's table for network `name`, and whether random weights are asked for.

    Raises `UnknownNameError` for weights that are not published.
    """
    known = models().get_model_weights(name)
    listed = [entry.name for entry in known]
    wanted = None if weights is None or weights.lower() == "none" else weights.rpartition(".")[2]
    if wanted not in (None, "DEFAULT", *listed):
        raise UnknownNameError(f"weights of {name}", str(weights), ["DEFAULT", *listed, "none"])
    return known[wanted or "DEFAULT"], wanted is None


def build(name: str, *, classes: int, side: int, published: bool, auxiliary: bool = True) -> nn.Module:
    """Build network `name` with random weights; `published` if published weights follow, `auxiliary` if with heads."""
    options: dict[str, Any] = {"num_classes": classes}
    if name.startswith("vit_"):
        options["image_size"] = side
    elif name == "maxvit_t":
        options["input_size"] = (side, side)
    elif name in AUXILIARY:
        # Published weights expect the input range of another framework; the network converts to it.
        options |= {"aux_logits": auxiliary, "transform_input": published, "init_weights": False}
    network: nn.Module = models().get_model(name, weights=None, **options)
    return network.eval()


def without_auxiliary(network: nn.Module, name: str) -> nn.Module:
    """Remove the heads that only training uses."""
    if name in AUXILIARY:
        network.aux_logits = False  # type: ignore[assignment]
        for head in AUXILIARY[name]:
            setattr(network, head, None)
    return network


def match_labels(categories: Sequence[str]) -> Labels:
    """ImageNet's table, with ids and synonyms, where these are its classes in order; else labels of these names."""
    return imagenet() if list(categories) == list(imagenet()) else Labels.plain(categories)


def download(url: str) -> Path:
    """Download a file to torch's cache (`TORCH_HOME`) unless it is there. Raises `DownloadError`."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), _digest(path.name), progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # URLError is an OSError, a wrong hash a RuntimeError
        reason = str(getattr(error, "reason", None) or error).splitlines()[0]
        raise DownloadError(
            f"cannot download {url} to {path.parent}: {reason}",
            fix=f"check the network and TORCH_HOME, put the file there by hand as {path.name},"
            " or use efficientnet-lite0, which needs no download",
        ) from error
    return path


def read(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read tensors of a published file by the names that torchvision uses today. Raises `WeightsError`."""
    fix = f"delete {path} and run it again"
    expected = _digest(path.name)
    if expected is not None and not sha256.startswith(expected):
        raise WeightsError(f"{path} is damaged: its SHA-256 starts with {sha256[:16]}, not {expected}", fix=fix)
    try:
        state = read_pickled(hashed(path, sha256))
    except WeightsError as error:
        raise WeightsError(error.message, fix=fix) from error
    # DenseNet's files are older than the ban on dots in names: denselayer1.norm.1 is norm1 today.
    return {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): value for key, value in state.items()
    }


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], file: str, name: str) -> None:
    """Copy weights into `network`, whose names and shapes they must have; batch counters may be missing.

    Raises `WeightsError` that lists the differences, or names a tensor that is not finite.
    """
    own = network.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # missing in old files, and unused
    check_shapes(
        {key: tuple(value.shape) for key, value in own.items() if key not in counters},
        {key: tuple(value.shape) for key, value in tensors.items() if key not in counters},
        file,
        name,
    )
    for key, value in tensors.items():
        check_finite(key, value, file)
    complete = OrderedDict((key, tensors.get(key, value)) for key, value in own.items())
    complete._metadata = own._metadata  # type: ignore[attr-defined]
    network.load_state_dict(complete)


def _digest(file_name: str) -> str | None:
    match = re.search(r"-([0-9a-f]{8,})\.", file_name)
    return match[1] if match else None
