"""`make_atlas` on a tiny network in this process: the folder, the rows, and going on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.applications.exemplars import find_exemplars
from gen_prior.applications.faithfulness import faithfulness
from gen_prior.atlas.atlas import make_atlas
from gen_prior.atlas.reader import Atlas, load_atlas
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, OutputError, TargetError, UnknownNameError
from gen_prior.generators import Generator
from gen_prior.hub.tensors import read_tensors
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.image_io import write_png


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve pictures of noise, one of them of a known class."""
    folder = tmp_path / "photographs"
    source = torch.Generator().manual_seed(0)
    for number in range(12):
        name = "n01443537_a.png" if number == 3 else f"{number:02d}.png"
        write_png(folder / name, torch.rand(3, 40, 40, generator=source))
    return folder


def small(classifier: Classifier, generator: Generator, out: Path, **more: Any) -> Atlas:
    settings: dict[str, Any] = {"units": {"*": "0-3", "logits": "0-4:2"}, "evaluations": 3, "shard_size": 3}
    return make_atlas(classifier, ["conv2", "logits"], out=out, generators=generator, **(settings | more))


def content(folder: Path) -> dict[str, bytes]:
    """All files of the shards."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in (folder / "shards").rglob("*") if path.is_file()
    }


def test_an_atlas_has_rows_pictures_and_codes(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    atlas = small(
        tiny_classifier, tiny_generator, tmp_path / "atlas", images=photographs, seeds=2,
        progress=lambda progress: seen.append((progress.done, progress.total)),
    )  # fmt: skip
    rows = list(atlas.neurons())
    assert [row["target"] for row in rows] == [f"conv2:{unit}" for unit in range(4)] + [
        f"logits:{n}" for n in (0, 2, 4)
    ]
    assert [row["tile"] for row in rows] == [0, 1, 2, 0, 0, 1, 2]
    assert seen[-1] == (7, 7)
    row = atlas["conv2:3"]
    (method,) = row["methods"]
    assert (method["generator"], method["evaluations"], method["seeds"]) == ("tiny", 3, [0, 1])
    expected = synthesize(tiny_classifier, "conv2:3", tiny_generator, seeds=2, recipe=tiny_generator.recipe.within(3))
    assert method["activations"] == expected.activations[0].tolist()
    assert row["photographs"]["images"] == 12
    assert [each["activation"] for each in row["exemplars"]] == sorted(
        (each["activation"] for each in row["exemplars"]), reverse=True
    )
    assert {each["label"] for row in rows for each in row["exemplars"]} == {None, "goldfish"}
    assert "patch" not in row["exemplars"][0]
    assert atlas.image("conv2:3", seed=1).size == atlas.image("conv2:3").size == (16, 16)
    assert len(atlas.table()) == 14
    shard = tmp_path / "atlas" / "shards" / "00001"
    tensors = read_tensors(shard / "codes.safetensors")
    assert torch.equal(tensors["3/tiny/1"], expected.codes[0, 1])
    assert tensors["signature"].shape == (1, 64)
    record = json.loads((tmp_path / "atlas" / "records" / "00001.json").read_text())
    assert set(record["files"]) == {str(path.relative_to(shard)) for path in shard.rglob("*") if path.is_file()}


def test_exemplars_are_those_of_a_pass_over_all_photographs(
    tiny_classifier: Classifier, tiny_generator: Generator, photographs: Path, tmp_path: Path
) -> None:
    small(tiny_classifier, tiny_generator, tmp_path / "atlas", images=photographs)
    found = json.loads((tmp_path / "atlas" / "photographs" / "exemplars" / "00000.json").read_text())
    for name, target in (("most", "conv2:1"), ("least", "-conv2:1")):
        expected = [each.to_dict() for each in find_exemplars(tiny_classifier, [target], photographs, count=12)[0]]
        entries = found["conv2:1"][name]
        assert [each["file"] for each in entries] == [each["file"] for each in expected]
        assert [tuple(each["position"]) for each in entries] == [tuple(each["position"]) for each in expected]
        assert [each["activation"] for each in entries] == pytest.approx([each["activation"] for each in expected])
        assert all((tmp_path / "atlas" / each["patch"]).is_file() for each in entries[:8])


def test_faithfulness_is_that_of_the_panel_and_the_pass_serves_for_it(
    tiny_classifier: Classifier, make_tiny_network: Callable[..., nn.Module], tiny_generator: Generator, tmp_path: Path
) -> None:
    judge = Classifier(make_tiny_network(1), input_size=32, labels=tiny_classifier.labels, name="judge")
    source, folder = torch.Generator().manual_seed(1), tmp_path / "many"
    for number in range(40):
        write_png(folder / f"{number:02d}.png", torch.rand(3, 32, 32, generator=source))
    atlas = small(
        tiny_classifier, tiny_generator, tmp_path / "atlas", images=folder, faithfulness=True, judge=judge, seeds=2,
        units={"*": "3-4"},
    )  # fmt: skip
    for target in ("conv2:3", "logits:4"):
        result = synthesize(tiny_classifier, target, tiny_generator, seeds=2, recipe=tiny_generator.recipe.within(3))
        (expected,) = faithfulness(result, tiny_classifier, tiny_generator, folder, judge=judge)
        assert expected is not None
        (method,) = atlas[target]["methods"]
        assert method["path"] == expected["path"]["normalised"]
        assert method["two_alternatives"] == expected["two_alternatives"]
        assert method["least"]["activation"] < min(method["activations"])
        assert (tmp_path / "atlas" / "shards" / "00000" / "images" / "3-tiny-least.webp").is_file()
    assert atlas["conv2:3"]["methods"][0]["judge"] is None
    assert set(atlas["logits:4"]["methods"][0]["judge"]) == {"top1", "label"}
    assert "_natural_statistics" not in tiny_classifier.__dict__, "the user's own network is as it was"


def test_the_same_call_goes_on_and_another_is_refused(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "atlas"
    small(tiny_classifier, tiny_generator, whole)

    def stop(progress: Any) -> None:
        if progress.done >= 3:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        small(tiny_classifier, tiny_generator, folder, progress=stop)
    before = load_atlas(folder).status()
    assert before["finished"] >= 3
    small(tiny_classifier, tiny_generator, folder)
    assert content(folder) == content(whole)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    small(tiny_classifier, tiny_generator, folder)
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(OptionError, match=r"generators.0.recipe.steps.*evaluations"):
        small(tiny_classifier, tiny_generator, folder, evaluations=4)


def test_damaged_shards_are_found_and_made_again(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    atlas = small(tiny_classifier, tiny_generator, tmp_path)
    before = content(tmp_path)
    sheet, rows = tmp_path / "shards" / "00000" / "sheet.webp", tmp_path / "shards" / "00001" / "shard.json"
    sheet.write_bytes(before["shards/00000/sheet.webp"][:-1])
    assert atlas.status()["shards_finished"] == 2
    rows.write_bytes(before["shards/00001/shard.json"].replace(b"conv2", b"conv3"))
    assert atlas.status()["shards_finished"] == 2, "a change of the same size is found by its hash"
    with pytest.raises(OutputError, match="SHA-256"):
        list(atlas.neurons())
    assert atlas.verify() == ["shards/00000", "shards/00001"]
    small(tiny_classifier, tiny_generator, tmp_path)
    assert content(tmp_path) == before


def test_unknown_names_say_what_there_is(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="conv2"):
        make_atlas(tiny_classifier, ["conv3"], out=tmp_path / "a", generators=tiny_generator)
    with pytest.raises(OptionError, match="units 0 to 11"):
        small(tiny_classifier, tiny_generator, tmp_path / "a", units="50-60")
    with pytest.raises(OptionError, match="0-31"):
        small(tiny_classifier, tiny_generator, tmp_path / "a", units="5-1")
    with pytest.raises(OptionError, match="--images"):
        small(tiny_classifier, tiny_generator, tmp_path / "a", faithfulness=True)
    with pytest.raises(OptionError, match="by name"):
        small(tiny_classifier, tiny_generator, tmp_path / "b", workers=2)
    atlas = small(tiny_classifier, tiny_generator, tmp_path / "c")
    with pytest.raises(UnknownNameError, match="conv2"):
        atlas["conv4:1"]
    with pytest.raises(TargetError, match="0-3"):
        atlas["conv2:9"]
    with pytest.raises(UnknownNameError, match="tiny"):
        atlas.image("conv2:1", method="pixel")
    with pytest.raises(OutputError, match="no atlas"):
        load_atlas(tmp_path / "nothing")
