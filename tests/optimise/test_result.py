"""Results on disk: exact, replayable, whole or refused in one line."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import gen_prior as gp
from gen_prior.errors import GenPriorError, OptionError, OutputError
from gen_prior.objectives.natural_statistics import LEVELS, NaturalStatistics
from gen_prior.objectives.targets import Target
from gen_prior.optimise.batch_run import BatchRun
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.resolve import ResolvedObjective, unique_slugs
from gen_prior.optimise.result_folder import UNFINISHED, Record
from gen_prior.optimise.synthesize import synthesize


@pytest.fixture
def result(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> gp.Result:
    return synthesize(tiny_classifier, ["ant", "conv2:3@mean"], tiny_generator, seeds=2, steps=3)


def test_round_trip_is_exact(result: gp.Result, tmp_path: Path) -> None:
    assert result.save(tmp_path / "out") == tmp_path / "out"
    loaded = load_result(tmp_path / "out")
    for name in ("images", "codes", "activations", "start_activations", "history"):
        assert torch.equal(getattr(loaded, name), getattr(result, name)), name
    assert loaded.status == result.status
    assert loaded.targets == result.targets
    assert loaded.seeds == result.seeds
    assert loaded.settings == json.loads(json.dumps(result.settings))
    assert loaded.recipe == result.recipe
    assert loaded.evaluations == 3
    with Image.open(tmp_path / "out" / "ant-seed1.png") as picture:
        assert picture.size == (16, 16)
        assert picture.getpixel((5, 3)) == tuple((result.images[0, 1, :, 3, 5] * 255).round().int().tolist())
    loaded.save(tmp_path / "copy")
    assert torch.equal(load_result(tmp_path / "copy").images, result.images)


def test_replay_is_bit_identical(
    result: gp.Result, tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    for again in (result.replay(), load_result(result.save(tmp_path)).replay(tiny_classifier, tiny_generator)):
        assert torch.equal(again.images, result.images)
        assert torch.equal(again.codes, result.codes)
        assert torch.equal(again.history, result.history)


def test_replay_with_transforms_noise_and_recorded_batches(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    recipe = gp.Recipe(steps=3, code_noise=0.1, transforms=(("affine", {"degrees": 9.0, "scale": (0.8, 1.2)}),))
    made = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, recipe=recipe, batch=[3, 2, 1])
    again = load_result(made.save(tmp_path)).replay(tiny_classifier, tiny_generator)
    assert again.settings["batches"] == [3, 2, 1]
    assert torch.equal(again.images, made.images)


def test_what_no_file_holds_does_not_replay(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    own = gp.Objective(lambda activations, image, code: image.mean((1, 2, 3)))
    with pytest.raises(OptionError, match="functions of your own"):
        synthesize(tiny_classifier, own, tiny_generator, steps=1).replay()
    with pytest.raises(OptionError, match="given codes"):
        synthesize(tiny_classifier, "ant", tiny_generator, steps=1, start=torch.zeros(8)).replay()


def test_memory_does_not_grow_with_the_images_on_disk(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = synthesize(tiny_classifier, "ant", tiny_generator, seeds=16, steps=1, batch=1, out=tmp_path / "many")
    held, most = 0, 0

    def count(change: int) -> None:
        nonlocal held, most
        held += change
        most = max(most, held)

    class Content(bytes):
        def __del__(self) -> None:
            count(-1)

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        count(1)
        weakref.finalize(tensor, count, -1)
        return tensor

    def finished(self: Record, *given: Any) -> list[bytes]:
        files = finish(self, *given)
        count(len(files))
        return [Content(data) for data in files]

    read, run, finish = gp.Result.tensor_of, BatchRun.__call__, Record.finish
    monkeypatch.setattr(gp.Result, "tensor_of", lambda self, *place: counted(read(self, *place)))
    monkeypatch.setattr(gp.Result, "write_reports", lambda self, folder: None)  # of these, a page at a time
    monkeypatch.setattr(BatchRun, "__call__", lambda self, *given: (done := run(self, *given), counted(done.images))[0])
    monkeypatch.setattr(Record, "finish", finished)
    loaded = load_result(tmp_path / "many")
    loaded.save(tmp_path / "copy")
    again = loaded.replay(tiny_classifier, tiny_generator, out=tmp_path / "again")
    assert 2 <= most <= 6
    assert all(torch.equal(one.image, other.image) for one, other in zip(again, many, strict=True))


def damaged(folder: Path, match: str) -> None:
    with pytest.raises(OutputError, match=match) as caught:
        load_result(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        "[" * 100_000,
        '{"format": "gen-prior/result-1"}',
        '{"seeds": ' + "9" * 5000 + "}",
    ],
    ids=["empty", "truncated", "list", "null", "binary", "deep", "bare", "digits"],
)
def test_a_damaged_record_is_one_line(text: str, result: gp.Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    (tmp_path / "result.json").write_text(text, encoding="latin-1")
    damaged(tmp_path, "damaged")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, "not a result of format"),
        ({"items": []}, "not targets x seeds"),
        ({"items": [1, 2, 3, 4]}, "damaged"),
        ({"seeds": [0]}, "not targets x seeds"),
        ({"seeds": ["a", "b"]}, "damaged"),
        ({"steps": 4}, "shape"),
        ({"steps": -1}, "shape"),
        ({"image_shape": [3, 10**6, 10**6]}, "shape"),
        ({"code_shape": None}, "damaged"),
        ({"settings": 3}, "damaged"),
        ({"slugs": []}, "not targets x seeds"),
        ({"seconds": "x"}, "damaged"),
    ],
)
def test_a_record_that_does_not_fit_is_one_line(
    change: dict[str, Any], match: str, result: gp.Result, tmp_path: Path
) -> None:
    result.save(tmp_path)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    damaged(tmp_path, match)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "html", "swap"])
def test_damaged_data_is_one_line(harm: str, result: gp.Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    path = tmp_path / "ant-seed1.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncate": data[:-7],
            "flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            "empty": b"",
            "html": b"<html>not found</html>",
            "swap": (tmp_path / "ant-seed0.safetensors").read_bytes(),
        }[harm]
    )
    damaged(tmp_path, "ant-seed1.safetensors is damaged or of another result")


def test_missing_files_are_one_line(result: gp.Result, tmp_path: Path) -> None:
    damaged(tmp_path / "nowhere", "result.json is missing")
    result.save(tmp_path)
    (tmp_path / "ant-seed0.safetensors").unlink()
    damaged(tmp_path, "ant-seed0.safetensors is missing")


def test_data_paths_stay_in_the_folder(result: gp.Result, tmp_path: Path) -> None:
    result.save(tmp_path / "a")
    path = tmp_path / "a" / "result.json"
    (tmp_path / "secret.safetensors").write_bytes((tmp_path / "a" / "ant-seed0.safetensors").read_bytes())
    path.write_text(path.read_text().replace("ant-seed0.safetensors", "../secret.safetensors"))
    damaged(tmp_path / "a", "an item without a file")


@pytest.mark.parametrize("call", range(1, 6))
def test_a_full_disk_leaves_the_earlier_result_intact(
    call: int,
    result: gp.Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_classifier: gp.Classifier,
    tiny_generator: gp.Generator,
) -> None:
    result.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = synthesize(tiny_classifier, ["ant", "conv2:3@mean"], tiny_generator, seeds=2, steps=4)
    count = 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*--out"):
        other.save(tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_new_result_replaces_an_old_one(
    result: gp.Result, tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    result.save(tmp_path)
    other = synthesize(tiny_classifier, ["ant"], tiny_generator, seeds=1, steps=4, out=tmp_path, overwrite=True)
    assert torch.equal(load_result(tmp_path).images, other.images)


def test_a_result_is_not_saved_over_another_run(
    result: gp.Result, tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    result.save(tmp_path)
    (tmp_path / "gallery.html").touch()  # made of the run that is there
    assert result.save(tmp_path) == tmp_path, "the same run again"
    assert load_result(tmp_path).save(tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert "gallery.html" in before

    def brighter(activations: Any, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return image.mean((1, 2, 3))

    own = [synthesize(tiny_classifier, gp.Objective(brighter), tiny_generator, steps=steps) for steps in (2, 3)]
    own[1].settings = own[0].settings
    own[0].save(tmp_path / "own")
    with pytest.raises(OptionError, match="holds a run with other activations"):
        own[1].save(tmp_path / "own")
    for other, words in ((own[0], "holds a synthesis with other targets"), (_compared(result), "holds a synthesis")):
        with pytest.raises(OptionError, match=rf"{words}.*overwrite=True"):
            other.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    own[0].save(tmp_path, overwrite=True)
    assert torch.equal(load_result(tmp_path).images, own[0].images)
    assert not (tmp_path / "ant-seed0.png").exists()
    assert (tmp_path / "gallery.html").exists(), "no file of the run"
    (tmp_path / "result.json").rename(tmp_path / "settings.json")
    with pytest.raises(OptionError, match="holds a dataset"):
        own[0].save(tmp_path, overwrite=True)


def _compared(result: gp.Result) -> gp.Comparison:
    return gp.Comparison({"methods": [], "targets": result.targets, "seeds": result.seeds}, {"tiny": result})


def test_nothing_finished_is_said(result: gp.Result, tmp_path: Path) -> None:
    result.status = [[UNFINISHED] * 2] * 2
    result.save(tmp_path)
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["result.json"]
    damaged(tmp_path, "no finished item")


def test_numbers_that_json_does_not_have(result: gp.Result, tmp_path: Path) -> None:
    result.activations[0, 0] = float("nan")
    result.save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["items"][0]["activation"] is None
    assert load_result(tmp_path).activations[0, 0].isnan()


def test_slugs_are_safe_short_and_unique() -> None:
    def resolved(label: str) -> ResolvedObjective:
        first = gp.Objective(lambda activations, image, code: code[:, 0])
        return ResolvedObjective(first, Target("logits", 0, None, label), gp.Recipe())

    labels = ["<script>", "../../etc/passwd", "ant", "ant", "é", "x" * 500, ".hidden"]
    slugs = unique_slugs([resolved(label) for label in labels])
    assert len(set(slugs)) == len(slugs)
    assert slugs[2:4] == ["ant", "ant-2"]
    for slug in slugs:
        assert slug == Path(slug).name
        assert not slug.startswith(".")
        assert len(slug) <= 100
        assert slug.replace("-", "").replace(".", "").isalnum()


def test_record_is_json_with_every_setting(result: gp.Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["settings"]["recipe"]["steps"] == 3
    assert record["settings"]["generator"]["name"] == "tiny"
    assert record["settings"]["environment"]["torch"] == torch.__version__
    assert {item["status"] for item in record["items"]} == {"ok"}


def test_errors_are_of_the_family() -> None:
    assert issubclass(OutputError, GenPriorError)


def test_results_say_what_photographs_reach(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    quantiles = torch.linspace(0, 0.5, len(LEVELS))[None, :, None].expand(3, -1, 12)
    NaturalStatistics({"conv2": quantiles}, {"conv2": quantiles[0, 0]}, {"images": "7"}).attach(tiny_classifier)
    result = synthesize(tiny_classifier, ["conv2:3", "bee"], tiny_generator, seeds=2, steps=2, out=tmp_path)
    ratios = result.photograph_ratios
    torch.testing.assert_close(ratios[0], result.activations[0] / 0.5)
    assert ratios[1].isnan().all(), "no table of the logits"
    items = json.loads((tmp_path / "result.json").read_text())["items"]
    assert items[1]["photograph_ratio"] == pytest.approx(ratios[0, 1].item(), rel=1e-5)
    assert 0 <= items[1]["photograph_quantile"] <= 1
    assert "photograph_ratio" not in items[2]
    assert torch.equal(load_result(tmp_path).photograph_ratios[0], ratios[0])
