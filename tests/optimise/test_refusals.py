"""Refused files leave nothing half done, and take nothing with them; pickles are read as tensors or not at all."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path

import pytest
import torch
from checkpoints import pickled
from hub_server import Hub, kept_in_cache, left_in_cache
from torch import Tensor

from gen_prior.errors import OptionError, WeightsError
from gen_prior.hub.convert import read_pickled
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_tensors

REPO = "org/name"


def tensors(megabytes: float = 0.001, seed: int = 0) -> dict[str, Tensor]:
    return {"a.weight": torch.randn(int(megabytes * 2**18), generator=torch.Generator().manual_seed(seed))}


def fail(files: Files, error: Exception, *others: str) -> None:
    """A load that fetches these, and then fails."""
    with files.loading():
        for name in others:
            files.get(name)
        files.weights("model.bin")
        raise error


def test_a_tampered_file_is_not_converted_again_unseen(hub: Hub, tmp_path: Path) -> None:
    commit = hub.publish(REPO, {"model.bin": pickled(tensors(2))})
    conversion = Files.from_hub(REPO).weights("model.bin")
    (blob,) = (path for path in (tmp_path / "home").rglob("*") if path.parent.name == "blobs")
    assert blob.name == conversion.stem, "the Hub states the hash of large files"
    blob.write_bytes(pickled(tensors(2, seed=1)))
    conversion.write_bytes(conversion.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"model\.bin has SHA-256 .* damaged, and was removed"):
        Files.from_hub(f"{REPO}@{commit}").weights("model.bin")
    assert left_in_cache(tmp_path) == []


def test_a_refusal_leaves_what_an_accepted_commit_has(hub: Hub, tmp_path: Path) -> None:
    """Both commits have the same weights, so one blob and one conversion serve both."""
    good = hub.publish(REPO, {"model.bin": pickled(tensors()), "config.json": b'{"a": 1}'})
    Files.from_hub(REPO).weights("model.bin")
    kept = kept_in_cache(tmp_path)
    hub.publish(REPO, {"model.bin": pickled(tensors()), "config.json": b'{"a": 2}'})
    files = Files.from_hub(REPO)
    with pytest.raises(WeightsError, match="no good"):
        fail(files, WeightsError("no good"), "config.json")
    assert set(kept_in_cache(tmp_path)) >= set(kept)
    requests = sum(hub.requests.values())
    read_tensors(Files.from_hub(f"{REPO}@{good}").weights("model.bin"))
    assert sum(hub.requests.values()) == requests


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), AssertionError(), IndexError("c"), ValueError("d")])
def test_whatever_a_file_makes_fail_is_told_as_its_fault(hub: Hub, tmp_path: Path, error: Exception) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors())})
    files = Files.from_hub(REPO)
    with pytest.raises(WeightsError, match=rf"org/name@\w+: model\.bin cannot be used \({type(error).__name__}"):
        fail(files, error)
    assert len(kept_in_cache(tmp_path)) == 3  # blob, link and conversion are whole, so another load need not fetch them


def test_what_is_not_the_files_fault_removes_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors())})
    for error, told in (
        (OptionError("no"), OptionError),
        (OSError("disk"), WeightsError),
        (TypeError("load() got an unexpected keyword argument 'x'"), TypeError),
    ):
        files = Files.from_hub(REPO)
        with pytest.raises(told):
            fail(files, error)
        assert len(kept_in_cache(tmp_path)) == 3


def test_damaged_pickles_fail_in_one_way(tmp_path: Path) -> None:
    source = random.Random(0)
    state = {"a": torch.ones(4), "b": torch.zeros(2, 2).half()}
    old = io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    for number in range(1000):
        data = bytearray((pickled(state), old.getvalue())[number % 2])
        for _ in range(source.choice((1, 2, 5))):
            data[source.randrange(min(len(data), 900))] = source.randrange(256)
        (tmp_path / "model.pth").write_bytes(data)
        with contextlib.suppress(WeightsError):
            read_pickled(tmp_path / "model.pth")


CONVERT = """
from gen_prior.hub.files import Files
for _ in range(2):
    files = Files.from_folder(FOLDER)
    with files.loading():
        path = files.weights("model.bin")
say(path=str(path))
"""


def test_a_conversion_beside_the_cache_is_made_once_and_not_left(hub: Hub, tmp_path: Path) -> None:
    for name in ("home", "tmp", "source"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "gen-prior").write_text("in the way")
    (tmp_path / "source" / "model.bin").write_bytes(pickled(tensors()))
    code = CONVERT.replace("FOLDER", repr(str(tmp_path / "source")))
    answer = hub.run(code, tmp_path / "home", TMPDIR=str(tmp_path / "tmp"))
    assert Path(answer["path"]).is_relative_to(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_space_for_a_conversion_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(pickled(tensors(2)))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    answer = hub.run(limit + CONVERT.replace("FOLDER", repr(str(tmp_path))), tmp_path / "home")
    assert answer["error"] == "OutputError"
    assert "HF_HOME" in answer["message"]
    assert (tmp_path / "model.bin").exists()
