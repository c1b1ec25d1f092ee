"""(repository, file name, revision) -> a file in the cache, by huggingface_hub, with retries and errors with fixes."""

from __future__ import annotations

import errno
import logging
import re
import time
from pathlib import Path
from typing import NamedTuple

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

from gen_prior.errors import DownloadError, OptionError

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
RETRY_WAITS = (1.0, 2.0, 4.0)
"""Seconds between attempts after an answer 5xx; huggingface_hub itself waits after a 429."""


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
    try:
        validate_repo_id("/".join(parts[:2]))
    except HFValidationError as error:
        raise OptionError(f"{text!r} is not the name of a repository: {error}", fix="write it as org/name") from error
    return RepoSpec("/".join(parts[:2]), "/".join(parts[2:]), revision or None)


class Download(NamedTuple):
    """The answer for one file: its path, None where the repository has none; its commit, where known."""

    path: Path | None
    commit: str | None = None
    is_new: bool = False
    """True if the file was not in the cache before."""


def download(repo: str, name: str, revision: str, *, offline: bool = False) -> Download:
    """Find file `name` of `repo` in the cache, or download it; a cached file of a commit needs no request.

    Raises `DownloadError`, and `LocalEntryNotFoundError` where the Hub cannot be reached, or must not (`offline`).
    """
    cached = try_to_load_from_cache(repo, name, revision=revision)
    known_absent = cached is not None and not isinstance(cached, str)
    if COMMIT.fullmatch(revision):
        if isinstance(cached, str):
            return Download(Path(cached), _commit(cached, name))
        if known_absent:
            return Download(None)
    for wait in (*RETRY_WAITS, None):
        try:
            found = hf_hub_download(repo, name, revision=revision, local_files_only=offline)
            break
        except LocalEntryNotFoundError:
            if known_absent:
                return Download(None)
            raise
        except RevisionNotFoundError as error:
            raise download_error(error, repo, revision, (name,)) from error
        except EntryNotFoundError as error:
            response = getattr(error, "response", None)
            commit = response.headers.get("X-Repo-Commit") if response is not None else None
            return Download(None, commit if commit is not None and COMMIT.fullmatch(commit) else None)
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status < 500 or wait is None:
                raise download_error(error, repo, revision, (name,)) from error
            log.warning("%s: the server answered %d, trying again in %g s", name, status, wait)
            time.sleep(wait)
        except (OSError, ValueError, RuntimeError) as error:
            raise download_error(error, repo, revision, (name,)) from error
    return Download(Path(found), _commit(found, name), is_new=not isinstance(cached, str))


def _commit(path: str, name: str) -> str | None:
    commit = Path(path).parents[name.count("/")].name
    return commit if COMMIT.fullmatch(commit) else None


def download_error(error: Exception, repo: str, revision: str | None, names: tuple[str, ...]) -> DownloadError:
    """Explain `error`, raised while fetching the first of `names` that `repo` has at `revision`."""
    what = " or ".join(names)
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
        return DownloadError(
            f"{repo} has no revision {revision!r}",
            fix=f"name a branch, tag or commit of it: {repo}@REVISION, or gen-prior pull NAME --revision REVISION",
        )
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
        return DownloadError(f"no space left for {what} of {repo}", fix="free some, or point HF_HOME to another disk")
    if isinstance(error, PermissionError):
        return DownloadError(f"cannot write to the cache: {reason}", fix="point HF_HOME to a folder of yours")
    return DownloadError(f"{repo}: could not get {what}: {reason}", fix="run it again")


def remove_from_cache(path: Path, *, damaged: bool = False) -> None:
    """Delete the file `path` of a snapshot from the Hub's cache.

    Its content goes too where it is `damaged` or no other snapshot shares it.
    """
    blob = path.resolve()
    path.unlink(missing_ok=True)
    if blob.parent.name == "blobs" and (damaged or not _is_linked(blob)):
        blob.unlink(missing_ok=True)


def _is_linked(blob: Path) -> bool:
    snapshots = blob.parent.parent / "snapshots"
    return any(link.is_symlink() and link.resolve() == blob for link in snapshots.rglob("*"))
