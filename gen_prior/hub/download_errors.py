"""Failures of the Hub's client -> `DownloadError` with what mends them."""

from __future__ import annotations

import errno

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gen_prior.errors import DownloadError


def one_line(error: BaseException) -> str:
    """First line of an error's message, at most 300 characters, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def download_error(error: Exception, repo: str, revision: str | None, names: tuple[str, ...]) -> DownloadError:
    """Explain `error`, raised while fetching the first of `names` that `repo` has at `revision`."""
    what = " or ".join(names)
    reason = one_line(error)
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
    if isinstance(error, ImportError):  # of the client, for the proxy that the environment names
        return DownloadError(
            f"the proxy of this environment cannot be used: {reason}",
            fix="pip install 'httpx[socks]', or unset ALL_PROXY, HTTPS_PROXY and HTTP_PROXY",
        )
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return DownloadError(f"cannot write to the cache: {reason}", fix="point HF_HOME to a folder of yours")
    return DownloadError(f"{repo}: could not get {what}: {reason}", fix="run it again")
