"""(repository, file name, revision) -> a file in the cache of huggingface_hub, with retries and errors with fixes."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from gen_prior.errors import DownloadError, GenPriorError, OptionError
from gen_prior.hub import fetch
from gen_prior.hub.download_errors import download_error, one_line
from gen_prior.hub.fetch import RemoteFile, is_network_error, repo_folder, retry_after
from gen_prior.util.files import atomic_write

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""Name of a blob in the cache: Git's SHA-1 of a small file, SHA-256 of a large one."""
REVISION = re.compile(r"(?!.*\.\.)\w[\w.+-]*(/[\w.+-]+)*")
WARM_SECONDS, COLD_SECONDS = 3.0, 20.0
"""Longest wait for a description of a file that is in the cache, and of one that is not."""
FORGET_AFTER = 60.0
"""Seconds after a failure during which cached files are taken without asking the server again."""

T = TypeVar("T")


class RepoSpec(NamedTuple):
    """The parts of `org/name[/folder][@revision]`."""

    repo: str
    folder: str
    revision: str | None


def parse_repo(text: str) -> RepoSpec:
    """Parse `org/name[/folder][@revision]`. Raises `OptionError`."""
    path, at, revision = text.partition("@")
    parts = path.split("/")
    if len(parts) < 2 or (at and not revision) or any(part in ("", ".", "..") for part in parts):
        raise OptionError(f"{text!r} is not the name of a repository", fix="write it as org/name or org/name@revision")
    check_revision(revision or "main")
    try:
        validate_repo_id("/".join(parts[:2]))
    except HFValidationError as error:
        raise OptionError(f"{text!r} is not the name of a repository: {error}", fix="write it as org/name") from error
    return RepoSpec("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


def check_revision(revision: str) -> None:
    """Raise `OptionError` for text that cannot name a branch, tag or commit: it becomes the name of a file."""
    if not REVISION.fullmatch(revision):
        raise OptionError(f"{revision!r} is not a revision", fix="name a branch, a tag or a commit")


class Download(NamedTuple):
    """The answer for one file: its path, None where the repository has none; its commit, where known."""

    path: Path | None
    commit: str | None = None


def download(repo: str, name: str, revision: str, *, offline: bool = False) -> Download:
    """Find file `name` of `repo` in the cache, or download it.

    A cached file of a commit needs no request. That of a branch is taken as it is where the server does not answer
    within `WARM_SECONDS`, or did not lately.

    Raises `DownloadError`, `WeightsError` for other bytes than announced, and `LocalEntryNotFoundError` where the file
    is not cached and the Hub cannot be reached, or must not (`offline`).
    """
    cached = _cached(repo, name, revision)
    if cached is not None and COMMIT.fullmatch(revision):
        return cached
    if cached is not None and (offline or _failed_lately()):
        return cached
    if offline or constants.HF_HUB_OFFLINE:
        raise LocalEntryNotFoundError(f"{name} of {repo} is not in the cache")
    try:
        found = _with_attempts(name, lambda: _described(repo, name, revision, cached is not None), cached is not None)
    except RevisionNotFoundError as error:
        raise download_error(error, repo, revision, (name,)) from error
    except EntryNotFoundError as error:
        return Download(None, _note_absence(repo, name, revision, error))
    except Exception as error:
        if is_network_error(error):
            _failures[constants.ENDPOINT] = time.monotonic()
        if cached is not None:
            log.info("%s: taken from the cache (%s)", name, one_line(error))
            return cached
        if isinstance(error, GenPriorError):
            raise
        if is_network_error(error):
            raise LocalEntryNotFoundError(f"{name} of {repo} is not in the cache") from error
        raise download_error(error, repo, revision, (name,)) from error
    _failures.pop(constants.ENDPOINT, None)
    try:
        path = fetch.fetch(found)
    except Exception as error:
        if cached is not None:
            log.warning("%s: taken from the cache, at commit %s (%s)", name, cached.commit, one_line(error))
            return cached
        if isinstance(error, GenPriorError):
            raise
        raise download_error(error, repo, revision, (name,)) from error
    _note_revision(repo, revision, found.commit)
    return Download(path, found.commit)


def _cached(repo: str, name: str, revision: str) -> Download | None:
    """The cache's answer for a file: its path, that its repository has none, or None if it knows nothing of it."""
    try:
        found = try_to_load_from_cache(repo, name, revision=revision)
    except (OSError, ValueError):  # a damaged record of a revision
        return None
    if found is None:
        return None
    if not isinstance(found, str):
        return Download(None)
    commit = Path(found).parents[name.count("/")].name
    return Download(Path(found), commit if COMMIT.fullmatch(commit) else None)


_failures: dict[str, float] = {}
"""Endpoint -> time of its last failure."""


def _failed_lately() -> bool:
    failed = _failures.get(constants.ENDPOINT)
    return constants.HF_HUB_OFFLINE or (failed is not None and time.monotonic() - failed < FORGET_AFTER)


def _with_attempts(name: str, ask: Callable[[], T], warm: bool) -> T:
    """`ask()`, again after broken connections; once only for a file that is cached, or after a failure lately."""
    for wait in () if warm or _failed_lately() else fetch.RETRY_WAITS:
        try:
            return ask()
        except Exception as error:
            if not is_network_error(error):
                raise
            log.warning("%s: %s; trying again in %g s", name, one_line(error), wait)
            time.sleep(max(wait, retry_after(error)))
    return ask()


def _described(repo: str, name: str, revision: str, warm: bool) -> RemoteFile:
    """Ask the server for commit, hash and size of a file. Raises `DownloadError` where they cannot be what they say."""
    seconds = WARM_SECONDS if warm else COLD_SECONDS
    url = hf_hub_url(repo, name, revision=revision)
    timeout = min(seconds, constants.HF_HUB_ETAG_TIMEOUT)
    answer = _within(seconds, lambda: get_hf_file_metadata(url, timeout=timeout))
    commit, etag = answer.commit_hash or "", answer.etag or ""
    if not COMMIT.fullmatch(commit) or not HASH.fullmatch(etag):
        stated = f"commit {commit[:50]!r} and hash {etag[:70]!r}"
        raise DownloadError(
            f"{constants.ENDPOINT} gives {repo}/{name} the {stated}, which no Hub does",
            fix="check HF_ENDPOINT, proxies and the login page of the network",
        )
    if COMMIT.fullmatch(revision) and commit != revision:
        raise DownloadError(f"{constants.ENDPOINT} answers for commit {commit} of {repo} instead of {revision}")
    return RemoteFile(repo, name, commit, etag, answer.size)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """`call()`, in a thread: name look-ups and answers that trickle in have no time limit of their own.

    Raises `TimeoutError` after `seconds`.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]


def _note_absence(repo: str, name: str, revision: str, error: Exception) -> str | None:
    """Record that the answered commit has no such file, and return the commit; None for one that cannot be."""
    response = getattr(error, "response", None)
    commit = response.headers.get("X-Repo-Commit", "") if response is not None else ""
    if not COMMIT.fullmatch(commit):
        return None
    _write_note(repo_folder(repo) / ".no_exist" / commit / name, "")
    _note_revision(repo, revision, commit)
    return str(commit)


def _note_revision(repo: str, revision: str, commit: str) -> None:
    if not COMMIT.fullmatch(revision):
        _write_note(repo_folder(repo) / "refs" / revision, commit)


def _write_note(path: Path, text: str) -> None:
    """Write a small record of the cache, unless it says so already or the cache is read-only."""
    try:
        if path.is_file() and path.read_text() == text:
            return
        with atomic_write(path) as (part,):
            part.write_text(text)
    except OSError as error:
        log.info("cannot note %s (%s)", path, error)


def remove_from_cache(path: Path) -> bool:
    """Delete the damaged file `path` of a snapshot, and its content; False where the cache is read-only."""
    blob = path.resolve()
    try:
        path.unlink(missing_ok=True)
        if blob.parent.name == "blobs":
            blob.unlink(missing_ok=True)
    except OSError:
        return False
    return True
