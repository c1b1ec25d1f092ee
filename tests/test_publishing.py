"""Exported folders are complete and load back; pulled weights then work offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gen_prior.comparison as comparison
from gen_prior.calibration import Accumulator, save
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.generators import load_generator
from gen_prior.generators.deepsim import VARIANTS, UpconvNetwork
from gen_prior.publishing import export, pull
from gen_prior.tensor_files import read_file_metadata


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.conversion.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("gen_prior.calibration.cache_folder", lambda: tmp_path / "cache")


def same_images(first: str, second: str) -> None:
    a, b = (load_generator(spec, device="cpu") for spec in (first, second))
    assert a.code_shape == b.code_shape
    code = a.initial_code(3)[None]
    torch.testing.assert_close(a(code), b(code), atol=0, rtol=0)


def test_the_embedded_prior(tmp_path: Path) -> None:
    folder = export("dgn-lite0", tmp_path / "out", samples=2)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {"README.md", "generator.safetensors", "samples/seed-0.png", "samples/seed-1.png"}
    same_images("dgn-lite0", f"local-dir:{folder}")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "samples/seed-1.png" in card
    again = export(f"local-dir:{folder}", tmp_path / "again", samples=0)
    assert (again / "generator.safetensors").read_bytes() == (folder / "generator.safetensors").read_bytes()


def test_a_pickled_deepsim_with_statistics(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    state = UpconvNetwork(VARIANTS["deepsim-conv3"]).state_dict()
    torch.save({key.removeprefix("layers."): value for key, value in state.items()}, source / "upconvGAN_conv3.pt")
    spec = f"local-dir:{source}"
    generator = load_generator(spec, device="cpu")
    accumulator = Accumulator(generator.code_shape)
    accumulator.add(torch.rand(3, *generator.code_shape))
    save(accumulator.result(), generator)
    folder = export(spec, tmp_path / "out", samples=1)
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert names == {"README.md", "model.safetensors", "statistics.safetensors", "seed-0.png"}
    same_images(spec, f"local-dir:{folder}")
    assert load_generator(f"local-dir:{folder}", device="cpu").options["bounds"] == "mean + 3 std, calibrated"
    assert read_file_metadata(folder / "model.safetensors")["licence"].endswith("by their consent")
    assert "research use only" in (folder / "README.md").read_text()


def test_a_dcgan(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [
        nn.ConvTranspose2d(64, 8, 4),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 8, 4, 2, 1),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
    ]
    torch.save(nn.Sequential(*layers).state_dict(), tmp_path / "netG.pth")
    folder = export(f"dcgan:{tmp_path / 'netG.pth'}", tmp_path / "out", samples=0)
    same_images(f"dcgan:{tmp_path / 'netG.pth'}", f"local-dir:{folder}")


def test_numbers_of_a_comparison_are_in_the_card(tmp_path: Path) -> None:
    summary = {"activation": {"value": 12.345, "low": 11.0, "high": 13.0}}
    methods = [{"name": "dgn-lite0", "summary": summary}, {"name": "pixel|<b>", "summary": {}}]
    (tmp_path / "comparison.json").write_text(json.dumps({"format": comparison.FORMAT, "methods": methods}))
    card = (export("dgn-lite0", tmp_path / "out", comparison=tmp_path, samples=0) / "README.md").read_text()
    assert "| dgn-lite0 | 12.3 (11 to 13) |" in card
    assert "| pixel\\|&lt;b> | - |" in card


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        export("dgn-lite0", tmp_path / "full")
    with pytest.raises(OptionError, match="has no weights"):
        export("fourier", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
    with pytest.raises(UnknownNameError, match="deepsim-fc6"):
        pull("deepsim-fc66")
    assert pull("dgn-lite0").source == "embedded"
