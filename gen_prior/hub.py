"""Names of files in a Hub repository or a folder -> checked local files -> tensors -> a network.

Downloads, cache, tokens and offline mode are huggingface_hub's own (`HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`).
Added here: one commit for all files of a load, SHA-256 checks, pickles read as weights only and converted once
to safetensors, and errors that say what mends them. Nothing from a repository is ever executed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import pickle
import re
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.provenance import Provenance

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
RETRY_WAITS = (1.0, 2.0, 4.0)
"""Seconds between attempts at a file that the server answers with 5xx; 429 is waited for by the client itself."""
LARGEST_NUMBER, MOST_LAYERS, LARGEST_CONFIG = 2**20, 512, 64 * 2**20


class RepoSpec(NamedTuple):
    """`org/name`, optionally a folder inside it and a revision: `org/name/folder@revision`."""

    repo: str
    folder: str
    revision: str | None


def parse_repo(text: str) -> RepoSpec:
    """`org/name[/folder][@revision]` -> its parts. Raises `OptionError`."""
    path, at, revision = text.partition("@")
    parts = path.split("/")
    if len(parts) < 2 or (at and not revision) or any(part in ("", ".", "..") for part in parts):
        raise OptionError(f"{text!r} names no repository", fix="write it as org/name or org/name@revision")
    try:
        validate_repo_id("/".join(parts[:2]))
    except HFValidationError as error:
        raise OptionError(f"{text!r} names no repository: {error}", fix="write it as org/name") from error
    return RepoSpec("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


class Files:
    """The files of one repository at one commit, or of one folder; made by `from_hub` or `from_folder`.

    Attributes:
        source: "hf-hub:org/name" or "local-dir:path".
        revision: the commit, once the first file was found; None for folders.
        sha256: name -> hex digest of every file that was used.
    """

    def __init__(self, source: str, *, repo: RepoSpec | None, folder: Path | None, known: Mapping[str, str]) -> None:
        self.source = source
        self.revision: str | None = None
        self.sha256: dict[str, str] = {}
        self._repo, self._folder, self._known = repo, folder, known
        self._fetched: list[Path] = []

    @classmethod
    def from_hub(cls, text: str, *, revision: str | None = None, sha256: Mapping[str, str] | None = None) -> Files:
        """Files of `org/name[/folder][@revision]`; `revision` overrides; `sha256`: name -> expected hex digest."""
        spec = parse_repo(text)
        spec = spec._replace(revision=revision or spec.revision or "main")
        where = "/".join(part for part in (spec.repo, spec.folder) if part)
        return cls(f"hf-hub:{where}", repo=spec, folder=None, known=sha256 or {})

    @classmethod
    def from_folder(cls, folder: str | Path) -> Files:
        """Files of a folder on this machine. Raises `WeightsError` where it does not exist."""
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise WeightsError(f"no folder {folder}", fix="pass a folder that holds the weights and their config")
        return cls(f"local-dir:{folder}", repo=None, folder=path, known={})

    def get(self, *names: str) -> Path:
        """Local path of the first of `names` that exists, hash checked.

        Raises `DownloadError` where none can be had, `WeightsError` for a wrong hash.
        """
        return self._get(names)[1]

    def find(self, *names: str) -> Path | None:
        """As `get`, or None where none of `names` exists."""
        found = self._find(names)
        return found[1] if found is not None else None

    def _get(self, names: tuple[str, ...]) -> tuple[str, Path]:
        found = self._find(names)
        if found is None:
            message = f"{self._title()} has no {' or '.join(names)}"
            raise DownloadError(message, fix="check the name and the revision") if self._repo else WeightsError(message)
        return found

    def _find(self, names: tuple[str, ...]) -> tuple[str, Path] | None:
        if self._folder is not None:
            for name in names:
                if (self._folder / name).is_file():
                    self.sha256[name] = file_sha256(self._folder / name)
                    return name, self._folder / name
            return None
        assert self._repo is not None
        absent: LocalEntryNotFoundError | None = None
        for name in names:
            inside = f"{self._repo.folder}/{name}" if self._repo.folder else name
            try:
                path = self._download(inside, offline=absent is not None)
            except LocalEntryNotFoundError as error:
                absent = absent or error
                continue
            if path is not None:
                self._check(path, name)
                return name, path
        if absent is not None:
            raise self._download_error(absent, names) from absent
        return None

    def json(self, *names: str) -> dict[str, Any]:
        """The JSON object in the first of `names` that exists, its numbers within sane limits."""
        path = self.get(*names)
        try:
            if path.stat().st_size > LARGEST_CONFIG:
                raise ValueError(f"larger than {LARGEST_CONFIG} bytes")
            config = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError(f"holds a {type(config).__name__}")
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is not a JSON object: {error}", fix=self._fix()) from error
        check_config(config, str(path))
        return config

    def weights(self, *names: str) -> Path:
        """A safetensors file with the tensors of the first of `names` that exists: itself, or its conversion."""
        name, path = self._get(names)
        if name.endswith(".safetensors"):
            return path
        return convert(path, self.sha256[name], f"{self.source}/{name}", self.revision)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Inside: a `WeightsError` takes with it whatever this load brought into the cache."""
        try:
            yield
        except WeightsError as error:
            for path in self._fetched:
                _remove_from_cache(path)
            for digest in self.sha256.values():
                converted_path(digest).unlink(missing_ok=True)
            if error.fix is None:
                raise WeightsError(error.message, fix=self._fix()) from error
            raise

    def provenance(self, *, licence: str | None = None, paper: str | None = None) -> Provenance:
        """The record of what was used."""
        return Provenance(self.source, self.revision, dict(self.sha256), licence, paper)

    def _download(self, name: str, offline: bool) -> Path | None:
        assert self._repo is not None
        repo, revision = self._repo.repo, self.revision or self._repo.revision or "main"
        cached = try_to_load_from_cache(repo, name, revision=revision)
        known_absent = cached is not None and not isinstance(cached, str)
        if COMMIT.fullmatch(revision):
            if isinstance(cached, str):
                self._pin(cached, name)
                return Path(cached)
            if known_absent:
                return None
        for wait in (*RETRY_WAITS, None):
            try:
                found = hf_hub_download(repo, name, revision=revision, local_files_only=offline)
                break
            except LocalEntryNotFoundError:
                if known_absent:
                    return None
                raise
            except RevisionNotFoundError as error:
                raise self._download_error(error, (name,)) from error
            except EntryNotFoundError as error:
                commit = _header(error, "X-Repo-Commit")
                if self.revision is None and commit is not None and COMMIT.fullmatch(commit):
                    self.revision = commit
                return None
            except HfHubHTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status < 500 or wait is None:
                    raise self._download_error(error, (name,)) from error
                log.warning("%s: the server answered %d, trying again in %g s", name, status, wait)
                time.sleep(wait)
            except (OSError, ValueError, RuntimeError) as error:
                raise self._download_error(error, (name,)) from error
        self._pin(found, name)
        path = Path(found)
        if not isinstance(cached, str):
            self._fetched.append(path)
        return path

    def _pin(self, path: str, name: str) -> None:
        commit = Path(path).parents[name.count("/")].name
        if self.revision is None and COMMIT.fullmatch(commit):
            self.revision = commit

    def _check(self, path: Path, name: str) -> None:
        etag = path.resolve().name
        known = self._known.get(name) or (etag if SHA256.fullmatch(etag) else None)
        if known is not None and converted_path(known).is_file():
            self.sha256[name] = known  # the file itself will not be read
            return
        digest = file_sha256(path)
        if known is not None and digest != known:
            _remove_from_cache(path)
            raise WeightsError(
                f"{self._title()}: {name} has SHA-256 {digest[:16]}..., expected {known[:16]}..., and was removed",
                fix="run it again to download afresh",
            )
        self.sha256[name] = digest

    def _title(self) -> str:
        revision = self.revision or (self._repo.revision if self._repo else None)
        return f"{self.source}@{revision}" if revision else self.source

    def _fix(self) -> str | None:
        return "use another revision: org/name@revision" if self._repo else "export or download the folder again"

    def _download_error(self, error: Exception, names: tuple[str, ...]) -> DownloadError:
        assert self._repo is not None
        repo, revision, what = self._repo.repo, self._repo.revision, " or ".join(names)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, GatedRepoError):
            return DownloadError(
                f"{repo} is gated", fix=f"accept its terms at {constants.ENDPOINT}/{repo}, then log in: hf auth login"
            )
        if isinstance(error, RepositoryNotFoundError):
            return DownloadError(
                f"no repository {repo} at {constants.ENDPOINT}, or it is private",
                fix="check the name; for a private one log in: hf auth login",
            )
        if isinstance(error, RevisionNotFoundError):
            return DownloadError(f"{repo} has no revision {revision!r}", fix="use --revision main")
        if isinstance(error, LocalEntryNotFoundError):
            if constants.HF_HUB_OFFLINE:
                return DownloadError(
                    f"{repo}: {what} is not in the cache, and HF_HUB_OFFLINE is set",
                    fix="unset HF_HUB_OFFLINE, or copy a filled HF_HOME to this machine",
                )
            cause = error.__cause__
            status = getattr(getattr(cause, "response", None), "status_code", None)
            answer = f"answered {status}" if status else "cannot be reached"
            return DownloadError(
                f"{repo}: {what} is not in the cache, and {constants.ENDPOINT} {answer}",
                fix="check the network and HF_ENDPOINT, then run it again",
            )
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return DownloadError(
                f"no space left for {what} of {repo}", fix="free some, or point HF_HOME to another disk"
            )
        if isinstance(error, PermissionError):
            return DownloadError(f"cannot write to the cache: {reason}", fix="point HF_HOME to a folder of yours")
        return DownloadError(f"{repo}: could not get {what}: {reason}", fix="run it again")


