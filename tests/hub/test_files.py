"""Files from the Hub: the real client against a local server that speaks the Hub's protocol, faults included."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pickled
from hub_server import Hub, Repo, cut_once, kept_in_cache, left_in_cache, status_once
from huggingface_hub import constants
from safetensors.torch import save
from torch import Tensor, nn

from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.hub.download import parse_repo
from gen_prior.hub.files import Files
from gen_prior.hub.strict_loading import build_on_meta, check_config, load_frozen, load_strictly
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors

REPO = "org/name"
SAFE = "model.safetensors"


def tensors(megabytes: float = 0.001, seed: int = 0) -> dict[str, Tensor]:
    numbers = int(megabytes * 2**18)
    return {"a.weight": torch.randn(numbers, generator=torch.Generator().manual_seed(seed)), "a.bias": torch.ones(3)}


def test_names_of_repositories() -> None:
    assert parse_repo("org/name") == ("org/name", "", None)
    assert parse_repo("org/name/a/b@v1") == ("org/name", "a/b", "v1")
    for wrong in ("name", "org/name@", "org//x", "../name", "org/../x", "org--x/na..me", "org/na me"):
        with pytest.raises(OptionError, match="org/name"):
            parse_repo(wrong)


def test_a_file_is_fetched_once_pinned_and_recorded(hub: Hub, tmp_path: Path) -> None:
    data = save(tensors())
    commit = hub.publish(REPO, {SAFE: data, "config.json": b'{"a": 1}'})
    files = Files.from_hub(REPO)
    assert files.json("config.json") == {"a": 1}
    assert read_tensors(files.weights(SAFE))["a.bias"].tolist() == [1, 1, 1]
    assert files.revision == commit
    assert files.sha256[SAFE] == hashlib.sha256(data).hexdigest()
    assert hub.requests[f"GET storage {SAFE}"] == 1
    seen = sum(hub.requests.values())
    again = Files.from_hub(f"{REPO}@{commit}")
    again.weights(SAFE)
    assert sum(hub.requests.values()) == seen  # a cached commit asks nobody
    assert again.provenance(licence="MIT").revision == commit


def test_all_files_come_from_one_commit(hub: Hub) -> None:
    first = hub.publish(REPO, {SAFE: save(tensors(seed=1)), "config.json": b'{"v": 1}'})
    files = Files.from_hub(REPO)
    assert files.json("config.json") == {"v": 1}
    hub.publish(REPO, {SAFE: save(tensors(seed=2)), "config.json": b'{"v": 2}'})
    assert torch.equal(read_tensors(files.weights(SAFE))["a.weight"], tensors(seed=1)["a.weight"])
    assert files.revision == first


def test_a_missing_file_also_pins_the_commit(hub: Hub) -> None:
    first = hub.publish(REPO, {SAFE: save(tensors(seed=1))})
    files = Files.from_hub(REPO)
    assert files.find("config.json") is None
    hub.publish(REPO, {SAFE: save(tensors(seed=2)), "config.json": b"{}"})
    files.get(SAFE)
    assert files.revision == first


def test_tokens_stay_with_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    hub.repos[REPO].token = "secret"
    with pytest.raises(DownloadError, match=r"no repository org/name at .*or it is private.*hf auth login"):
        Files.from_hub(REPO).get(SAFE)
    hub.repos[REPO].gated = True
    with pytest.raises(
        DownloadError, match=r"org/name is gated.*accept its terms at .*/org/name, then log in: hf auth login"
    ):
        Files.from_hub(REPO).get(SAFE)
    monkeypatch.setenv("HF_TOKEN", "secret")
    Files.from_hub(REPO).get(SAFE)
    assert not hub.storage_saw_token


def test_what_does_not_exist_is_named(hub: Hub) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    with pytest.raises(DownloadError, match="no repository org/other"):
        Files.from_hub("org/other").get(SAFE)
    with pytest.raises(DownloadError, match="org/name has no revision 'v9'"):
        Files.from_hub(REPO, revision="v9").get(SAFE)
    with pytest.raises(DownloadError, match=r"hf-hub:org/name@\w+ has no x\.bin or y\.bin"):
        Files.from_hub(REPO).get("x.bin", "y.bin")


def test_passing_trouble_is_waited_out(hub: Hub) -> None:
    hub.publish(REPO, {SAFE: save(tensors()), "a.json": b"{}", "b.json": b"{}"})
    hub.faults[SAFE] = status_once(500, 503)
    Files.from_hub(REPO).get(SAFE)
    assert hub.requests[f"GET storage {SAFE}"] == 3
    hub.faults["a.json"] = status_once(429, headers={"Retry-After": "1"})
    Files.from_hub(REPO).get("a.json")
    hub.head_status["b.json"] = [503, 502]
    Files.from_hub(REPO).get("b.json")


def test_lasting_trouble_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    hub.faults[SAFE] = status_once(*[500] * 9)
    with pytest.raises(DownloadError, match=r"could not get model\.safetensors.*500"):
        Files.from_hub(REPO).get(SAFE)
    assert kept_in_cache(tmp_path) == []


@pytest.mark.parametrize("range_is_ignored", [False, True])
def test_a_cut_download_is_resumed(hub: Hub, range_is_ignored: bool) -> None:
    data = save(tensors(24))
    hub.publish(REPO, {SAFE: data})
    cut = cut_once(21 << 20)
    asked: list[str | None] = []

    def fault(handler: Any, body: bytes) -> bool:
        asked.append(handler.headers.get("Range"))
        if range_is_ignored and asked[-1]:
            handler.send(200, {}, body, True)
            return True
        return cut(handler, body)

    hub.faults[SAFE] = fault
    files = Files.from_hub(REPO)
    assert files.get(SAFE).read_bytes() == data
    assert asked == [None, f"bytes={21 << 20}-"]


def test_a_truncated_file_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})

    def fault(handler: Any, data: bytes) -> bool:
        handler.send(200, {}, data[:-7], True)
        return True

    hub.faults[SAFE] = fault
    with pytest.raises(DownloadError, match=r"could not get model\.safetensors"):
        Files.from_hub(REPO).get(SAFE)
    assert kept_in_cache(tmp_path) == [next((tmp_path / "home").rglob("*.incomplete")).name]  # to go on from later


def test_wrong_bytes_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    data = save(tensors())
    hub.publish(REPO, {SAFE: data})

    def fault(handler: Any, body: bytes) -> bool:
        handler.send(200, {}, body[:-1] + b"!", True)
        return True

    hub.faults[SAFE] = fault
    with pytest.raises(WeightsError, match=r"model\.safetensors has SHA-256 .* expected .* run it again"):
        Files.from_hub(REPO).get(SAFE)
    assert left_in_cache(tmp_path) == []
    hub.faults.clear()
    assert Files.from_hub(REPO).get(SAFE).read_bytes() == data


def test_the_registrys_hash_counts(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    with pytest.raises(WeightsError, match="expected 0000000000000000"):
        Files.from_hub(REPO, sha256={SAFE: "0" * 64}).get(SAFE)
    assert left_in_cache(tmp_path) == []


def test_pickles_are_converted_once(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tensors()
    data = pickled(state)
    commit = hub.publish(REPO, {"model.bin": data})
    old = os.umask(0o027)
    try:
        path = Files.from_hub(REPO).weights(SAFE, "model.bin")
    finally:
        os.umask(old)
    assert "weights_only=True" in caplog.text
    assert torch.equal(read_tensors(path)["a.weight"], state["a.weight"])
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_file_metadata(path) == {
        "format": "pt",
        "source": "hf-hub:org/name/model.bin",
        "sha256": hashlib.sha256(data).hexdigest(),
        "revision": commit,
    }
    caplog.clear()
    made = path.stat().st_mtime_ns
    assert Files.from_hub(REPO).weights(SAFE, "model.bin") == path
    assert path.stat().st_mtime_ns == made
    assert caplog.text == ""


def test_safetensors_come_first(hub: Hub) -> None:
    hub.publish(REPO, {SAFE: save(tensors(seed=1)), "model.bin": pickled(tensors(seed=2))})
    found = read_tensors(Files.from_hub(REPO).weights(SAFE, "model.bin"))
    assert torch.equal(found["a.weight"], tensors(seed=1)["a.weight"])
    assert not any("model.bin" in request for request in hub.requests)


def test_a_damaged_conversion_is_made_again(hub: Hub) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors())})
    path = Files.from_hub(REPO).weights("model.bin")
    path.write_bytes(path.read_bytes()[:100])
    assert read_tensors(Files.from_hub(REPO).weights("model.bin"))["a.bias"].tolist() == [1, 1, 1]


def test_a_cache_that_cannot_be_written_is_not_needed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors())})
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("gen_prior.hub.convert.cache_folder", lambda: tmp_path / "file")
    path = Files.from_hub(REPO).weights("model.bin")
    assert read_tensors(path)["a.bias"].tolist() == [1, 1, 1]


class Canary:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("plain_pickle", [False, True])
def test_a_pickle_never_runs_code(hub: Hub, tmp_path: Path, plain_pickle: bool) -> None:
    evil = {"a.weight": Canary(tmp_path / "canary")}
    hub.publish(REPO, {"model.bin": pickle.dumps(evil) if plain_pickle else pickled(evil)})
    files = Files.from_hub(REPO)
    with pytest.raises(WeightsError, match="not a pickled dictionary of tensors"), files.loading():
        files.weights("model.bin")
    assert not (tmp_path / "canary").exists()
    assert left_in_cache(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (SAFE, b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "a Git LFS pointer"),
        (SAFE, b"<!doctype html><title>sorry</title>", "a web page"),
        (SAFE, (1 << 40).to_bytes(8, "little") + b"{}", "damaged"),
        (SAFE, save({"a": torch.ones(8)})[:-4], "damaged"),
        (SAFE, b"", "damaged"),
        (SAFE, save({"a": torch.tensor([1.0, float("nan")])}), "a holds values that are not finite"),
        ("model.bin", b"<html>", "a web page"),
        ("model.bin", pickled([torch.ones(1)]), "not a pickled dictionary"),
        ("model.bin", pickled({"epoch": 3}), "not a pickled dictionary"),
        ("model.bin", pickled(tensors())[:-30], "damaged"),
        ("model.bin", pickled({"a": torch.zeros(1).expand(10**6, 10**6)}), "a is sparse, quantised or"),
        ("model.bin", pickled({"a": torch.eye(4).to_sparse()}), "a is sparse, quantised or"),
        ("model.bin", pickled({"a": torch.empty(3, device="meta")}), "a is sparse, quantised or"),
        (
            SAFE,
            save({"a": torch.tensor([1.0, float("nan")]).to(torch.float8_e5m2)}),
            "a holds values that are not finite",
        ),
        ("config.json", b"[1]", "not a JSON object"),
        ("config.json", b"{", "not a JSON object"),
        ("config.json", b'{"size": 1e30}', "size is 1e"),
        ("config.json", b'{"n_layers": 100000}', "n_layers is 100000"),
        ("config.json", b"[" * 100_000, "not a JSON object"),
    ],
)
def test_what_is_not_what_it_should_be_is_refused(
    hub: Hub, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    hub.publish(REPO, {name: data})
    files = Files.from_hub(REPO)
    with pytest.raises(WeightsError, match=message) as caught, files.loading():
        files.json(name) if name == "config.json" else read_tensors(files.weights(name))
    assert "Fix:" in str(caught.value)
    assert left_in_cache(tmp_path) == []


def test_tensors_must_be_exactly_the_networks() -> None:
    for wrong, message in (
        ({"weight": torch.ones(2, 3)}, "f does not fit net: it lacks bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "x": torch.ones(1)}, "has unexpected x"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, r"weight \[3, 2\] where \[2, 3\] is expected"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_frozen(build_on_meta(lambda: nn.Linear(3, 2), "f"), wrong, "f", "net")
    network = load_frozen(
        build_on_meta(lambda: nn.Linear(3, 2), "f"),
        {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2)},
        "f",
        "net",
    )
    assert network(torch.ones(1, 3)).tolist() == [[3, 3]]
    with pytest.raises(WeightsError, match="f: bias holds values that are not finite"):
        load_frozen(nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": torch.tensor([1.0, torch.nan])}, "f", "net")
    with pytest.raises(WeightsError, match="a network that cannot be built"):
        build_on_meta(lambda: nn.Conv2d(3, 2, 1, groups=2), "f")


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_tensors_of_another_type_are_refused(kind: torch.dtype) -> None:
    wrong = {"weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=kind)}
    with pytest.raises(WeightsError, match=r"f: bias is of type torch\.\w+64, not torch\.float32"):
        load_frozen(build_on_meta(lambda: nn.Linear(3, 2), "f"), wrong, "f", "net")


def test_a_network_in_memory_keeps_its_parameters() -> None:
    network = nn.Linear(3, 2)
    before = list(network.parameters())
    load_strictly(network, {"weight": torch.full((2, 3), 2.0).half(), "bias": torch.zeros(2)}, "f")
    assert network(torch.ones(1, 3)).tolist() == [[6, 6]]
    assert all(a is b and b.requires_grad for a, b in zip(before, network.parameters(), strict=True))


def test_limits_of_configurations() -> None:
    check_config({"a": [1, {"b": 2.5}], "flag": True, "name": "x" * 10**6}, "f")
    for config in ({"a": {"b": [10**7]}}, {"num_blocks": 1000}, {"x": float("nan")}):
        with pytest.raises(WeightsError, match="the limit is"):
            check_config(config, "f")


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    shared = torch.ones(4)
    with pytest.raises(RuntimeError):
        save_safetensors(tmp_path / "x.safetensors", {"a": shared, "b": shared}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_kept_when_others_may_want_it(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {SAFE: save(tensors())})
    Files.from_hub(REPO).get(SAFE)
    files = Files.from_hub(REPO)
    with pytest.raises(WeightsError), files.loading():
        load_frozen(build_on_meta(lambda: nn.Linear(1, 1), "f"), read_tensors(files.weights(SAFE)), "f", "net")
    assert len(kept_in_cache(tmp_path)) == 2  # blob and link


def test_no_server(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub() as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", gone.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(DownloadError, match=r"x\.bin or y\.bin is not in the cache.*cannot be reached.*HF_ENDPOINT"):
        Files.from_hub(REPO).get("x.bin", "y.bin")


CODE = f"""
from gen_prior.hub.files import Files
from gen_prior.hub.tensors import read_tensors
files = Files.from_hub("{REPO}")
found = read_tensors(files.weights("{SAFE}", "model.bin"))
say(sum=float(found["a.weight"].double().sum()), revision=files.revision)
"""


def test_offline_with_a_warm_and_a_cold_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.publish(REPO, {"model.bin": pickled(tensors())})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="is not in the cache, and HF_HUB_OFFLINE is set"):
        Files.from_hub(REPO).weights(SAFE, "model.bin")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = Files.from_hub(REPO).weights(SAFE, "model.bin")
    seen = sum(hub.requests.values())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files = Files.from_hub(REPO)
    assert files.weights(SAFE, "model.bin") == path
    assert files.revision == commit
    assert sum(hub.requests.values()) == seen


def test_two_processes_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors(8))})
    processes = [hub.start(CODE, tmp_path / "both") for _ in range(2)]
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1]
    assert len(list((tmp_path / "both" / "gen-prior" / "converted").iterdir())) == 1


def test_killed_in_a_download(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors(2))})
    reached: list[bool] = []

    def stall(handler: Any, data: bytes) -> bool:
        if reached:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: 1 << 20])
        reached.append(True)
        time.sleep(20)
        return True

    hub.faults["model.bin"] = stall
    process = hub.start(CODE, tmp_path / "home")
    while not reached and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert reached
    again = read_tensors(Files.from_hub(REPO).weights("model.bin"))
    assert torch.equal(again["a.weight"], tensors(2)["a.weight"])


def test_a_full_disk_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.publish(REPO, {"model.bin": pickled(tensors(2))})
    answer = hub.run(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))" + CODE, tmp_path / "full"
    )
    assert answer["error"] == "DownloadError"
    assert "model.bin" in answer["message"]
    assert left_in_cache(tmp_path / "full") == []


def test_every_error_is_ours(hub: Hub) -> None:
    hub.repos[REPO] = Repo(commits={"0" * 40: {"a": b""}}, branches={"main": "0" * 40})
    for wrong in ("org/none", f"{REPO}@missing", f"{REPO}@" + "1" * 40):
        with pytest.raises(GenPriorError):
            Files.from_hub(wrong).get("a.safetensors")
