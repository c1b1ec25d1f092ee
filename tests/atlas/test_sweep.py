"""The sweep: worker processes that die, shards and neurons that fail, signals, shares."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gen_prior.atlas import driver
from gen_prior.atlas.atlas import go_on, make_atlas
from gen_prior.atlas.neurons import Maker
from gen_prior.atlas.reader import Atlas, load_atlas
from gen_prior.atlas.records import ATTEMPTS
from gen_prior.atlas.shards import NeuronRecord
from gen_prior.atlas.workers import LocalWorkers, WorkerDiedError
from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError, OptionError, OutputError, TargetError
from gen_prior.generators import Generator
from gen_prior.util.progress import Progress

SETTINGS: dict[str, Any] = {"layers": "conv2", "evaluations": 2, "shard_size": 4}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "AGAIN", 0.01)
    monkeypatch.setattr(driver, "POLL", 0.02)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in (folder / "shards").rglob("*") if path.is_file()
    }


def failing(monkeypatch: pytest.MonkeyPatch, target: str, error: Exception) -> list[str]:
    """Let the making of `target` raise; returns the list of all that is asked for."""
    real, asked = Maker._made, list[str]()

    def made(self: Maker, texts: list[str], exemplars: dict[str, Any]) -> list[NeuronRecord]:
        asked.extend(texts)
        if target in texts:
            raise error
        return real(self, texts, exemplars)

    monkeypatch.setattr(Maker, "_made", made)
    return asked


def test_a_shard_that_fails_is_set_aside_and_the_sweep_goes_on(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        asked = failing(patch, "conv2:5", RuntimeError("a bug"))
        atlas = make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **SETTINGS)
        assert asked.count("conv2:5") == ATTEMPTS
        assert asked.count("conv2:0") == 1
        make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **SETTINGS)
        assert asked.count("conv2:5") == ATTEMPTS, "it is not tried again unasked"
    status = atlas.status()
    (failed,) = status["failed"]
    assert (failed["shard"], failed["set_aside"], failed["attempts"]) == (1, True, ATTEMPTS)
    assert failed["reasons"][-1] == "RuntimeError: a bug"
    assert (status["shards_finished"], status["neurons"]) == (2, 12)
    assert atlas.retry_failed() == 1
    make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **SETTINGS)
    assert atlas.status()["finished"] == 12
    assert atlas.status()["failed"] == []


def test_a_neuron_that_cannot_be_made_has_the_reason_in_its_row(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "conv2:5", TargetError("it has no gradient"))
    atlas = make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **SETTINGS)
    assert atlas["conv2:5"]["error"] == "it has no gradient"
    assert "methods" not in atlas["conv2:5"]
    assert len([row for row in atlas.neurons() if "methods" in row]) == 11
    with pytest.raises(OutputError, match="no gradient"):
        atlas.image("conv2:5")


def test_a_full_disk_ends_the_sweep(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "conv2:5", OutputError("cannot write: the disk is full"))
    with pytest.raises(OutputError, match="full"):
        make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **SETTINGS)
    assert load_atlas(tmp_path).status()["failed"] == []


def test_when_every_shard_fails_the_sweep_ends(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Maker, "_made", lambda *_: 1 / 0)
    with pytest.raises(GenPriorError, match=r"20 shards failed in a row.*ZeroDivisionError"):
        make_atlas(tiny_classifier, out=tmp_path, generators=tiny_generator, **(SETTINGS | {"shard_size": 1}))


def test_sigterm_finishes_the_neuron_and_stops(
    tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path
) -> None:
    whole = make_atlas(tiny_classifier, out=tmp_path / "whole", generators=tiny_generator, **SETTINGS)
    before = signal.getsignal(signal.SIGTERM)

    stop = Once(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=r"\d+ of 12 neurons are finished"):
        make_atlas(tiny_classifier, out=tmp_path / "atlas", generators=tiny_generator, progress=stop, **SETTINGS)
    assert signal.getsignal(signal.SIGTERM) is before
    assert 0 < load_atlas(tmp_path / "atlas").status()["finished"] < 12
    make_atlas(tiny_classifier, out=tmp_path / "atlas", generators=tiny_generator, **SETTINGS)
    assert files(tmp_path / "atlas") == files(whole.folder)


class Once:
    """Progress that sends a signal to this process after the first neuron."""

    def __init__(self, number: int) -> None:
        self.number, self.sent = number, False

    def __call__(self, progress: Progress) -> None:
        if progress.done and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def own(out: Path, **more: Any) -> Atlas:
    """An atlas of 32 neurons whose networks other processes can load."""
    settings: dict[str, Any] = {"layers": ["0", "2"], "generators": "pixel-raw", "evaluations": 12, "shard_size": 8}
    return make_atlas("atlas_stand_in:build", out=out, device="cpu", **(settings | more))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[LocalWorkers]:
    """All that a test starts."""
    found: list[LocalWorkers] = []
    real = LocalWorkers.__init__

    def remember(self: LocalWorkers, *arguments: Any) -> None:
        found.append(self)
        real(self, *arguments)

    monkeypatch.setattr(LocalWorkers, "__init__", remember)
    return found


def test_workers_stop_at_sigterm_and_are_replaced_when_killed(tmp_path: Path, engines: list[LocalWorkers]) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"\d+ of 32 neurons are finished"):
        own(tmp_path / "two", workers=2, progress=Once(signal.SIGTERM))
    assert 0 < load_atlas(tmp_path / "two").status()["finished"] < 32
    assert [worker.wait() for worker in engines[0]._workers.values()] == [0, 0], "each ended by itself"
    assert not list((tmp_path / "two" / "shards").glob(".*.new")), "nothing is half published"

    killed: list[int] = []
    before = str(load_atlas(tmp_path / "two").status()["finished"])

    def kill(progress: Progress) -> None:
        if not killed and progress.label.partition(" ")[0] != before:
            killed.append(engines[1].process_ids[0])
            os.kill(killed[0], signal.SIGKILL)

    atlas = own(tmp_path / "two", workers=2, progress=kill)
    assert killed
    assert atlas.status()["finished"] == 32
    assert not engines[1].process_ids, "no worker is left"
    own(tmp_path / "one", workers=1)
    assert files(tmp_path / "two") == files(tmp_path / "one")


class Fragile(ThreadPoolExecutor):
    """Its first workers die while they start."""

    left = ATTEMPTS + 1

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        if not self.left:
            return super().submit(function, *arguments, **options)
        self.left -= 1
        future: Future[Any] = Future()
        future.set_exception(WorkerDiedError("worker process 1 ended by signal 9 while it started", began=False))
        return future


def test_a_worker_that_dies_while_it_starts_is_not_the_fault_of_its_shard(tmp_path: Path) -> None:
    with Fragile(1) as engine:
        atlas = own(tmp_path, executor=engine, units="0-1", evaluations=2)
    assert engine.left == 0
    assert atlas.status()["failed"] == []
    assert atlas.status()["finished"] == 4


def test_shares_add_up_to_the_whole_and_any_executor_will_do(tmp_path: Path) -> None:
    own(tmp_path / "whole", workers=1)
    with pytest.raises(KeyboardInterrupt):
        own(tmp_path / "shared", workers=1, progress=Once(signal.SIGINT))
    with ThreadPoolExecutor(1) as pool:
        ends: list[Atlas] = []
        threads = [
            threading.Thread(target=lambda k=k: ends.append(go_on(tmp_path / "shared", share=(k, 3), executor=pool)))
            for k in (1, 2, 3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ends) == 3
    assert files(tmp_path / "shared") == files(tmp_path / "whole")
    with pytest.raises(OptionError, match="4/3"):
        go_on(tmp_path / "shared", share=(4, 3))
