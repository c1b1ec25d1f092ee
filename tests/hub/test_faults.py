"""Broken connections, hostile answers and files that change: the cache serves, and nothing whole is lost."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pickled
from hub_server import Hub, cut_once, kept_in_cache, left_in_cache, reset, silent, status_once
from huggingface_hub import constants
from safetensors.torch import load as library_load
from safetensors.torch import save, save_file
from torch import Tensor

import gen_prior.hub.fetch
from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.hub.download_errors import download_error
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import hashed, read_tensors

REPO, SAFE = "org/name", "model.safetensors"


def tensors(seed: int = 0, numbers: int = 300) -> dict[str, Tensor]:
    return {"a": torch.randn(numbers, generator=torch.Generator().manual_seed(seed)), "b": torch.ones(3)}


def redirect_for_ever(handler: Any, data: bytes) -> bool:
    handler.send(302, {"Location": handler.path}, b"", True)
    return True


@pytest.mark.parametrize("fault", [reset, silent(0.3), redirect_for_ever, status_once(*[503] * 99)])
def test_an_optional_file_that_cannot_be_had_costs_nothing(hub: Hub, tmp_path: Path, fault: Any) -> None:
    hub.publish(REPO, {SAFE: save(tensors()), "extra.json": b"{}"})
    hub.head_faults["extra.json"] = fault
    files = Files.from_hub(REPO)
    with files.loading():
        files.get(SAFE)
        assert files.find_optional("extra.json") is None
    with pytest.raises(DownloadError, match="Fix:"), files.loading():
        files.get("extra.json")
    assert SAFE in kept_in_cache(tmp_path)


@pytest.mark.parametrize("fault", [reset, redirect_for_ever, status_once(*[500] * 99)])
def test_a_body_that_never_comes_is_a_download_error(hub: Hub, tmp_path: Path, fault: Any) -> None:
    hub.publish(REPO, {SAFE: save(tensors()), "config.json": b"{}"})
    hub.faults[SAFE] = fault
    files = Files.from_hub(REPO)
    files.json("config.json")
    with pytest.raises(DownloadError, match="could not get"), files.loading():
        files.get(SAFE)
    assert "config.json" in kept_in_cache(tmp_path)


def test_a_storage_that_is_gone_is_a_download_error(hub: Hub) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    with Hub() as gone:
        pass
    real, hub.storage = hub.storage, gone.storage
    try:
        with pytest.raises(DownloadError, match="could not get"):
            Files.from_hub(REPO).get(SAFE)
    finally:
        hub.storage = real


@pytest.mark.parametrize("fault", [reset, silent(30), status_once(500), status_once(401), status_once(200)])
def test_a_warm_cache_answers_whatever_the_network_does(hub: Hub, fault: Any) -> None:
    commit = hub.publish(REPO, {SAFE: save(tensors()), "config.json": b"{}"})
    Files.from_hub(REPO).get(SAFE), Files.from_hub(REPO).get("config.json")
    hub.head_faults |= {SAFE: fault, "config.json": fault}
    began = time.monotonic()
    files = Files.from_hub(REPO)
    files.json("config.json")
    files.get(SAFE)
    assert files.revision == commit
    assert time.monotonic() - began < 5


def test_a_failure_is_remembered_for_cached_files_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(REPO, {SAFE: save(tensors()), "config.json": b"{}"})
    Files.from_hub(REPO).get(SAFE), Files.from_hub(REPO).get("config.json")
    hub.head_faults[SAFE] = reset
    Files.from_hub(REPO).get(SAFE)
    seen = sum(hub.requests.values())
    Files.from_hub(REPO).json("config.json")
    assert sum(hub.requests.values()) == seen
    hub.publish("org/new", {"config.json": b"{}"})
    Files.from_hub("org/new").json("config.json")
    assert sum(hub.requests.values()) > seen


@pytest.mark.parametrize("bad", ["../../../../escaped", "/tmp/escaped", "a" * 39, "main", ""])
@pytest.mark.parametrize("where", ["etags", "commits"])
def test_names_from_the_server_are_checked_before_anything_is_written(
    hub: Hub, tmp_path: Path, bad: str, where: str
) -> None:
    hub.publish(REPO, {"config.json": b"{}"})

    def nameless(handler: Any, data: bytes) -> bool:
        handler.send(200, {}, b"{}", False)
        return True

    if bad:
        getattr(hub, where)["config.json"] = bad
    else:
        hub.head_faults["config.json"] = nameless
    with pytest.raises(DownloadError, match="which no Hub does"):
        Files.from_hub(REPO).get("config.json")
    hub.commits["missing.json"] = bad
    assert Files.from_hub(REPO).find("missing.json") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("revision", ["../x", "/x", "a/../b", "", ".", "a//b", "x\n"])
def test_a_revision_is_no_path(hub: Hub, revision: str) -> None:
    with pytest.raises(OptionError):
        Files.from_hub(f"{REPO}@{revision}")


def test_small_files_are_checked_by_gits_hash(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {"config.json": b'{"a": 1}'})

    def flipped(handler: Any, data: bytes) -> bool:
        handler.send(200, {}, b'{"a": 2}', True)
        return True

    hub.faults["config.json"] = flipped
    with pytest.raises(WeightsError, match=r"config\.json has Git's SHA-1 .* expected .* run it again"):
        Files.from_hub(REPO).get("config.json")
    assert kept_in_cache(tmp_path) == []
    hub.faults.clear()
    path = Files.from_hub(REPO).get("config.json")
    path.resolve().write_bytes(b'{"a": 3}')
    with pytest.raises(WeightsError, match="damaged, and was removed"):
        Files.from_hub(REPO).get("config.json")
    assert Files.from_hub(REPO).json("config.json") == {"a": 1}


def test_a_download_goes_on_in_another_process(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(tensors(numbers=1 << 20))
    hub.publish(REPO, {SAFE: data})
    hub.faults[SAFE] = cut_once(3 << 20)
    monkeypatch.setattr(gen_prior.hub.fetch, "RETRY_WAITS", ())
    with pytest.raises(DownloadError, match="could not get"):
        Files.from_hub(REPO).get(SAFE)
    (left,) = left_in_cache(tmp_path)
    blob, host = left.split(".")[0], left.split(".", 1)[1].rpartition("-")[0]
    (partial,) = (tmp_path / "home").rglob(left)
    partial.rename(partial.with_name(f"{blob}.{host}-{2**22 + 1}.incomplete"))  # of a process that is no more
    asked: list[str | None] = []

    def note(handler: Any, body: bytes) -> bool:
        asked.append(handler.headers.get("Range"))
        return False

    hub.faults[SAFE] = note
    assert Files.from_hub(REPO).get(SAFE).read_bytes() == data
    assert asked == [f"bytes={3 << 20}-"]
    assert left_in_cache(tmp_path) == []


def test_more_bytes_than_announced_are_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})

    def endless(handler: Any, data: bytes) -> bool:
        handler.send(200, {}, data + bytes(1 << 22), True)
        return True

    hub.faults[SAFE] = endless
    with pytest.raises(DownloadError, match="more than the"):
        Files.from_hub(REPO).get(SAFE)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1 << 16


def test_a_read_only_cache_serves(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(REPO, {"config.json": b'{"a": 1}'})
    path = Files.from_hub(REPO).get("config.json")
    monkeypatch.setattr("gen_prior.hub.download.atomic_write", _refuse)
    assert Files.from_hub(REPO).json("config.json") == {"a": 1}
    path.resolve().write_bytes(b"{}")
    monkeypatch.setattr(Path, "unlink", _refuse)
    with pytest.raises(WeightsError, match=r"it is damaged\. Fix: the cache is read-only: delete"):
        Files.from_hub(REPO).get("config.json")


def _refuse(*arguments: Any, **options: Any) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("kind", [SAFE, "model.bin"])
def test_a_file_that_is_rewritten_has_the_hash_of_the_bytes_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    contents = [(save if kind == SAFE else pickled)(tensors(seed, 60_000)) for seed in (1, 2)]
    by_hash = {
        hashlib.sha256(data).hexdigest(): tensors(seed, 60_000) for seed, data in zip((1, 2), contents, strict=True)
    }
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / kind).write_bytes(contents[0])
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for data in contents:
                with (folder / kind).open("r+b") as file:
                    for start in range(0, len(data), 4096):
                        file.write(data[start : start + 4096])
                time.sleep(0.001)

    thread = threading.Thread(target=rewrite)
    thread.start()
    loaded = refused = 0
    try:
        for _ in range(40):
            files = Files.from_folder(folder)
            try:
                found = read_tensors(files.weights(kind))
            except WeightsError:
                refused += 1
                continue
            if (whole := by_hash.get(files.sha256[kind])) is not None:  # not one of a half rewritten file
                assert torch.equal(found["a"], whole["a"])
            loaded += 1
    finally:
        stop.set()
        thread.join()
    assert loaded + refused == 40
    (folder / kind).write_bytes(contents[1])
    files = Files.from_folder(folder)
    assert torch.equal(read_tensors(files.weights(kind))["a"], tensors(2, 60_000)["a"])


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    (tmp_path / "null.safetensors").symlink_to("/dev/zero")
    for name in ("model.safetensors", "null.safetensors"):
        with pytest.raises(WeightsError, match="not a regular file"):
            read_tensors(tmp_path / name)


def test_our_reader_agrees_with_the_library(tmp_path: Path) -> None:
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn)
    many = {str(kind): torch.randint(0, 2, (2, 3)).to(kind) for kind in kinds}
    many |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4)}
    save_file(many, tmp_path / "x.safetensors", {"format": "pt", "note": "é"})
    found = read_tensors(hashed(tmp_path / "x.safetensors"))
    expected = library_load((tmp_path / "x.safetensors").read_bytes())
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key].float(), value.float())
        assert found[key].shape == value.shape


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {"dtype": "F32", "shape": [2],'
        b' "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 8], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "NO", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": 3}',
        b"[]",
        b'{"__metadata__": {"a": 1}}',
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}',
        b"[" * 50_000,
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(GenPriorError, match="not a safetensors file"):
        read_tensors(path)


def test_a_proxy_that_the_client_cannot_use_is_blamed_on_the_environment() -> None:
    error = ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")
    explained = str(download_error(error, "org/net", "main", ("config.json",)))
    assert explained.startswith("the proxy of this environment cannot be used: Using SOCKS proxy")
    assert "pip install 'httpx[socks]', or unset ALL_PROXY" in explained
