"""The natural images that excite a unit most, against brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import center_crop, resize

from gen_prior.applications.exemplars import find_exemplars
from gen_prior.applications.photographs import as_seen, check_folder
from gen_prior.classifiers import Classifier
from gen_prior.errors import ImageError, OptionError, TargetError
from gen_prior.util.image_io import read_image, write_png
from gen_prior.util.progress import Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = torch.Generator().manual_seed(5)
    for number in range(7):
        write_png(tmp_path / f"set{number % 2}" / f"{number}.png", torch.rand(3, 32 + number, 40, generator=source))
    return tmp_path


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_best_of_a_folder_best_first(tiny_classifier: Classifier, folder: Path, batch: int) -> None:
    found = find_exemplars(tiny_classifier, "bee", folder, count=3, batch=batch)
    images = {path: as_seen(tiny_classifier, read_image(path)) for path in folder.rglob("*.png")}
    scores = {path: tiny_classifier(image[None])[0, 1].item() for path, image in images.items()}
    assert [exemplar.path for exemplar in found] == sorted(scores, key=scores.__getitem__, reverse=True)[:3]
    assert found[0].activation == pytest.approx(max(scores.values()), abs=1e-5)
    box = found[0].box
    assert (box.top, box.left, box.bottom, box.right) == (0, 0, 32, 32)


def test_a_channel_is_looked_for_at_every_place_and_cropped_there(tiny_classifier: Classifier, folder: Path) -> None:
    found = find_exemplars(tiny_classifier, "conv2:3", folder, count=2)
    for exemplar in found:
        channel = tiny_classifier.activations(exemplar.image[None], ["conv2"])["conv2"][0, 3]
        y, x = divmod(channel.argmax().item(), channel.shape[1])
        assert exemplar.activation == pytest.approx(channel.max().item(), abs=1e-5)
        assert exemplar.box.top == max(0, 2 * y - 2)
        assert exemplar.box.left == max(0, 2 * x - 2)
        assert exemplar.seen.shape[1] <= 5
    centre = find_exemplars(tiny_classifier, "conv2:3", folder, count=2, anywhere=False)
    assert centre[0].activation < found[0].activation


def test_maps_with_channels_last(channels_last: Classifier, folder: Path) -> None:
    found = find_exemplars(channels_last, "block:5", folder, count=2)
    for exemplar in found:
        channel = channels_last.activations(exemplar.image[None], ["block"])["block"][0, ..., 5]
        y, x = divmod(channel.argmax().item(), 8)
        assert exemplar.activation == pytest.approx(channel.max().item(), abs=1e-5)
        assert (exemplar.box.top, exemplar.box.left) == (4 * y, 4 * x)


def test_files_that_are_no_images_are_told_or_refused(tiny_classifier: Classifier, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        find_exemplars(tiny_classifier, "bee", folder)
    told: list[str] = []
    found = find_exemplars(tiny_classifier, "bee", folder, count=50, on_bad=told.append)
    assert len(found) == 7
    assert len(told) == 1


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000), (33, 300), (300, 64)])
def test_the_centre_is_cut_out_before_it_is_scaled(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    image = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    whole, sizes = resize, []

    def watched(picture: Tensor, size: list[int], **options: Any) -> Tensor:
        sizes.append(picture.shape[-2] * picture.shape[-1])
        return whole(picture, size, **options)

    monkeypatch.setattr(functional, "resize", watched)
    seen = as_seen(tiny_classifier, image)
    side = max(round(224 / 256 * min(shape)), min(*shape, 32))  # ImageNet's evaluation; all of a smaller image
    assert seen.shape == (3, 32, 32)
    assert sizes == [side * side]
    centre = whole(center_crop(image, [side, side]), [32, 32], antialias=True)
    torch.testing.assert_close(seen, centre.clamp(0, 1))


def test_a_folder_of_which_nothing_can_be_read_is_refused(tiny_classifier: Classifier, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of the 2 image files"):
        find_exemplars(tiny_classifier, "bee", tmp_path, on_bad=lambda message: None)
    with pytest.raises(ImageError, match="none of the 2 image files"):
        check_folder(tmp_path)


def test_folders_without_images_are_refused(tiny_classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images"):
        find_exemplars(tiny_classifier, "bee", tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        find_exemplars(tiny_classifier, "bee", tmp_path / "missing")
    with pytest.raises(OptionError, match="count"):
        find_exemplars(tiny_classifier, "bee", tmp_path, count=0)


def test_a_list_of_targets_is_found_in_one_pass(tiny_classifier: Classifier, folder: Path) -> None:
    targets = ["bee", "conv2:3", "-conv2:3", "conv1:0-2"]
    reports: list[Progress] = []
    found = find_exemplars(tiny_classifier, targets, folder, count=2, progress=reports.append)
    assert len(found) == 6
    assert [report.done for report in reports] == [7]
    for text, row in zip([*targets[:2], "conv1:0", "conv1:1"], [*found[:2], *found[3:5]], strict=True):
        alone = find_exemplars(tiny_classifier, text, folder, count=2)
        assert [(each.path, each.activation, each.box) for each in row] == [
            (each.path, each.activation, each.box) for each in alone
        ]
    least = found[2][0]
    channel = tiny_classifier.activations(least.image[None], ["conv2"])["conv2"][0, 3]
    assert least.activation == pytest.approx(channel.min().item(), abs=1e-5)
    assert least.position == divmod(int(channel.argmin()), channel.shape[1])
    with pytest.raises(TargetError, match="names 3 targets"):
        find_exemplars(tiny_classifier, "conv1:0-2", folder)