def cache_folder() -> Path:
    """Where conversions and statistics are kept: `$HF_HOME/gen-prior`."""
    return Path(constants.HF_HOME) / "gen-prior"


def converted_path(sha256: str) -> Path:
    """Where the safetensors conversion of the pickled file with this hash is, or would be."""
    return cache_folder() / "converted" / f"{sha256}.safetensors"


def convert(path: Path, sha256: str, source: str, revision: str | None) -> Path:
    """A pickled state dict -> its safetensors conversion in our cache, made once for each content.

    Where the cache cannot be written, the conversion goes to a temporary folder. Raises `WeightsError`.
    """
    target = converted_path(sha256)
    if target.is_file():
        try:
            read_shapes(target)
            return target
        except WeightsError:
            target.unlink(missing_ok=True)
    log.warning("%s is a pickled file: reading tensors only (weights_only=True), converting it to safetensors", source)
    tensors = _unpickle(path)
    metadata = {"format": "pt", "source": source, "sha256": sha256} | ({"revision": revision} if revision else {})
    try:
        save_safetensors(target, tensors, metadata)
    except OSError as error:
        log.warning("cannot keep the conversion in %s (%s)", target.parent, error)
        target = Path(tempfile.mkdtemp(prefix="gen-prior-")) / target.name
        save_safetensors(target, tensors, metadata)
    return target


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read raises
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a pickled dictionary of tensors") from error
    for wrapper in ("state_dict", "generator", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise WeightsError(f"{path} is not a pickled dictionary of tensors")
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        storage = value.untyped_storage().data_ptr()
        tensors[str(key)] = value.contiguous() if storage not in seen else value.clone()
        seen.add(storage)
    return tensors


def describe_bytes(path: Path) -> str:
    """What a file looks like that is not what it should be."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if start.lstrip()[:1] == b"<":
        return "a web page"
    return "damaged or of another kind"


def save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors` atomically and durably, with the mode that the umask gives. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        try:
            save_file(dict(tensors), partial, dict(metadata))
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file, without its data. Raises `WeightsError`."""
    with _open(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def read_file_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with _open(path) as file:
        return dict(file.metadata() or {})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, in memory of their own, all finite. Raises `WeightsError`."""
    tensors: dict[str, Tensor] = {}
    with _open(path) as file:
        for key in file.keys():  # noqa: SIM118
            value = file.get_tensor(key)
            if value.is_floating_point() and value.numel() and not all(map(math.isfinite, value.aminmax())):
                raise WeightsError(f"{path}: {key} holds values that are not finite")
            tensors[key] = value
    return tensors


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", backend="pread") as file:  # a mapped file would change under us
            yield file
    except SafetensorError as error:
        raise WeightsError(f"{path} is {describe_bytes(path)}, not a safetensors file ({error})") from error


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], file: str, network: str
) -> None:
    """Refuse tensors that are not exactly those of `network`. Raises `WeightsError` that lists what differs."""
    problems = []
    if missing := [key for key in expected if key not in found]:
        problems.append(f"lacks {_some(missing)}")
    if unexpected := [key for key in found if key not in expected]:
        problems.append(f"has {_some(unexpected)} besides")
    differing = [
        f"{key} {list(found[key])} where {list(shape)} is expected"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    if differing:
        problems.append(f"has {_some(differing)}")
    if problems:
        raise WeightsError(f"{file} does not fit {network}: it {'; it '.join(problems)}")


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def on_meta(build: Callable[[], nn.Module], file: str) -> nn.Module:
    """A network without memory for its weights; whatever its configuration breaks becomes a `WeightsError`."""
    try:
        with torch.device("meta"):
            return build()
    except GenPriorError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{file} describes no network that can be built: {reason}") from error


def fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str, name: str) -> nn.Module:
    """Give a network (of `on_meta`) its weights: exactly its own names and shapes, in float32. Copies nothing."""
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    check_shapes(shapes, {key: tuple(value.shape) for key, value in tensors.items()}, file, name)
    weights = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def check_config(config: Mapping[str, Any], file: str) -> None:
    """Refuse a configuration with numbers or lists beyond any real network. Raises `WeightsError`."""

    def check(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for inner, content in value.items():
                check(f"{key}.{inner}", content)
        elif isinstance(value, list):
            if len(value) > LARGEST_NUMBER:
                raise WeightsError(f"{file}: {key} has {len(value)} entries")
            for content in value:
                check(key, content)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            limit = MOST_LAYERS if re.search("layers|blocks|depth|repeat", key) else LARGEST_NUMBER
            if not abs(value) <= limit:
                raise WeightsError(f"{file}: {key} is {value}, the limit is {limit}")

    for key, value in config.items():
        check(key, value)


def _remove_from_cache(path: Path) -> None:
    blob = path.resolve()
    path.unlink(missing_ok=True)
    if blob.parent.name == "blobs":
        blob.unlink(missing_ok=True)


def _header(error: Exception, name: str) -> str | None:
    response = getattr(error, "response", None)
    return response.headers.get(name) if response is not None else None
