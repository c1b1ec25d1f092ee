"""Labelled synthetic images: complete, resumable, filtered, the same however they were made."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.datasets import ImageFolder

from gen_prior.applications.dataset import make_dataset, read_samples
from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import Generator
from gen_prior.hub.provenance import Provenance
from gen_prior.util.image_io import read_image
from gen_prior.util.progress import Progress


def read(shard: tarfile.TarFile, name: str) -> bytes:
    member = shard.extractfile(name)
    assert member is not None
    return member.read()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def judge(make_tiny_network: Callable[..., nn.Module]) -> Classifier:
    return Classifier(make_tiny_network(1), input_size=32, name="judge")


def test_torchvision_reads_the_folder_in_the_order_of_the_classes(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    samples = make_dataset(tiny_classifier, tiny_generator, tmp_path, per_class=2, steps=3)
    assert len(samples) == 10
    dataset = ImageFolder(tmp_path / "images")
    assert dataset.targets == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert dataset.classes[2] == "0002-crane-bird"
    names = json.loads((tmp_path / "classes.json").read_text())
    assert names["0003-golden-retriever"] == "golden retriever"
    image = read_image(tmp_path / samples[3].file)
    assert tiny_classifier(image[None])[0, 1].item() == pytest.approx(samples[3].activation, abs=0.05)


def test_stopping_and_going_on_ends_with_the_same_bytes(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if (progress.label, progress.done, progress.total) == ("cup", 5 + 2, 10):
            raise KeyboardInterrupt

    options: dict[str, Any] = {"classes": ["bee", "cup"], "per_class": 5, "batch": 2, "steps": 3}
    make_dataset(tiny_classifier, tiny_generator, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tiny_classifier, tiny_generator, tmp_path / "parts", progress=stop, **options)
    assert len(read_samples(tmp_path / "parts")) == 7
    (tmp_path / "parts" / "images" / "0001-bee" / "seed-00003.png").unlink()
    make_dataset(tiny_classifier, tiny_generator, tmp_path / "parts", **options)
    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    images = {name for name in whole if name.endswith(".png")}
    assert images == {name for name in parts if name.endswith(".png")}
    assert len(images) == 10
    assert all(
        torch.allclose(read_image(tmp_path / "whole" / n), read_image(tmp_path / "parts" / n), atol=0.01)
        for n in images
    )


def test_the_filter_keeps_what_the_judge_agrees_with(
    tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier, tmp_path: Path
) -> None:
    samples = make_dataset(
        tiny_classifier, tiny_generator, tmp_path, per_class=3, judge=judge, keep="top1", tries=2, steps=3
    )
    for index in range(5):
        mine = [sample for sample in samples if sample.class_index == index]
        assert sum(sample.kept for sample in mine) == 3 or len(mine) == 6
        for sample in mine:
            assert sample.kept == (sample.judge_rank == 1) == (tmp_path / sample.file).is_file()
    assert any(sample.kept for sample in samples)
    assert not all(sample.kept for sample in samples)


def test_shards_hold_every_kept_image_once_with_its_label(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    samples = make_dataset(tiny_classifier, tiny_generator, tmp_path, per_class=2, shard_size=4, steps=2)
    found = {}
    shards = sorted((tmp_path / "shards").glob("*.tar"))
    for path in shards:
        with tarfile.open(path) as shard:
            for name in shard.getnames():
                if name.endswith(".cls"):
                    found[name.removesuffix(".cls")] = int(read(shard, name))
                if name.endswith(".png"):
                    sample = next(s for s in samples if name == f"{s.class_index:04d}-{s.seed:05d}.png")
                    assert read(shard, name) == (tmp_path / sample.file).read_bytes()
    assert len(shards) == 3
    assert found == {f"{s.class_index:04d}-{s.seed:05d}": s.class_index for s in samples}


def test_more_per_class_later_adds_to_what_is_there(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=["bee"], per_class=1, steps=2)
    stamp = (tmp_path / "images" / "0001-bee" / "seed-00000.png").stat().st_mtime_ns
    samples = make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=["bee"], per_class=3, steps=2)
    assert [sample.seed for sample in samples] == [0, 1, 2]
    assert (tmp_path / "images" / "0001-bee" / "seed-00000.png").stat().st_mtime_ns == stamp


def test_other_settings_in_the_same_folder_are_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=["bee"], per_class=1, steps=2)
    with pytest.raises(OptionError, match="another recipe"):
        make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=["bee"], per_class=1, steps=3)


@pytest.mark.parametrize(
    "options", [{"keep": "best"}, {"keep": "top1"}, {"per_class": 0}, {"batch": 0}, {"shard_size": -1}]
)
def test_settings_that_make_no_sense_are_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(OptionError):
        make_dataset(tiny_classifier, tiny_generator, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_judge_of_other_classes_is_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, lite0: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="other classes"):
        make_dataset(tiny_classifier, tiny_generator, tmp_path, judge=lite0)


def test_the_classifier_is_no_judge_of_itself(
    tiny_classifier: Classifier, tiny_generator: Generator, make_tiny_network: Callable[..., nn.Module], tmp_path: Path
) -> None:
    twins = [Classifier(make_tiny_network(0), input_size=32, name="tiny") for _ in range(2)]
    for twin in twins:
        twin.provenance = Provenance(sha256={"model": "00"})
    for one, other in ((tiny_classifier, tiny_classifier), twins):
        with pytest.raises(OptionError, match="another classifier than tiny"):
            make_dataset(one, tiny_generator, tmp_path, per_class=1, judge=other)
    assert not list(tmp_path.iterdir())


def test_damaged_records_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "images.jsonl").write_text('{"file": 1}\n')
    with pytest.raises(OutputError, match="damaged"):
        read_samples(tmp_path)


def nan_judge(make_tiny_network: Callable[..., nn.Module]) -> Classifier:
    network = make_tiny_network(1)
    network.get_parameter("fc.weight").data[2] = torch.nan
    return Classifier(network, input_size=32, name="broken")


@pytest.mark.parametrize("keep", ["all", "top1"])
def test_a_judge_that_gives_nan_keeps_nothing(
    tiny_classifier: Classifier,
    tiny_generator: Generator,
    make_tiny_network: Callable[..., nn.Module],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    keep: str,
) -> None:
    judge = nan_judge(make_tiny_network)
    samples = make_dataset(
        tiny_classifier, tiny_generator, tmp_path, classes=[1], per_class=2, judge=judge, keep=keep, tries=2, steps=2
    )
    assert [sample.kept for sample in samples] == ([True] * 2 if keep == "all" else [False] * 4)
    assert all(sample.judge_rank is None and sample.judge_probability is None for sample in samples)
    assert "not finite" in caplog.text
    assert "NaN" not in (tmp_path / "images.jsonl").read_text()


@pytest.mark.parametrize(
    "file", ["../secret.txt", "images/../../secret.txt", "/etc/hostname", "images/link.png", "x\0"]
)
def test_a_strangers_dataset_takes_no_file_from_elsewhere(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "data"
    make_dataset(tiny_classifier, tiny_generator, folder, classes=[1], per_class=1, steps=1)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "images" / "link.png").symlink_to(tmp_path / "secret.txt")
    (line,) = (folder / "images.jsonl").read_text().splitlines()
    (folder / "images.jsonl").write_text(json.dumps(json.loads(line) | {"file": file}) + "\n")
    with pytest.raises(OutputError, match="damaged"):
        make_dataset(tiny_classifier, tiny_generator, folder, classes=[1], per_class=2, steps=1)
    assert not any(b"secret" in path.read_bytes() for path in (folder / "shards").iterdir())
