"""Fixtures: a tiny classifier and generator for speed, the embedded real classifier for truth."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from browsers import chromium
from hub_server import Hub
from huggingface_hub import constants
from torch import Tensor, nn

import gen_prior.hub.download
import gen_prior.hub.fetch
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.generators.base import Generator

WITHOUT_BROWSER = pytest.StashKey[int]()

torch.set_num_threads(1)  # the same everywhere; threads that wait for each other cost more than they bring here


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` do not run where there is no CUDA device, those marked `browser` where there is no Chromium;
    the summary counts them."""
    if chromium() is None and (without := [item for item in items if item.get_closest_marker("browser")]):
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)
        config.stash[WITHOUT_BROWSER] = len(without)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Say how many tests a browser is missing for."""
    count = config.stash.get(WITHOUT_BROWSER, 0)
    missing = "no Chromium (apt-get install chromium), or no playwright"
    return f"{count} browser tests do not run: {missing}" if count else None


TINY_LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


def tiny_network(seed: int = 0, inputs: int = 3) -> nn.Module:
    """Normalised `[B, inputs, H, W]` -> logits `[B, 5]`, with batch norms whose statistics are not trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential()
        network.add_module("conv1", nn.Conv2d(inputs, 8, 3, padding=1, bias=False))
        network.add_module("bn1", nn.BatchNorm2d(8))
        network.add_module("relu1", nn.ReLU())
        network.add_module("conv2", nn.Conv2d(8, 12, 3, stride=2, padding=1))
        network.add_module("bn2", nn.BatchNorm2d(12))
        network.add_module("relu2", nn.ReLU())
        network.add_module("pool", nn.AdaptiveAvgPool2d(1))
        network.add_module("flatten", nn.Flatten())
        network.add_module("fc", nn.Linear(12, len(TINY_LABELS)))
        randomise_norms(network)
    return network.eval()


def randomise_norms(network: nn.Module) -> nn.Module:
    """Gives every batch norm statistics and scales away from 0 and 1, as training would; returns `network`."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                if values is not None:
                    nn.init.uniform_(values, low, high)
    return network


class TinyDecoder(nn.Module):
    """Codes `[B, 8]` -> images `[B, 3, 16, 16]` in (-1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16 * 4 * 4)
        self.up = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)
        self.out = nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        hidden = torch.relu(self.linear(code)).view(-1, 16, 4, 4)
        return torch.tanh(3 * self.out(torch.relu(self.up(hidden))))


class ChannelsLast(nn.Module):
    """As Swin has it: `[B, H, W, C]` inside."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, 6, 4, 4), nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(6, 4)
        self.widen = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(self.patches(x).permute(0, 2, 3, 1))
        self.norm(self.widen(y))
        logits: Tensor = self.head(y.mean((1, 2)))
        return logits


@pytest.fixture
def channels_last() -> Classifier:
    """Layers `patches` (units first), `block` and `norm` (units last), 8 x 8 places of patches of 4 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Classifier(ChannelsLast(), input_size=32, name="channels-last")


@pytest.fixture
def make_tiny_network() -> Callable[..., nn.Module]:
    """`make(seed=0, inputs=3)` -> the network of `tiny_classifier`, bare."""
    return tiny_network


@pytest.fixture
def with_lively_norms() -> Callable[[nn.Module], nn.Module]:
    """A function that gives a network's batch norms statistics away from 0 and 1, in place."""
    return randomise_norms


@pytest.fixture
def tiny_classifier() -> Classifier:
    """Five classes, 32 pixels, conv + batch norm twice, random but always the same weights."""
    return Classifier(tiny_network(), input_size=32, labels=TINY_LABELS, name="tiny")


@pytest.fixture
def tiny_generator() -> Generator:
    """Code of 8 numbers -> image of 16 x 16 pixels, random but always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Generator(TinyDecoder(), code_shape=(8,), name="tiny")


@pytest.fixture(scope="session")
def lite0() -> Classifier:
    """The embedded EfficientNet-Lite0 with its published weights, on the CPU."""
    return load_classifier("efficientnet-lite0", device="cpu")


@pytest.fixture(scope="session")
def written_by_0_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files that 0.1 wrote (see tests/data/written_by_0_1/README.md); not to be written to."""
    folder = tmp_path_factory.mktemp("written_by_0_1")
    with tarfile.open(Path(__file__).parent / "data" / "written_by_0_1" / "written.tar.xz") as archive:
        if hasattr(tarfile, "data_filter"):  # not in every 3.10 and 3.11
            archive.extraction_filter = staticmethod(tarfile.data_filter)
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The server, empty, and this process's client pointed at it with a cache of its own."""
    server.repos.clear()
    server.faults.clear()
    server.head_status.clear()
    server.requests.clear()
    server.etags.clear()
    server.commits.clear()
    server.head_faults.clear()
    server.storage_saw_token = False
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 3)
    monkeypatch.setattr(gen_prior.hub.fetch, "RETRY_WAITS", (0.01, 0.02))
    gen_prior.hub.download._failures.clear()
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return server
