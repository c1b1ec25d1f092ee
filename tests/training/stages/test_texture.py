"""suppress_texture on thirty steps: only the decoder changes, it resumes to the same bits, refuses early."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from training_runs import suppress_texture

import gen_prior as gp
from gen_prior.errors import OptionError, WeightsError
from gen_prior.generators.dgn.config import FlowConfig
from gen_prior.generators.dgn.flow import CodeFlow
from gen_prior.generators.dgn.network import Decoder, Refiner, WhitenedDecoder
from gen_prior.generators.dgn.texture import Coring
from gen_prior.hub.tensors import file_sha256
from gen_prior.training.prior_file import Prior
from gen_prior.training.stage import Material
from gen_prior.training.stages.texture import TextureSettings, TextureStage, roughness
from gen_prior.training.trainer import ReportCallback

SMALL = TextureSettings(steps=10, batch=4, directions=3)
CPU = torch.device("cpu")


def calm(prior: Path, out: Path, **options: Any) -> Path:
    fast: dict[str, Any] = {"settings": SMALL, "device": "cpu", "log_every": 10, "checkpoint_seconds": 0.0}
    return suppress_texture(prior, out, **{**fast, **options})


def stage(network: WhitenedDecoder, settings: TextureSettings = SMALL) -> TextureStage:
    """The stage, in memory."""
    return TextureStage(Material(None, None, Prior(Path(), network, {}, "", None, None), Path(), CPU), settings)


def woven(refiner: bool = False, flow: bool = False) -> WhitenedDecoder:
    """A small network that weaves the more, the nearer a code is to the mean."""
    torch.manual_seed(0)
    decoder = Decoder(4, 64, 0.25)
    with torch.no_grad():
        decoder.get_parameter("exit.bias").copy_(torch.tensor([0.3, -0.3, -0.3, 0.3] * 3))
        decoder.exit.weight.mul_(3)
    before = CodeFlow(12, FlowConfig(3, 16, 1, 5, 2, 1.0)) if flow else None
    basis = torch.linalg.qr(torch.randn(64, 12))[0] * 3
    return WhitenedDecoder(decoder, torch.zeros(4, 4, 4), basis, refiner=Refiner(8) if refiner else None, flow=before)


def test_only_the_decoder_changes(
    small_classifier: gp.Classifier,
    prior: Path,
    interruption: AbstractContextManager[ReportCallback],
    tmp_path: Path,
) -> None:
    records: list[dict[str, Any]] = []
    file = calm(prior, tmp_path / "whole", report=records.append)
    assert [record["step"] for record in records] == [10]
    assert {"kept", "coarse", "pattern", "rough"} <= set(records[-1])
    with Image.open(tmp_path / "whole" / "sheet.png") as sheet:
        assert sheet.height == 2 * 66 + 2  # initial codes, and the same nearer to the mean
    before, after = load_file(prior / file.name), load_file(file)
    assert set(before) == set(after)
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    with safe_open(file, "pt") as opened:
        metadata = dict(opened.metadata())
    assert json.loads(metadata["calming"])["steps_done"] == 10
    assert json.loads(metadata["calming"])["parent_sha256"] == file_sha256(prior / file.name)
    assert json.loads(metadata["training"])["steps_done"] == 30
    networks = [load_file(folder / "networks.safetensors") for folder in (prior, tmp_path / "whole")]
    assert networks[1].keys() == {name for name in networks[0] if name.startswith("encoder.")}
    assert all(torch.equal(networks[0][name], value) for name, value in networks[1].items())
    generator = gp.load_generator(f"local-dir:{tmp_path / 'whole'}", device="cpu")
    assert gp.synthesize(small_classifier, "logits:2", generator, steps=3).images.isfinite().all()


def test_near_the_mean_it_becomes_smooth_and_elsewhere_it_stays(tmp_path: Path) -> None:
    network = woven(refiner=True)
    settings = TextureSettings(steps=80, batch=8, directions=6, rate=2e-3, precision="fp32", roughness_weight=4.0)
    trainer = stage(network, settings)
    mean, far = torch.zeros(1, 12), trainer.white_codes(8, torch.Generator().manual_seed(9))

    def drawn(white: Tensor, whole: WhitenedDecoder) -> Tensor:
        with torch.no_grad():
            image: Tensor = whole(white)
        return image

    def pattern(images: Tensor) -> float:
        return float(trainer.share(images).square().mean())

    first = drawn(mean, network), drawn(far, network)
    assert pattern(first[0]) > 0.9
    trainer.run(tmp_path, resume=False, log_every=80)
    last = drawn(mean, trainer.network()), drawn(far, trainer.network())
    assert pattern(last[0]) < 0.1 * pattern(first[0])
    assert pattern(last[1]) < 0.5 * pattern(first[1])
    assert roughness(last[0]).mean() < 0.5 * roughness(first[0]).mean()
    wanted = first[1] - trainer.share(first[1]) * trainer.pattern
    assert roughness(last[1]).mean() > 0.75 * roughness(wanted).mean()
    assert (last[1] - wanted).abs().mean() < 0.6 * (first[1] - wanted).abs().mean()


def test_codes_have_a_fixed_norm_or_come_through_the_flow() -> None:
    plain = stage(woven()).white_codes(6, torch.Generator().manual_seed(1))
    torch.testing.assert_close(plain.norm(dim=1), torch.full((6,), 1.1 * 12**0.5))
    network = woven(flow=True)
    trainer = stage(network)
    codes = trainer.white_codes(6, torch.Generator().manual_seed(1))
    assert codes.shape == (6, 12)
    assert torch.equal(codes, trainer.white_codes(6, torch.Generator().manual_seed(1)))
    assert trainer.network().flow is network.flow
    network.coring = Coring(0.5)
    assert trainer.network().config == network.config


def test_codes_moved_towards_the_mean_lie_between_the_mean_and_the_code() -> None:
    trainer = stage(woven())
    white = torch.randn(200, 12)
    spatial, factor = trainer.towards_mean(white, torch.Generator().manual_seed(0))
    assert spatial.shape == (200, 4, 4, 4)
    assert factor.shape == (200, 1, 4, 4)
    assert 0 < factor.min() < 0.1
    assert 0.9 < factor.max() <= 1
    uniform = (factor.flatten(1).std(1) < 1e-6).float().mean()
    assert 0.35 < uniform < 0.65
    whole = (white @ trainer.prior.basis.T).view(200, 4, 4, 4)
    alike = (spatial - whole * factor).flatten(1).abs().max(1).values < 1e-5
    assert 0.35 < alike.float().mean() < 0.65  # the others keep their small directions


def test_refusals(prior: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no generator\.safetensors"):
        calm(tmp_path / "none", tmp_path / "out")
    for wrong in (TextureSettings(steps=0), TextureSettings(batch=1)):
        with pytest.raises(OptionError, match=r"at least [12], got"):
            calm(prior, tmp_path / "out", settings=wrong)
    calm(prior, tmp_path / "out", settings=TextureSettings(steps=2, batch=2, directions=3))
    with pytest.raises(OptionError, match="holds a training run"):
        calm(prior, tmp_path / "out")
    with pytest.raises(OptionError, match="batch"):
        calm(prior, tmp_path / "out", settings=TextureSettings(steps=2, batch=3, directions=3), resume=True)
