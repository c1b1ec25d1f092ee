"""The doctor's report: every family, and every way to fail, each with its reason in the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import BIGGAN, biggan_state, consistency, dcgan, pickled, saved_folder, tiny, upconv_state
from hub_server import Hub
from safetensors.torch import save
from skimage import data
from typer.testing import CliRunner

from gen_prior.applications.doctor import IMAGE, JSON, MARKDOWN, STEPS, examine, statistics
from gen_prior.cli import app
from gen_prior.errors import OptionError, UnknownNameError
from gen_prior.hub import registry

CONFIG = json.dumps(BIGGAN).encode()


@pytest.mark.parametrize("name", ["dgn-lite0", "pixel-raw", "maco"])
def test_built_in_families(name: str, tmp_path: Path) -> None:
    report = examine(name, tmp_path, device="cpu")
    assert report["ok"]
    assert list(report["steps"]) == list(STEPS)
    assert json.loads((tmp_path / JSON).read_text()) == report
    assert name in (tmp_path / MARKDOWN).read_text()
    assert (tmp_path / IMAGE).is_file()
    if name == "dgn-lite0":
        measured = report["steps"]["measure"]
        assert measured["correlation of neighbours"] > 0.9
        assert -4 < measured["slope of the spectrum"] < -1


def unsaturated() -> dict[str, torch.Tensor]:
    """Weights so small that the last tanh lets a gradient pass."""
    return {key: 0.03 * value for key, value in upconv_state("deepsim-norm1").items()}


@pytest.mark.parametrize(
    "family", ["deepsim-norm1", "biggan-deep-128", "diffusers:a/x", "consistency:a/x", "dcgan:a/x"]
)
def test_families_of_the_hub(hub: Hub, tmp_path: Path, family: str) -> None:
    published: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        "deepsim-norm1": (registry.DEEPSIM, lambda: {"upconvGAN_norm1.pt": pickled(unsaturated())}),
        "biggan-deep-128": (
            "osanseviero/BigGAN-deep-128",
            lambda: {"config.json": CONFIG, "model.safetensors": save(biggan_state())},
        ),
        "diffusers:a/x": ("a/x", lambda: saved_folder(tiny(), tmp_path / "saved")),
        "consistency:a/x": ("a/x", lambda: saved_folder(consistency(), tmp_path / "saved")),
        "dcgan:a/x": ("a/x", lambda: {"generator.pth": pickled(dcgan())}),
    }
    repo, files = published[family]
    commit = hub.publish(repo, files(), commit=registry.DEEPSIM_REVISION if "deepsim" in family else None)
    report = examine(
        family, tmp_path / "out", device="cpu", options={"image_size": 32} if "diffusers" in family else {}
    )
    failed = {name for name, step in report["steps"].items() if step["status"] == "failed"}
    assert failed == ({"encode"} if "deepsim" in family else set()), "CaffeNet is not on this server"
    assert report["described"]["revision"] == commit
    assert report["described"]["sha256"]
    assert report["steps"]["load"]["parameters"] > 0


def test_a_failed_download_and_another_layout_are_in_the_report(hub: Hub, tmp_path: Path) -> None:
    absent = examine("biggan-deep-128", tmp_path / "absent", device="cpu")
    assert absent["steps"]["load"]["status"] == "failed"
    assert "no repository" in absent["steps"]["load"]["reason"]
    assert {step["status"] for name, step in absent["steps"].items() if name != "load"} == {"skipped"}
    state = biggan_state() | {"generator.layers.9.odd": torch.zeros(2, 3)}
    hub.publish("osanseviero/BigGAN-deep-128", {"config.json": CONFIG, "model.safetensors": save(state)})
    done = CliRunner().invoke(app, ["doctor", "biggan-deep-128", "--device", "cpu", "--out", str(tmp_path / "wrong")])
    assert done.exit_code == 1
    assert "load: failed: WeightsError" in done.stdout.replace("\n", " ")
    report = json.loads((tmp_path / "wrong" / JSON).read_text())
    assert report["steps"]["load"]["kind"] == "weights"
    assert report["steps"]["load"]["layout"]["generator.layers.9.odd"] == [2, 3]
    assert set(report["steps"]["load"]["layout"]) == set(state)
    assert "generator.layers.9.odd [2, 3]" in (tmp_path / "wrong" / MARKDOWN).read_text()
    assert not (tmp_path / "wrong" / IMAGE).exists()


def test_mistakes_of_the_user_are_no_findings(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="dgn-lite0"):
        examine("dgn-lite", tmp_path / "x", device="cpu")
    with pytest.raises(OptionError, match="sizes"):
        examine("pixel", tmp_path / "x", device="cpu", options={"sizes": 3})
    assert not (tmp_path / "x").exists()


def test_wrongly_ordered_patches_show() -> None:
    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[:, :256, :256] / 255
    right = statistics(photograph)
    assert right["jump at 16"] < 1.2
    assert right["correlation of neighbours"] > 0.9
    patches = photograph.unfold(1, 16, 16).unfold(2, 16, 16)
    turned = patches.transpose(3, 4).permute(0, 1, 3, 2, 4).reshape(3, 256, 256)
    assert statistics(turned)["jump at 16"] > 1.5
