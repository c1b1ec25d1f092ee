"""`compare`: equal terms for every method, numbers that follow from the images, finished work on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gen_prior.applications.compare import Comparison, compare, load_comparison
from gen_prior.applications.methods import preset_remarks
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, OutputError, UnknownNameError
from gen_prior.generators import Generator, load_generator
from gen_prior.objectives import Objective
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.presets import preset
from gen_prior.optimise.result_folder import UNFINISHED
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.distances import diversity
from gen_prior.report.metrics import logits_and_features
from gen_prior.report.spectrum import natural_spectrum, spectrum
from gen_prior.util.progress import Progress

LABELS = ("ant", "bee", "crane bird", "golden retriever", "cup")


@pytest.fixture
def judge(make_tiny_network: Callable[..., nn.Module]) -> Classifier:
    return Classifier(make_tiny_network(1), input_size=24, labels=LABELS, name="tiny-judge")


@pytest.fixture
def pixels() -> Generator:
    return load_generator("pixel-raw", image_size=16, device="cpu")


@pytest.fixture
def compared(
    tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier, pixels: Generator
) -> Comparison:
    return compare(
        tiny_classifier, ["bee", "conv2:3"], [tiny_generator, pixels], judge=judge, seeds=[4, 2], evaluations=5
    )


def test_every_method_has_the_same_terms(compared: Comparison) -> None:
    assert list(compared.results) == ["tiny", "pixel-raw"]
    for method, result in zip(compared.record["methods"], compared.results.values(), strict=True):
        assert result.seeds == [4, 2]
        assert result.history.shape == (2, 2, 5)
        assert method["settings"]["recipe"]["steps"] == 5
        assert method["evaluations"] == 2 * 2 * 5
        assert method["seconds"] > 0


def test_images_are_those_of_synthesize(
    compared: Comparison, tiny_classifier: Classifier, tiny_generator: Generator
) -> None:
    alone = synthesize(tiny_classifier, ["bee", "conv2:3"], tiny_generator, seeds=[4, 2], steps=5)
    assert torch.equal(alone.images, compared.results["tiny"].images)


def test_numbers_follow_from_the_images(compared: Comparison, tiny_classifier: Classifier, judge: Classifier) -> None:
    for method in compared.record["methods"]:
        images = compared.results[method["name"]].images[0]
        with torch.no_grad():
            ours, theirs = tiny_classifier(images).softmax(1), judge(images).softmax(1)
        for s, item in enumerate(method["items"][:2]):
            assert item["seed"] == [4, 2][s]
            assert item["probability"] == pytest.approx(ours[s, 1].item(), rel=1e-3)
            assert item["rank"] == 1 + (ours[s] > ours[s, 1]).sum().item()
            assert item["judge_probability"] == pytest.approx(theirs[s, 1].item(), rel=1e-3)
            assert item["judge_class"] == LABELS[theirs[s].argmax()]
            assert item["judge_top1"] is (theirs[s].argmax().item() == 1)
            assert item["judge_top5"] is True  # there are five classes in all
            assert item["slope"] == pytest.approx(spectrum(tiny_classifier.resize(images)).slope[s].item(), rel=1e-4)
        features = logits_and_features(judge, images)[1]
        assert method["diversity"][0] == pytest.approx(diversity(features))
        assert method["summary"]["diversity"]["count"] == 2
        activations = [item["activation"] for item in method["items"]]
        middle = torch.tensor(activations, dtype=torch.float64).quantile(0.5).item()
        summary = method["summary"]["activation"]
        assert summary["value"] == pytest.approx(middle)
        assert summary["low"] <= middle <= summary["high"]
        assert method["summary"]["judge_top1"]["statistic"] == "mean"


def test_a_hidden_unit_has_no_verdict_and_says_why(compared: Comparison) -> None:
    bee, unit = compared.record["targets"]
    assert (bee["judged"], bee["why_not_judged"]) == (True, None)
    assert unit["judged"] is False
    assert "not a class" in unit["why_not_judged"]
    for item in compared.record["methods"][0]["items"][2:]:
        assert item["judge_top1"] is item["judge_top5"] is item["judge_probability"] is item["probability"] is None
        assert item["judge_class"] in LABELS
        assert item["activation"] is not None


def test_all_methods_draw_a_hidden_unit_at_one_scale(
    tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier
) -> None:
    methods: list[str | Generator] = [tiny_generator, "pixel"]
    compared = compare(tiny_classifier, "conv2:3", methods, judge=judge, seeds=1, evaluations=1, scale=16)
    sides = [result.targets[0]["field"][2] for result in compared.results.values()]
    assert sides == [16, 16]


def test_natural_reference_is_in_the_record(compared: Comparison) -> None:
    reference = natural_spectrum(32)
    assert compared.record["natural"]["slope"] == pytest.approx(reference.slope.item())
    assert compared.record["natural"]["high_frequency"] == pytest.approx(reference.high_frequency.item())


def test_saved_and_read_back(compared: Comparison, tmp_path: Path) -> None:
    compared.save(tmp_path)
    assert (tmp_path / "contact-sheet.png").is_file()
    assert load_comparison(tmp_path).record == json.loads(json.dumps(compared.record))
    for method in compared.record["methods"]:
        saved = load_result(tmp_path / method["folder"])
        assert torch.equal(saved.codes, compared.results[method["name"]].codes)
        for item in method["items"]:
            assert (tmp_path / item["image"]).is_file()
            assert (tmp_path / item["data"]).is_file()
    with pytest.raises(OptionError, match="loaded"):
        load_comparison(tmp_path).save(tmp_path / "elsewhere")


def test_a_finished_method_is_on_disk_before_the_next_begins(
    tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier, pixels: Generator, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.label == "pixel-raw":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(
            *(tiny_classifier, "bee", [tiny_generator, pixels]),
            judge=judge,
            seeds=2,
            evaluations=2,
            out=tmp_path,
            progress=stop,
        )
    finished = load_result(tmp_path / "tiny")
    assert finished.seeds == [0, 1]
    assert UNFINISHED not in finished.status[0]
    kept = load_comparison(tmp_path).record
    assert kept["finished"] is False
    assert [method["name"] for method in kept["methods"]] == ["tiny"]


def test_progress_counts_every_evaluation(
    tiny_classifier: Classifier, tiny_generator: Generator, pixels: Generator
) -> None:
    seen: list[tuple[int, int]] = []
    compare(
        *(tiny_classifier, ["bee", "cup"], [tiny_generator, pixels]),
        judge=None,
        seeds=2,
        evaluations=3,
        batch=3,
        progress=lambda progress: seen.append((progress.done, progress.total)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (24, 24)


def test_methods_of_one_name_are_told_apart(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    other = copy(tiny_generator)
    other.recipe = tiny_generator.recipe.with_options(rate=0.5)
    compared = compare(tiny_classifier, "bee", [tiny_generator, other], judge=None, seeds=1, evaluations=2)
    assert list(compared.results) == ["tiny", "tiny-2"]
    assert compared.record["methods"][1]["settings"]["recipe"]["rate"] == 0.5


@pytest.mark.parametrize("method", ["preset:simonyan2014", "simonyan2014", "pixel-raw+simonyan2014"])
def test_presets_are_methods(tiny_classifier: Classifier, method: str) -> None:
    compared = compare(tiny_classifier, "bee", [method], judge=None, seeds=1, evaluations=2)
    (row,) = compared.record["methods"]
    assert row["settings"]["generator"]["name"] == "pixel-raw"
    assert (
        row["settings"]["recipe"] == json.loads(json.dumps(preset("simonyan2014").with_options(steps=2).to_dict()))
        or row["settings"]["recipe"] == preset("simonyan2014").with_options(steps=2).to_dict()
    )


@pytest.mark.parametrize(
    ("method", "generator", "options"),
    [
        ("preset:biggan-am", "biggan-deep-128", {"optimise": "both"}),
        ("biggan-am", "biggan-deep-128", {"optimise": "both"}),
        ("biggan-deep-128+biggan-am", "biggan-deep-128", {"optimise": "both"}),
        ("tiny+biggan-am", "tiny", {}),
        ("preset:dgnam2016", "deepsim-fc6", {}),
        ("preset:lucid2017", "fourier", {}),
    ],
)
def test_a_preset_brings_its_generator_and_options(
    tiny_classifier: Classifier,
    tiny_generator: Generator,
    pixels: Generator,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    generator: str,
    options: dict[str, Any],
) -> None:
    """Weights of the Hub are not at hand: what is loaded is stood in for, what is asked for is not."""
    asked = []

    def load(name: str, *, device: Any, **given: Any) -> Generator:
        asked.append((name, given))
        return pixels if name == "fourier" else tiny_generator

    monkeypatch.setattr("gen_prior.applications.methods.load_generator", load)
    compared = compare(tiny_classifier, "bee", [method], judge=None, seeds=1, evaluations=1)
    assert asked == [(generator, options)]
    recipe = compared.results[method.removeprefix("preset:")].recipe
    assert recipe == preset(method.removeprefix("preset:").rpartition("+")[2]).with_options(steps=1)


def test_an_objective_of_ones_own(tiny_classifier: Classifier, tiny_generator: Generator, judge: Classifier) -> None:
    brightness = Objective(lambda activations, image, code: image.mean((1, 2, 3)), description="bright")
    compared = compare(tiny_classifier, [brightness], [tiny_generator], judge=judge, seeds=2, evaluations=2)
    item = compared.record["methods"][0]["items"][0]
    assert item["activation"] is not None
    assert item["kept_blur"] is None
    assert compared.record["targets"][0]["judged"] is False


def test_a_judge_that_lacks_the_class(
    tiny_classifier: Classifier, tiny_generator: Generator, make_tiny_network: Callable[..., nn.Module]
) -> None:
    other = Classifier(make_tiny_network(1), input_size=32, labels=("a", "b", "c", "d", "e"), name="other")
    record = compare(tiny_classifier, "bee", [tiny_generator], judge=other, seeds=2, evaluations=2).record
    assert "no class named 'bee'" in record["targets"][0]["why_not_judged"]
    assert record["methods"][0]["diversity"][0] > 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"methods": []}, OptionError, "no methods"),
        ({"methods": ["tinny"]}, UnknownNameError, "method"),
        ({"methods": ["preset:x"]}, UnknownNameError, "preset"),
        ({"methods": ["pixel+x"]}, UnknownNameError, "method"),
        ({"methods": ["pixel+dgnam2016"]}, OptionError, "meant for"),
        ({"judge": "tiny"}, OptionError, "another classifier"),
        ({"judge": "efficientnet-lite7"}, UnknownNameError, "efficientnet-lite"),
        ({"targets": []}, OptionError, "no targets"),
        ({"targets": ["be"]}, UnknownNameError, "bee"),
        ({"seeds": 0}, OptionError, "seeds"),
        ({"evaluations": 0}, OptionError, "evaluations"),
    ],
)
def test_refused(tiny_classifier: Classifier, tmp_path: Path, options: dict[str, Any], error: Any, words: str) -> None:
    settings = {"targets": ["bee"], "methods": ["pixel-raw"], "judge": None, "out": tmp_path / "out"} | options
    targets, methods = settings.pop("targets"), settings.pop("methods")
    with pytest.raises(error, match=words):
        compare(tiny_classifier, targets, methods, **settings)
    assert not (tmp_path / "out").exists()


def test_a_preset_on_another_generator_is_remarked_on_once() -> None:
    methods = ["dgn-lite0", "dgn-lite0+dgnam2016", "dgn-lite0+dgnam2016", "pixel+mahendran2015", "preset:lucid2017"]
    assert preset_remarks(methods) == ["dgnam2016 was published for deepsim-fc6; here it is followed with dgn-lite0"]


def test_the_classifier_itself_is_no_judge(tiny_classifier: Classifier, tiny_generator: Generator) -> None:
    with pytest.raises(OptionError, match="another classifier"):
        compare(tiny_classifier, "bee", [tiny_generator], judge=tiny_classifier)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Context in which a root process, which ignores permissions, is an ordinary user."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_folder_is_found_out_before_the_work(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    folder.chmod(0o555)
    steps: list[int] = []
    with as_nobody(), pytest.raises(OutputError, match="cannot write"):
        compare(
            *(tiny_classifier, "bee", [tiny_generator]),
            judge=None,
            out=folder,
            progress=lambda progress: steps.append(progress.done),
        )
    folder.chmod(0o755)
    assert steps == []
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff\xfe"])
def test_no_comparison_to_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "comparison.json").write_bytes(content)
    with pytest.raises(OutputError):
        load_comparison(tmp_path)


def test_real_classifier_and_judge(lite0: Classifier, tmp_path: Path) -> None:
    pixels = load_generator("pixel-raw", image_size=64, device="cpu")
    compared = compare(lite0, "goldfish", [pixels], seeds=2, evaluations=2, out=tmp_path)
    assert compared.record["judge"]["name"] == "efficientnet-lite2"
    (row,) = compared.record["methods"]
    assert 0 < row["diversity"][0] < 1
    assert all(0 <= item["judge_probability"] <= 1 for item in row["items"])


def test_a_judge_that_gives_nan_has_no_verdict(
    tiny_classifier: Classifier,
    pixels: Generator,
    make_tiny_network: Callable[..., nn.Module],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = make_tiny_network(1)
    network.get_parameter("conv1.weight").data[0] = torch.nan
    broken = Classifier(network, input_size=24, labels=LABELS, name="broken")
    found = compare(tiny_classifier, ["bee"], [pixels], judge=broken, seeds=2, evaluations=2, out=tmp_path)
    summary = found.summary()["pixel-raw"]
    assert summary["judge_top1"] is summary["judge_probability"] is summary["diversity"] is None
    assert all(item["judge_rank"] is item["judge_class"] is None for item in found.record["methods"][0]["items"])
    assert "broken gives logits that are not finite for 2 of 2 images" in caplog.text
    assert load_comparison(tmp_path).record == json.loads(json.dumps(found.record))
