"""A Hub with every fault of a network, at random: right bytes or an error of ours, and nothing whole is lost."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pickled
from hub_server import Fault, Hub, cut_once, kept_in_cache, left_in_cache, reset, silent, status_once
from safetensors.torch import save

import gen_prior.hub.download
from gen_prior.errors import GenPriorError
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_tensors

LONG = pytest.mark.chaos
REPO = "org/name"
CONFIG, SAFE, BIN = "config.json", "model.safetensors", "extra.bin"


def changed(change: Callable[[bytes], bytes]) -> Fault:
    """Answers with other bytes."""

    def fault(handler: Any, data: bytes) -> bool:
        handler.send(200, {}, change(data), True)
        return True

    return fault


def loop(handler: Any, data: bytes) -> bool:
    """Redirects to itself."""
    handler.send(302, {"Location": handler.path}, b"", True)
    return True


def no_range(handler: Any, data: bytes) -> bool:
    """Ignores the range that was asked for."""
    handler.send(200, {}, data, True)
    return True


def stall(handler: Any, data: bytes) -> bool:
    """Begins the body, and says nothing more."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:100])
    handler.wfile.flush()
    time.sleep(1.5)
    handler.close_connection = True
    return True


def faults(source: random.Random) -> tuple[dict[str, Fault], str]:
    """A fault of answers to HEAD or to GET, or both, and its name."""
    lasting = source.random() < 0.5
    count = 99 if lasting else 1
    kinds: dict[str, Fault] = {
        "reset": reset,
        "silence": silent(0.2),
        "redirect loop": loop,
        "500": status_once(*[500] * count),
        "503": status_once(*[503] * count),
        "429": status_once(*[429] * count),
        "403": status_once(*[403] * count),
        "login page": changed(lambda data: b"<html>log in</html>"),
        "cut": cut_once(50),
        "truncated": changed(lambda data: data[:-7]),
        "too long": changed(lambda data: data + b"x" * 5000),
        "flipped": changed(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        "empty": changed(lambda data: b""),
        "range ignored": no_range,
        "stall": stall,
    }
    name = source.choice(list(kinds))
    return {"head": kinds[name]} if source.random() < 0.3 else {"get": kinds[name]}, name


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=LONG)])
def test_faults_at_random(
    count: int, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Counter[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr(gen_prior.hub.download, "COLD_SECONDS", 1.0)
    source = random.Random(count)
    for trial in range(count):
        gen_prior.hub.download._failures.clear()
        repo = f"org/name-{trial}"
        content = {name: torch.randn(source.randrange(1, 3000)) for name in ("a", "b")}
        data = {CONFIG: json.dumps({"trial": trial}).encode(), SAFE: save(content), BIN: pickled(content)}
        commit = hub.publish(repo, data)
        warm = source.random() < 0.5
        if warm:
            load(repo)
        kept = set(kept_in_cache(tmp_path))
        where, (fault, name) = source.choice([CONFIG, SAFE, BIN]), faults(source)
        hub.faults, hub.head_faults = {}, {}
        (hub.head_faults if "head" in fault else hub.faults)[where] = next(iter(fault.values()))
        if source.random() < 0.2:
            (hub.etags if source.random() < 0.5 else hub.commits)[where] = source.choice(["../../x", "main", "0" * 39])
            name = "hostile header"
        figures["tried"] += 1
        began, refused = time.monotonic(), False
        try:
            found, revision = load(repo)
            assert revision == commit
            assert all(torch.equal(found[key], content[key]) for key in content)
            figures["loaded"] += 1
        except GenPriorError:
            refused = True
            figures["refused"] += 1
        assert not (warm and refused), f"a warm cache must serve: {name}"
        assert time.monotonic() - began < (5 if warm else 60)
        lost = kept - set(kept_in_cache(tmp_path))
        figures["lost"] += len(lost)
        assert not lost
        assert not [path for path in tmp_path.iterdir() if path.name not in ("home",)], "written outside"
        hub.faults, hub.head_faults, hub.etags, hub.commits = {}, {}, {}, {}
        gen_prior.hub.download._failures.clear()
        found, revision = load(repo)
        assert all(torch.equal(found[key], content[key]) for key in content)
        assert [name for name in left_in_cache(tmp_path) if not name.endswith(".incomplete")] == []
        figures["survived"] += 1


def load(repo: str) -> tuple[dict[str, torch.Tensor], str | None]:
    """Configuration, weights and a pickled file of a repository, all of one commit."""
    files = Files.from_hub(repo)
    with files.loading():
        files.json(CONFIG)
        found = read_tensors(files.weights(SAFE))
        again = read_tensors(files.weights(BIN))
    assert all(torch.equal(found[key], again[key]) for key in found)
    return found, files.revision


@pytest.mark.parametrize("count", [2, pytest.param(30, marks=LONG)])
def test_main_moves_between_two_files(count: int, hub: Hub, figures: Counter[str]) -> None:
    for trial in range(count):
        repo = f"org/moving-{trial}"
        versions = [{CONFIG: json.dumps({"v": v}).encode(), SAFE: save({"v": torch.tensor([v])})} for v in (1, 2)]
        first = hub.publish(repo, versions[0])
        files = Files.from_hub(repo)
        assert files.json(CONFIG) == {"v": 1}
        hub.publish(repo, versions[1])
        figures["tried"] += 1
        assert read_tensors(files.weights(SAFE))["v"].tolist() == [1]
        assert files.revision == first
        figures["survived"] += 1


CODE = f"""
import fcntl, sys
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_tensors
if LOCKLESS:
    fcntl.flock = lambda *arguments: None
found = read_tensors(Files.from_hub("{REPO}").weights("{SAFE}"))
say(sum=float(found["a"].double().sum()))
"""


@pytest.mark.parametrize("lockless", [pytest.param(False, marks=LONG), pytest.param(True, marks=LONG)])
def test_kills_and_rivals_in_a_download(lockless: bool, hub: Hub, tmp_path: Path, figures: Counter[str]) -> None:
    content = {"a": torch.randn(1 << 21)}
    source = random.Random(5)
    for trial in range(6):
        hub.publish(REPO, {SAFE: save(content)})
        home, code = tmp_path / f"home-{trial}", CODE.replace("LOCKLESS", str(lockless))
        processes = [hub.start(code, home) for _ in range(2)]
        time.sleep(source.uniform(2, 6))
        processes[0].kill()
        answers = [process.communicate(timeout=120)[0] for process in processes]
        figures["tried"] += 1
        assert "sum" in answers[1], answers[1]
        assert hub.run(code, home)["sum"] == pytest.approx(float(content["a"].double().sum()))
        figures["survived"] += 1
