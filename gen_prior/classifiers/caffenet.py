"""CaffeNet (Jia et al. 2014): the classifier of Nguyen et al. 2016 and the encoder of DeePSim.

AlexNet (Krizhevsky et al. 2012) with pooling before normalisation. It was trained on BGR images; its first convolution
is flipped, so that it takes RGB like every other classifier.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.hub import registry
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, load_frozen, rename_tensors
from gen_prior.hub.tensors import read_tensors

MEAN_RGB = (123.0, 117.0, 104.0)
INPUT_SIZE = 227


def network() -> nn.Sequential:
    """Network of normalised `[B, 3, 227, 227]` to logits `[B, 1000]`, with Caffe's layer names and relu1 to relu7."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(3, 96, 11, stride=4),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            norm1=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
            norm2=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            fc6=nn.Linear(9216, 4096),
            relu6=nn.ReLU(),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(),
            fc8=nn.Linear(4096, 1000),
        )
    )


def build(published: dict[str, Tensor], file: str) -> nn.Sequential:
    """Build the RGB network and empty `published` into it. Raises `WeightsError` for tensors that do not fit."""
    tensors = rename_tensors(published, lambda key: key.replace(".1.", "."), file)
    built = build_on_meta(network, file)
    load_frozen(built, tensors, file, "caffenet")
    assert isinstance(built, nn.Sequential)
    conv1 = built.get_submodule("conv1")
    assert isinstance(conv1, nn.Conv2d)
    conv1.weight = nn.Parameter(conv1.weight.flip(1).contiguous(), requires_grad=False)
    return built


def load(name: str = "caffenet", *, revision: str | None = None, fold: bool = True) -> Classifier:
    """Load CaffeNet (227 px, 1000 ImageNet classes) from the Hub; it has no batch norms to `fold`.

    Raises `DownloadError`, `WeightsError`.
    """
    entry = registry.find(name)
    files = Files.of_entry(entry, revision)
    with files.loading():
        built = build(read_tensors(files.weights(*entry.files)), f"{files.source}/{entry.files[-1]}")
    return Classifier(
        built,
        mean=[value / 255 for value in MEAN_RGB],
        std=(1 / 255,) * 3,
        input_size=INPUT_SIZE,
        labels=imagenet(),
        name=name,
        provenance=files.provenance(licence=entry.licence, paper=entry.paper),
        fold=fold,
        in_place=True,
    )
