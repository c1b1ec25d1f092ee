"""The fine code: the second level of a code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import gen_prior as gp
from gen_prior.errors import WeightsError
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.generator import FILE, FORMAT, RECIPE
from gen_prior.generators.dgn.network import DETAIL_STD, Decoder, WhitenedDecoder
from gen_prior.generators.dgn.texture import Grain

CONFIG = {"size": 64, "code_channels": 4, "width": 0.125, "directions": 10, "details": 12, "detail_width": 8}


@pytest.fixture
def detailed() -> WhitenedDecoder:
    """A small prior with twelve details."""
    torch.manual_seed(0)
    details = FineCode(4, 12, 8)
    details.basis.copy_(torch.randn(256, 12))
    return WhitenedDecoder(Decoder(4, 64, 0.125), torch.randn(4, 4, 4), torch.randn(64, 10), details=details)


def write(network: WhitenedDecoder, folder: Path, **changed: float) -> None:
    tensors = {key: value.detach().half() for key, value in network.state_dict().items()}
    save_file(tensors, folder / FILE, {"format": FORMAT, "config": json.dumps(CONFIG | changed)})


def test_a_finer_code_is_what_follows_and_the_details(detailed: WhitenedDecoder) -> None:
    coarse, details = torch.randn(2, 10), torch.randn(2, 12)
    plain = detailed.spatial(torch.cat([coarse, torch.zeros(2, 12)], 1))
    spatial = detailed.spatial(torch.cat([coarse, DETAIL_STD * details], 1))
    assert plain.shape == (2, 4, 8, 8)
    added = (details @ detailed.details.basis.T).view(2, 4, 8, 8)  # type: ignore[union-attr]
    torch.testing.assert_close(spatial - plain, added)
    assert detailed.dims == 10 + 12
    assert detailed.std.tolist() == [1.0] * 10 + [DETAIL_STD] * (12)


def test_loaded_from_a_file_it_doubles_the_side_and_has_a_norm_sphere_of_its_own(
    detailed: WhitenedDecoder, tmp_path: Path
) -> None:
    write(detailed, tmp_path)
    generator = gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
    assert generator.image_shape() == (128, 128)
    assert [options["units"] for _, options in generator.recipe.edits] == [(0, 10), (10, 22)]
    assert generator.recipe.edits[0][1]["radius"] == RECIPE.edits[0][1]["radius"]
    codes = torch.stack([generator.initial_code(seed) for seed in range(20)])
    assert float(codes[:, :10].std()) == pytest.approx(1.0, rel=0.2)
    assert float(codes[:, 10:].std()) == pytest.approx(DETAIL_STD, rel=0.2), "random codes are photographs'"
    image = generator(codes[:2])
    torch.testing.assert_close(generator(codes[1:2]), image[1:2], rtol=1e-3, atol=1e-4)


def test_grain_of_a_file_doubles_the_side_again(detailed: WhitenedDecoder, tmp_path: Path) -> None:
    folders = [tmp_path / "plain", tmp_path / "grained"]
    for folder, grain in zip(folders, (0.0, 0.15), strict=True):
        folder.mkdir()
        write(detailed, folder, grain=grain)
    plain, grained = (gp.load_generator(f"local-dir:{folder}", device="cpu") for folder in folders)
    assert grained.image_shape() == (256, 256)
    code = plain.initial_code(0)[None]
    with torch.no_grad():
        torch.testing.assert_close(grained.module(code), Grain(0.15)(plain.module(code)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("changed", [{"details": 257}, {"details": -1}, {"detail_width": 0}, {"detail_width": 10**6}])
def test_impossible_details_are_refused(detailed: WhitenedDecoder, tmp_path: Path, changed: dict[str, int]) -> None:
    write(detailed, tmp_path, **changed)
    with pytest.raises(WeightsError, match=r"impossible|too large"):
        gp.load_generator(f"local-dir:{tmp_path}", device="cpu")


def test_details_of_another_count_are_refused(detailed: WhitenedDecoder, tmp_path: Path) -> None:
    write(detailed, tmp_path, details=11)
    with pytest.raises(WeightsError, match="is expected"):
        gp.load_generator(f"local-dir:{tmp_path}", device="cpu")
