"""Larger images of a prior: the same networks on a code with more places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import gen_prior as gp
from gen_prior.errors import OptionError
from gen_prior.generators.dgn.fine_code import FineCode
from gen_prior.generators.dgn.generator import FILE, FORMAT
from gen_prior.generators.dgn.larger import LargerDecoder
from gen_prior.generators.dgn.network import DETAIL_STD, Decoder, WhitenedDecoder

CONFIG = {"size": 64, "code_channels": 4, "width": 0.125, "directions": 10}
DETAILED = {"details": 12, "detail_width": 8, "coring": 0.5, "grain": 0.1}


def write(network: WhitenedDecoder, folder: Path, **more: float) -> None:
    tensors = {key: value.detach().half() for key, value in network.state_dict().items()}
    save_file(tensors, folder / FILE, {"format": FORMAT, "config": json.dumps(CONFIG | more)})


@pytest.fixture
def detailed() -> WhitenedDecoder:
    """A small prior of 256 px with twelve details, coring and grain."""
    torch.manual_seed(0)
    details = FineCode(4, 12, 8)
    details.basis.copy_(torch.randn(256, 12))
    decoder, mean, basis = Decoder(4, 64, 0.125), torch.randn(4, 4, 4), torch.randn(64, 10)
    return WhitenedDecoder(decoder, mean, basis, details=details, coring=0.5, grain=0.1).requires_grad_(False)


def test_each_level_is_predicted_from_the_last_and_corrected_on_tiles(detailed: WhitenedDecoder) -> None:
    torch.manual_seed(1)
    larger, own = LargerDecoder(detailed, 4), torch.randn(1, 22)
    further = torch.randn(1, 20, 12)
    assert larger.dims == 22 + 20 * 12
    seen: list[torch.Tensor] = []
    detailed.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = larger(torch.cat([own, DETAIL_STD * further.flatten(1)], 1))
    assert image.shape == (1, 3, 1024, 1024)
    assert detailed.details is not None
    spatial, tiles = detailed.spatial(own), iter(further[0] @ detailed.details.basis.T)
    for side in (2, 4):
        spatial = detailed.details.expected(spatial)
        for top in range(0, 8 * side, 8):
            for left in range(0, 8 * side, 8):
                spatial[:, :, top : top + 8, left : left + 8] += next(tiles).view(4, 8, 8)
    torch.testing.assert_close(seen[0], spatial, atol=1e-4, rtol=1e-4)


def test_texture_is_about_the_same_pixels(detailed: WhitenedDecoder) -> None:
    larger = LargerDecoder(detailed, 2)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    cored = larger.coring(F.pad(image, (64,) * 4, mode="reflect"))[..., 64:-64, 64:-64]
    inner = (..., slice(32, -32), slice(32, -32))  # blurs reach 18 pixels over what lies outside
    torch.testing.assert_close(cored[inner], detailed.coring(image)[inner], atol=1e-5, rtol=1e-5)


def test_a_larger_image_is_recorded_and_replayed(tmp_path: Path, detailed: WhitenedDecoder) -> None:
    write(detailed, tmp_path, **DETAILED)
    generator = gp.load_generator(f"local-dir:{tmp_path}", device="cpu", image_size=512)
    assert generator.image_shape() == (512, 512)
    assert generator.code_shape == (22 + 4 * 12,)
    classifier = gp.load_classifier("efficientnet-lite0", device="cpu")
    made = gp.synthesize(classifier, "blocks.1:3", generator, steps=2, candidates=2, out=tmp_path / "out")
    assert made.images.shape[-2:] == (512, 512)
    assert made.settings["generator"]["options"] == {"image_size": 512}
    assert made.unit_recipe.edits[-1] == ("norm_sphere", {"radius": 1.0, "inside": True, "units": [22, 70]})
    assert torch.equal(gp.load_result(tmp_path / "out").replay().images, made.images)


def test_seeds_of_a_class_begin_with_small_further_details() -> None:
    small, large = (gp.load_generator("dgn-lite0", device="cpu", image_size=side) for side in (256, 512))
    dims = small.code_shape[0]
    codes = [generator.initial_code(3, "n01443537") for generator in (small, large)]
    assert len(codes[1]) == dims + 4 * 1024
    torch.testing.assert_close(codes[1][: dims - 16], codes[0][: dims - 16])  # the noise's last numbers differ
    assert float(codes[1][dims:].std()) == pytest.approx(0.3 * DETAIL_STD, rel=0.05)
    unit = large.initial_code(3, hidden_unit=True)
    assert float(unit[dims:].std()) == pytest.approx(DETAIL_STD, rel=0.05)
    assert not unit[:192].any()


@pytest.mark.parametrize("side", [300, 2048, True, "512"])
def test_other_sides_are_refused_with_those_that_are_possible(side: object) -> None:
    with pytest.raises(OptionError, match="square images of 256, 512, 1024 px, got"):
        gp.load_generator("dgn-lite0", device="cpu", image_size=side)


def test_a_prior_without_details_has_one_side(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = WhitenedDecoder(Decoder(4, 64, 0.125), torch.randn(4, 4, 4), torch.randn(64, 10))
    write(network, tmp_path)
    with pytest.raises(OptionError, match=r"square images of 64 px only, got image_size=128"):
        gp.load_generator(f"local-dir:{tmp_path}", device="cpu", image_size=128)


@pytest.mark.parametrize(("name", "side"), [("titok:ll32", 256), ("deepsim-norm1", 240), ("pmf:B-32", 512)])
def test_networks_of_one_size_say_it_before_any_download(name: str, side: int) -> None:
    with pytest.raises(OptionError, match=f"{name} draws {side} x {side} px only, got image_size=1024"):
        gp.load_generator(name, device="cpu", image_size=1024)
