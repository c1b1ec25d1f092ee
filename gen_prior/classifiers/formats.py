"""`local-dir:DIR` and `hf-hub:REPO[@REVISION]`: classifiers from a folder or repository that holds a `config.json`.

In timm's layout it names the `architecture` and `num_classes`; `pretrained_cfg` holds `input_size` (channels, height,
width), `mean`, `std` and `interpolation`; `label_names` lists the classes. The network is timm's, or torchvision's
where the configuration says `"library": "torchvision"`. One with a `model_type` is a model of transformers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gen_prior.classifiers import timm as timm_family
from gen_prior.classifiers import torchvision_classification as classification
from gen_prior.classifiers import transformers as transformers_family
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import UnknownNameError, WeightsError
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import check_size, without_prefix
from gen_prior.hub.tensors import read_tensors


def load(folder: str, *, fold: bool = True) -> Classifier:
    """Load the classifier in `folder`, whose weights are `model.safetensors`, or one file of another name.

    It ends in .safetensors, .pth, .bin, .pt, .ckpt or .pth.tar, and may be a checkpoint of training.

    Raises `WeightsError` for files that are missing, damaged or do not fit, `MissingExtraError` without timm.
    """
    files = Files.from_folder(folder)
    name = f"local-dir:{folder}"
    with files.loading():
        config = files.json("config.json")
        if transformers_family.is_configuration(config):
            return transformers_family.from_files(files, config, name=name, fold=fold)
        library = config.get("library", "timm")
        weights = _weights_file(Path(folder).expanduser())
        if library == "timm":
            return timm_family.from_files(files, config, weights, name=name, fold=fold)
        if library != "torchvision":
            raise WeightsError(f"{folder}: unknown library {library!r}; allowed: timm, torchvision")
        architecture = str(config.get("architecture"))
        if architecture not in classification.names():
            raise UnknownNameError("torchvision architecture", architecture, classification.names())
        settings = timm_family.read_settings(config, f"{folder}/config.json")
        if settings.channels != 3:
            raise WeightsError(f"{folder}: torchvision's networks take 3 channels, not {settings.channels}")
        tensors = without_prefix(read_tensors(files.weights(weights)))
        build = partial(
            classification.build,
            architecture,
            classes=settings.classes,
            side=settings.size[0],
            published=bool(config.get("transform_input", False)),
            auxiliary=any(key.startswith(("aux1.", "AuxLogits.")) for key in tensors),
        )
        check_size(build, tensors, f"{folder}/{weights}")
        network = build()
        classification.load_weights(network, tensors, f"{folder}/{weights}", architecture)
        classification.without_auxiliary(network, architecture)
        licence = config.get("license")
        return timm_family.make_classifier(
            network, settings, files, name=name, licence=str(licence) if licence else None, fold=fold
        )


def load_hub(spec: str, *, revision: str | None = None, fold: bool = True) -> Classifier:
    """Load the classifier in the Hub repository `spec`, `org/name[@revision]`, of timm or transformers.

    Raises `MissingExtraError` without that library, `DownloadError`, and `WeightsError` for files that do not fit.
    """
    if spec.startswith("timm/"):
        timm_family.require_timm()  # before any download
    files = Files.from_hub(spec, revision=revision)
    with files.loading():
        config = files.json("config.json")
        if transformers_family.is_configuration(config):
            return transformers_family.from_files(files, config, name=f"hf-hub:{spec}", fold=fold)
        timm_family.require_timm()
        return timm_family.from_files(files, config, "model.safetensors", name=f"hf-hub:{spec}", fold=fold)


def _weights_file(folder: Path) -> str:
    """Name of the weights: safetensors before pickled files. Raises `WeightsError` for several of a kind, or none."""
    for pattern in ("model.safetensors", "*.safetensors", "*.pth", "*.bin", "*.pt", "*.ckpt", "*.pth.tar"):
        found = sorted(path.name for path in folder.glob(pattern))
        if len(found) > 1:
            raise WeightsError(f"{folder} holds several weights: {', '.join(found[:5])}", fix="keep the one to load")
        if found:
            return found[0]
    raise WeightsError(f"{folder} holds no weights", fix="put model.safetensors beside config.json")
