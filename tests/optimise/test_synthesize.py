"""`synthesize`: batches that fit, finished items on disk, clear refusals."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gen_prior as gp
from gen_prior.classifiers.labels import Label, Labels
from gen_prior.errors import DeviceError, OptionError, OutputError, TargetError, UnknownNameError
from gen_prior.optimise import memory
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.memory import batch_sizes, fitting_batch
from gen_prior.optimise.resolve import planned_names
from gen_prior.optimise.result_folder import UNFINISHED
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.files import PARTIAL
from gen_prior.util.progress import Progress
from gen_prior.util.run_files import LIST


def failing(calls: Collection[int], error: Exception) -> gp.Generator:
    """A generator whose calls of these numbers, from 0, raise `error`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        weights = torch.randn(6, 3 * 8 * 8)
    numbers = itertools.count()

    def decode(code: Tensor) -> Tensor:
        if next(numbers) in calls:
            raise error
        return torch.tanh(code @ weights).view(-1, 3, 8, 8)

    return gp.Generator(decode, (6,), name="failing")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory left"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("could not create a primitive"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_batches_are_halved_when_memory_runs_out(error: Exception, tiny_classifier: gp.Classifier) -> None:
    targets = ["ant", "bee", "cup"]
    whole = synthesize(tiny_classifier, targets, failing((), error), seeds=3, steps=4, batch=9)
    halved = synthesize(tiny_classifier, targets, failing((12, 20), error), seeds=3, steps=4, batch=9)
    assert whole.settings["batches"] == [9]
    assert halved.settings["batches"] == [3, 3, 3]
    assert torch.equal(halved.images, whole.images)
    assert torch.equal(halved.history, whole.history)


def test_memory_that_holds_no_item_is_a_clear_error(tiny_classifier: gp.Classifier) -> None:
    always = failing(range(100), MemoryError())
    with pytest.raises(DeviceError, match="even one image at a time does not fit in the memory of cpu with failing"):
        synthesize(tiny_classifier, "ant", always, seeds=4, steps=2, batch=4)


def test_memory_that_does_not_even_hold_the_measurement(
    tiny_classifier: gp.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gen_prior.optimise.memory.free_memory", lambda device: 2**30)
    always = failing(range(100), RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(DeviceError, match="even one image at a time does not fit"):
        synthesize(tiny_classifier, "ant", always, seeds=4, steps=2)


@pytest.mark.parametrize("kind", ["generator", "classifier"])
def test_memory_that_runs_out_while_a_network_is_loaded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str) -> None:
        raise MemoryError

    monkeypatch.setitem(importlib.import_module(f"gen_prior.{kind}s").NAMED, "large", full)
    with pytest.raises(DeviceError, match="too little memory to load large"):
        getattr(gp, f"load_{kind}")("large", device="cpu")


def test_other_errors_are_not_taken_for_lack_of_memory(tiny_classifier: gp.Classifier) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        synthesize(tiny_classifier, "ant", failing([3], RuntimeError("a bug")), seeds=2, steps=2, batch=2)


def test_the_batch_is_chosen_from_memory(
    monkeypatch: pytest.MonkeyPatch, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    def sizes(free: int | None) -> Any:
        monkeypatch.setattr(memory, "free_memory", lambda device: free)
        return synthesize(tiny_classifier, "ant", tiny_generator, seeds=10, steps=1).settings["batches"]

    assert sizes(2**40) == [8, 2]
    assert sizes(None) == [8, 2]
    assert sizes(0) == [1] * 10
    items: list[Any] = []
    monkeypatch.setattr(memory, "bytes_per_item", lambda *arguments: 100)
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    assert fitting_batch(tiny_classifier, tiny_generator, [*items, *range(20)]) == 5


def test_batch_plan() -> None:
    plan = batch_sizes([4, 2])
    assert [next(plan) for _ in range(4)] == [4, 2, 2, 2]
    for wrong in (0, [], [3, 0]):
        with pytest.raises(OptionError, match="batch must be at least 1"):
            batch_sizes(wrong)


class _Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, _Stop])
def test_finished_items_survive_an_interruption(
    error: type[BaseException], tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    on_disk: list[int] = []

    def interrupt(progress: Progress) -> None:
        on_disk.append(len(list(tmp_path.glob("*.png"))))
        if progress.done == 4 * 3 + 2 * 2:
            raise error

    whole = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, steps=3, batch=2)
    with pytest.raises(error):
        synthesize(
            tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, steps=3, batch=2, out=tmp_path, progress=interrupt
        )
    assert on_disk == [0, 0, 0, 2, 2, 2, 4, 4]  # written before the next batch starts
    rest = load_result(tmp_path)
    assert rest.status == [["ok", "ok", "ok"], ["ok", UNFINISHED, UNFINISHED]]
    assert torch.equal(rest.images[0], whole.images[0])
    assert torch.equal(rest.codes[1, 0], whole.codes[1, 0])
    assert rest.settings["batches"] == [2, 2]
    assert not list(tmp_path.glob(f".*{PARTIAL}"))
    again = rest.replay(tiny_classifier, tiny_generator)  # only what was finished
    assert again.status == rest.status
    assert torch.equal(again.images, rest.images)
    steps: list[int] = []
    continued = synthesize(
        tiny_classifier, ["ant", "bee"], tiny_generator, seeds=3, steps=3, batch=2, out=tmp_path,
        progress=lambda progress: steps.append(progress.done),
    )  # fmt: skip
    assert len(steps) == 3, "only the last batch"
    assert torch.equal(continued.images, whole.images)
    assert continued.settings["batches"] == [2, 2, 2]


