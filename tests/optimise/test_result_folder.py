"""A folder of a result: continued by the same run, refused to another, by one writer at a time, read when asked for."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gen_prior as gp
from gen_prior.errors import OptionError, OutputError
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.util.folders import only_writer

Run = Callable[..., gp.Result]


@pytest.fixture
def run(tmp_path: Path, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator) -> Run:
    """A run of two targets and two seeds in batches of two into one folder; options replace these."""

    def call(**options: Any) -> gp.Result:
        given: dict[str, Any] = {"targets": ["ant", "bee"], "seeds": 2, "steps": 2, "batch": 2, "out": tmp_path}
        return synthesize(tiny_classifier, generator=tiny_generator, **(given | options))

    return call


def stop_after(items: int) -> Callable[[gp.Progress], None]:
    def progress(report: gp.Progress) -> None:
        if report.done > items * 2:
            raise KeyboardInterrupt

    return progress


def test_a_finished_run_is_not_made_again(run: Run, tmp_path: Path) -> None:
    first = run()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = run(progress=lambda report: pytest.fail("nothing is left to do"))
    assert torch.equal(again.images, first.images)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"targets": ["ant", "cup"]}, "other targets"),
        ({"seeds": 3}, "other seeds"),
        ({"steps": 3}, "other steps"),
        ({"transforms": [lambda images: images]}, "other transforms"),
        ({"start": torch.zeros(8)}, "another "),
    ],
)
def test_another_run_is_refused_unless_it_may_overwrite(
    run: Run, tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    run()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OptionError, match=rf"holds a run with {words}.*--overwrite"):
        run(**other)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    made = run(overwrite=True, **other)
    assert load_result(tmp_path).seeds == made.seeds
    items = json.loads((tmp_path / "result.json").read_text())["items"]
    named = {item[kind] for item in items for kind in ("image", "data")}
    made_of_these = {"result.json", "numbers.csv", "numbers.parquet", "contact-sheet.png", ".gen-prior-files"}
    assert {path.name for path in tmp_path.iterdir()} == named | made_of_these


def test_functions_of_ones_own_are_never_continued(run: Run) -> None:
    given = {"transforms": [lambda images: images]}
    run(**given)
    with pytest.raises(OptionError, match="cannot be compared"):
        run(**given)


def test_a_damaged_item_is_made_again(run: Run, tmp_path: Path) -> None:
    whole = run()
    (tmp_path / "bee-seed0.safetensors").write_bytes(b"rotten")
    assert torch.equal(run().images, whole.images)
    (tmp_path / "ant-seed1.png").unlink()
    run()
    assert (tmp_path / "ant-seed1.png").is_file()


def test_an_interrupted_overwrite_leaves_no_mixture(run: Run, tmp_path: Path) -> None:
    run()
    with pytest.raises(KeyboardInterrupt):
        run(seeds=3, overwrite=True, progress=stop_after(0))
    assert load_result(tmp_path).seeds == [0, 1], "the old run, until a part of the new one is on the disk"
    with pytest.raises(KeyboardInterrupt):
        run(seeds=3, overwrite=True, progress=stop_after(2))
    assert load_result(tmp_path).seeds == [0, 1, 2]
    assert sum(one == "ok" for row in load_result(tmp_path).status for one in row) == 2


def test_a_result_in_a_folder_is_read_when_asked_for(run: Run, tmp_path: Path) -> None:
    result = run()
    assert "images" not in vars(result)
    assert result.images.shape == (2, 2, 3, 16, 16)
    assert torch.equal(result.images_of(1), result.images[1])
    (tmp_path / "ant-seed0.safetensors").unlink()
    with pytest.raises(OutputError, match=r"ant-seed0\.safetensors is missing"):
        result.codes  # noqa: B018
    with pytest.raises(AttributeError):
        result.imgs  # type: ignore[attr-defined]  # noqa: B018


def _hold(folder: Path, held: Any, end: Any) -> None:
    with only_writer(folder):
        held.set()
        end.wait(30)


def test_two_processes_do_not_write_into_one_folder(run: Run, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, end))
    other.start()
    assert held.wait(30)
    try:
        with pytest.raises(OutputError, match="another process is writing to"):
            run()
    finally:
        end.set()
        other.join()
    assert run().status == [["ok", "ok"], ["ok", "ok"]]


def test_a_lock_is_of_a_thread_and_ends_with_its_block(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def enter() -> None:
        try:
            with only_writer(tmp_path / "x"):
                pass
        except OutputError as error:
            refused.append(error)

    with only_writer(tmp_path / "x"), only_writer(tmp_path / "x"):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert not (tmp_path / "x").exists(), "a new folder into which nothing was written"
    enter()
    assert len(refused) == 1


def test_what_a_killed_writer_left_is_removed(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".ant-seed0.png.abc.part").write_bytes(b"half")
    run()
    assert [path.name for path in tmp_path.glob(".*")] == [".gen-prior-files"]


@pytest.mark.parametrize("record", ["evolution.npz", "settings.json"])
def test_an_evolution_or_a_dataset_is_never_overwritten(run: Run, tmp_path: Path, record: str) -> None:
    (tmp_path / record).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=rf"holds an? .* \({record}\).*pass another --out$"):
            run(overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [record]


@pytest.mark.parametrize("record", ["comparison.json", "inversion.json"])
def test_a_run_of_another_kind_is_refused(run: Run, tmp_path: Path, record: str) -> None:
    (tmp_path / record).write_text("{}")
    with pytest.raises(OptionError, match=rf"holds .* \({record}\).*--overwrite"):
        run()
    assert [path.name for path in tmp_path.iterdir()] == [record]
    run(overwrite=True)
    assert not (tmp_path / record).exists()
