"""Code statistics: streamed, kept beside the weights, used by the next load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gen_prior.errors import ImageError, OptionError, WeightsError
from gen_prior.generators.base import Generator
from gen_prior.generators.code_statistics import (
    PARTS,
    Accumulator,
    calibrate,
    find_statistics,
    save,
    statistics_path,
)
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.tensors import save_safetensors
from gen_prior.util.image_io import write_png


def generator(provenance: Provenance | None = None, encoder: bool = True) -> Generator:
    """Six numbers <-> an image of 8 x 8 pixels, whose mean colours of two halves are the code."""

    def encode(images: Tensor) -> Tensor:
        return torch.stack([images[:, :, :4].mean((2, 3)), images[:, :, 4:].mean((2, 3))], 1).flatten(1)

    return Generator(
        Halves(),
        (6,),
        output_range=(0, 1),
        name="halves",
        encode=encode if encoder else None,
        provenance=provenance,
    )


class Halves(nn.Module):
    def forward(self, code: Tensor) -> Tensor:
        return code.view(-1, 2, 3).transpose(1, 2)[..., None].repeat_interleave(4, 2).expand(-1, -1, -1, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(0)
    for index in range(7):
        shape = (3, 8, 8) if index % 2 else (3, 16, 24)
        write_png(tmp_path / "images" / f"{index}.png", torch.rand(shape, generator=source))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


@pytest.mark.parametrize("sizes", [(10,), (1, 9), (3, 3, 3, 1)])
def test_streamed_statistics_are_exact(sizes: tuple[int, ...]) -> None:
    codes = 1000 + torch.randn(10, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    accumulator = Accumulator((2, 3), covariance=True)
    for batch in codes.split(sizes):
        accumulator.add(batch)
    found = accumulator.result()
    assert found.images == 10
    torch.testing.assert_close(found.mean, codes.mean(0).float())
    torch.testing.assert_close(found.std, codes.std(0).float(), atol=1e-6, rtol=1e-5)
    assert found.covariance is not None
    torch.testing.assert_close(found.covariance, codes.flatten(1).T.cov().float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.minimum, codes.amin(0).float())
    torch.testing.assert_close(found.maximum, codes.amax(0).float())


def test_measured_from_a_folder_in_batches(folder: Path) -> None:
    seen: list[int] = []
    small = calibrate(generator(), [folder], batch_size=2, progress=lambda progress: seen.append(progress.done))
    assert seen == [2, 4, 6, 7]
    whole = calibrate(generator(), sorted(folder.glob("*.png")), batch_size=100)
    assert small.images == whole.images == 7
    torch.testing.assert_close(small.std, whole.std)


@pytest.mark.parametrize("local", [True, False])
def test_kept_beside_the_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool) -> None:
    monkeypatch.setattr("gen_prior.generators.code_statistics.cache_folder", lambda: tmp_path / "cache")
    source = f"local-dir:{tmp_path}" if local else "hf-hub:org/name"
    provenance = Provenance(source, "0" * 40, {"model.safetensors": "a" * 64})
    assert find_statistics(provenance) is None
    measured = calibrate(generator(provenance), [folder], covariance=True)
    path = save(measured, generator(provenance))
    assert path == statistics_path(provenance)
    assert path.is_relative_to(tmp_path if local else tmp_path / "cache")
    found = find_statistics(provenance, (6,))
    assert found is not None
    assert all(
        torch.equal(a, b) for a, b in zip(found[1:], measured[1:], strict=True) if a is not None and b is not None
    )
    assert find_statistics(provenance, (7,)) is None
    other = Provenance("hf-hub:org/name", "0" * 40, {"model.safetensors": "b" * 64})
    assert find_statistics(other) is None


def test_statistics_of_other_weights_are_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = {"model.safetensors": "a" * 64, "config.json": "c" * 64}
    before = Provenance(f"local-dir:{tmp_path}", None, sha256)
    save(calibrate(generator(before), [folder]), generator(before))
    same = Provenance(f"local-dir:{tmp_path}", None, sha256 | {"config.json": "d" * 64})
    assert find_statistics(same) is not None
    assert caplog.text == ""
    assert find_statistics(Provenance(f"local-dir:{tmp_path}", None, {"model.safetensors": "b" * 64})) is None
    assert "was measured with other weights and is ignored" in caplog.text


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"x": torch.ones(3)}, {"images": "3"}),
        ({part: torch.ones(3) for part in PARTS}, {}),
        ({part: torch.ones(3) for part in PARTS} | {"std": torch.ones(1)}, {"images": "3"}),
    ],
)
def test_a_file_that_holds_no_statistics_is_named(
    tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    provenance = Provenance(f"local-dir:{tmp_path}", None, {"model.safetensors": "a" * 64})
    save_safetensors(tmp_path / "statistics.safetensors", tensors, metadata)
    with pytest.raises(WeightsError, match=r"statistics\.safetensors holds no code statistics.*calibrate"):
        find_statistics(provenance)


def test_unreadable_images_are_left_out_and_told(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    told: list[str] = []
    assert calibrate(generator(), [folder], on_bad=told.append).images == 7
    assert len(told) == 1
    assert "broken.png" in told[0]
    with pytest.raises(ImageError, match=r"broken\.png"):
        calibrate(generator(), [folder])


def test_what_cannot_be_measured(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no encoder"):
        calibrate(generator(encoder=False), [folder])
    with pytest.raises(OptionError, match="at least 1 image, got 0"):
        calibrate(generator(), [folder], batch_size=0)
    with pytest.raises(OptionError, match="no weights to keep code statistics for"):
        save(calibrate(generator(), [folder]), generator())
    with pytest.raises(OptionError, match="at least 2 images, got 1"):
        calibrate(generator(), [folder / "1.png"])
    with pytest.raises(ImageError, match="no images"):
        calibrate(generator(), [])
    with pytest.raises(ImageError):
        calibrate(generator(), [folder / "notes.txt"])
    with pytest.raises(OptionError, match="too large"):
        Accumulator((256, 13, 13), covariance=True)
    with pytest.raises(OptionError, match="not finite"):
        Accumulator((2,)).add(torch.tensor([[1.0, float("nan")]]))