def test_out_holds_the_same_as_save(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    result = synthesize(tiny_classifier, ["ant"], tiny_generator, seeds=3, steps=2, batch=2, out=tmp_path / "a")
    result.save(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert "ant-seed2.png" in names
    for name in names:
        if name not in ("result.json", LIST):  # times, and the order of writing
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    steps: list[int] = []
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OutputError, match="--out"):
        synthesize(
            tiny_classifier, "ant", tiny_generator, steps=1, out=file / "x", progress=lambda progress: steps.append(1)
        )
    assert not steps


def test_settings_that_json_cannot_hold_are_found_before_the_work(
    tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    recipe = gp.Recipe(transforms=(("jitter", {"pixels": torch.tensor(2)}),))
    with pytest.raises(OptionError, match="plain finite values"):
        synthesize(tiny_classifier, "ant", tiny_generator, recipe=recipe, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusals(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    def refuse(error: type[Exception], match: str, targets: Any = "ant", **options: Any) -> None:
        with pytest.raises(error, match=match):
            synthesize(tiny_classifier, targets, tiny_generator, **options)

    refuse(OptionError, "no targets", [])
    refuse(UnknownNameError, "bee", "bea")
    refuse(TargetError, "12", "conv2:12")
    refuse(OptionError, "from 1 to", seeds=0)
    refuse(OptionError, "different numbers", seeds=[])
    refuse(OptionError, "different numbers", seeds=[1, 1])
    refuse(OptionError, "0 to 2147483647", seeds=[-1])
    refuse(OptionError, "a whole number", seeds=[1.5])
    refuse(OptionError, "a whole number", seeds="ab")
    refuse(UnknownNameError, "steps", step=3)
    refuse(OptionError, "steps must be", steps=0)
    refuse(OptionError, r"start must have shape \[8\], or \[1, 2, 8\]", seeds=2, start=torch.zeros(2, 8))
    refuse(OptionError, "meant for image parameterisations", recipe=gp.Recipe(domain="image"))
    with pytest.raises(OptionError, match="meant for generators"):
        synthesize(
            tiny_classifier,
            "ant",
            gp.load_generator("pixel", device="cpu", image_size=16),
            recipe=gp.Recipe(domain="code"),
        )


def test_start_codes(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    start = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(3))
    each = synthesize(tiny_classifier, ["ant", "bee"], tiny_generator, seeds=2, steps=2, start=start)
    one = synthesize(tiny_classifier, "bee", tiny_generator, seeds=[1], steps=2, start=start[1, 1])
    torch.testing.assert_close(each.codes[1, 1], one.codes[0, 0], rtol=1e-4, atol=1e-5)


def test_numpy_seeds_and_own_objectives(tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> None:
    import numpy as np

    bright = gp.Objective(lambda activations, image, code: image.mean((1, 2, 3)), description="brightness")
    result = synthesize(tiny_classifier, [bright, bright], tiny_generator, seeds=np.array([7, 8]), steps=5)
    assert result.seeds == [7, 8]
    torch.testing.assert_close(result.activations, result.images.mean((2, 3, 4)))
    assert (result.activations > result.start_activations).all()
    assert result.targets[0]["name"] == "brightness"


def test_the_planned_names_are_those_of_the_files(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path
) -> None:
    targets = ["bee", "conv2:3", "bee"]
    result = synthesize(tiny_classifier, targets, tiny_generator, seeds=[4, 2], steps=1, out=tmp_path)
    names = planned_names(tiny_classifier, targets, [4, 2])
    assert names == result.names() == [*dict.fromkeys(names)]
    assert all((tmp_path / f"{name}.png").is_file() for name in names)


def test_a_start_of_another_shape_is_refused_before_it_is_read(
    tiny_classifier: gp.Classifier, tiny_generator: gp.Generator
) -> None:
    for start in (torch.zeros(3), torch.zeros(2, 8), torch.zeros(())):
        with pytest.raises(OptionError, match="start must have shape"):
            synthesize(tiny_classifier, "bee", tiny_generator, seeds=2, steps=1, start=start)


@pytest.fixture
def with_ids(make_tiny_network: Callable[..., nn.Module]) -> gp.Classifier:
    """The tiny classifier; all but its last class have a WordNet id."""
    labels = [Label(index, f"class {index}", f"n0000000{index}" if index < 4 else None) for index in range(5)]
    return gp.Classifier(make_tiny_network(), input_size=32, labels=Labels(labels), name="with-ids")


def aiming(asked: list[str]) -> gp.Generator:
    """A generator that records which class it is asked for, and begins brighter for each but `n00000002`."""

    def class_init(wanted: str, noise: Tensor, seed: int) -> Tensor | None:
        asked.append(wanted)
        return None if wanted == "n00000002" else noise + float(wanted[-1])

    decode = failing((), MemoryError()).module
    return gp.Generator(decode, (6,), name="aiming", class_init=class_init)


def test_only_classes_say_what_is_wanted_at_the_start(with_ids: gp.Classifier) -> None:
    asked: list[str] = []
    generator = aiming(asked)
    bright = gp.Objective(lambda activations, image, code: image.mean((1, 2, 3)), description="bright")
    targets: list[str | int | gp.Objective] = ["class 1", 2, "logits:4", "conv2:3", bright]
    result = synthesize(with_ids, targets, generator, seeds=[7], steps=1, rate=1e-9, transforms=(), edits=())
    assert list(dict.fromkeys(asked)) == ["n00000001", "n00000002", "class 4"]
    noise = generator.initial_code(7)
    for place, shift in enumerate([1, 0, 4, 0, 0]):
        torch.testing.assert_close(result.codes[place, 0], noise + shift, atol=1e-4, rtol=0)
    asked.clear()
    synthesize(with_ids, "class 1", generator, start=noise, steps=1)
    assert asked == []


def test_a_class_begins_the_same_whatever_is_beside_it(with_ids: gp.Classifier) -> None:
    generator = aiming([])
    beside = synthesize(with_ids, ["class 3", "class 1", "conv2:3", "class 4"], generator, seeds=[1, 5], steps=4)
    alone = synthesize(with_ids, "class 1", generator, seeds=[5], steps=4)
    torch.testing.assert_close(beside.codes[1, 1], alone.codes[0, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(beside.images[1, 1], alone.images[0, 0], rtol=1e-3, atol=1e-4)


def test_classes_without_names_want_nothing(make_tiny_network: Callable[..., nn.Module]) -> None:
    asked: list[str] = []
    synthesize(gp.Classifier(make_tiny_network(), input_size=32, name="x"), "logits:1", aiming(asked), steps=1)
    assert asked == []


def test_a_mix_begins_at_the_mean_of_the_classes_that_it_wants(with_ids: gp.Classifier) -> None:
    asked: list[str] = []
    generator = aiming(asked)
    synthesize(with_ids, "class 1+2*class 3-class 0+conv2:1", generator, seeds=[7], steps=1)
    assert asked == ["n00000001", "n00000003"]


def test_the_least_exciting_input_and_its_unsigned_activation(with_ids: gp.Classifier, tmp_path: Path) -> None:
    generator = aiming([])
    result = synthesize(with_ids, ["-class 4", "-conv2:3@mean"], generator, steps=20, rate=0.1, out=tmp_path)
    assert (result.activations < result.start_activations).all()
    assert result.status == [["ok"], ["ok"]]
    assert result.slugs == ["minus-class-4", "minus-conv2-3-mean"]
    seen = with_ids.activations(result.inputs(0), ["logits"])["logits"][:, 4]
    torch.testing.assert_close(result.activations[0], seen)
    assert [target["name"] for target in result.targets] == ["-class 4", "-conv2:3@mean"]
    again = gp.load_result(tmp_path).replay(with_ids, generator)
    assert torch.equal(again.images, result.images)


def test_ranges_are_targets_of_their_own(with_ids: gp.Classifier) -> None:
    result = synthesize(with_ids, ["conv2:1-2@mean", "class 4"], aiming([]), steps=1)
    assert result.slugs == ["conv2-1-mean", "conv2-2-mean", "class-4"]


def test_names_of_objectives_are_their_descriptions(with_ids: gp.Classifier) -> None:
    made = [gp.objectives.channel("conv2", 3), gp.objectives.channel("conv2", 4)]
    result = synthesize(with_ids, made, aiming([]), steps=1)
    assert result.slugs == ["channel-conv2-3", "channel-conv2-4"]
    assert [target["name"] for target in result.targets] == ["channel conv2:3", "channel conv2:4"]


def test_each_unit_of_a_mix_is_reported(with_ids: gp.Classifier, tmp_path: Path) -> None:
    result = synthesize(
        with_ids, ["class 1-0.5*conv2:3@mean", "class 4"], aiming([]), seeds=2, steps=5, batch=3, out=tmp_path
    )
    seen = with_ids.activations(result.inputs(0), ["logits", "conv2"])
    logits, unit = seen["logits"][:, 1], seen["conv2"][:, 3].mean((1, 2))
    torch.testing.assert_close(torch.tensor(result.terms[0]), torch.stack([logits, unit], 1))
    torch.testing.assert_close(result.activations[0], logits - 0.5 * unit)
    assert result.terms[1] == [[], []]
    assert [term["weight"] for term in result.targets[0]["terms"]] == [1.0, -0.5]
    loaded = load_result(tmp_path)
    assert loaded.terms == result.terms
    assert loaded.targets == result.targets
    assert torch.equal(loaded.replay(with_ids, aiming([])).images, result.images)
