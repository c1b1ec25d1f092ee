"""One file of a repository -> a whole, verified file in the cache of huggingface_hub, or nothing.

The bytes go to a temporary file and take their name in the cache only after their hash is the one that the server
announced. A download that breaks off goes on where it was, also in a later process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    WeakFileLock,
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from gen_prior.errors import WeightsError
from gen_prior.hub.download_errors import one_line
from gen_prior.util.files import atomic_write

log = logging.getLogger(__name__)

RETRY_WAITS = (1.0, 2.0, 4.0)
"""Seconds between attempts after a broken connection or an answer 408, 429 or 5xx."""
PROGRESS = 1 << 20
"""Bytes after which a broken download counts as a first attempt again."""
BLOCK = 1 << 20
STALE = 7 * 86400.0
"""Seconds after which the partial download of a process that was killed is deleted."""
LONGEST_WAIT = 60.0
"""Seconds that a server can make us wait by `Retry-After`."""


class RemoteFile(NamedTuple):
    """A file as the server describes it: commit (40 hex digits), hash (Git's SHA-1, or SHA-256), size if stated."""

    repo: str
    name: str
    commit: str
    etag: str
    size: int | None


def repo_folder(repo: str) -> Path:
    """Folder of `org/name` in the cache of huggingface_hub."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def fetch(file: RemoteFile) -> Path:
    """Download `file` unless the cache holds its content, and return its path in the snapshot of its commit.

    Raises the errors of the HTTP client (`is_network_error`) for a connection that stays broken, `WeightsError` for
    other bytes than announced, `OSError` where the cache cannot be written.
    """
    folder = repo_folder(file.repo)
    blob, link = folder / "blobs" / file.etag, folder / "snapshots" / file.commit / file.name
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / folder.name / f"{file.etag}.lock"
    for needed in (blob, link, lock):
        needed.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # for economy only: two downloads at once do not harm each other
        if not blob.is_file():
            _download(file, blob)
        _link(blob, link)
    return link


def content_hash(data: BinaryIO, etag: str, size: int) -> str:
    """Hash of `size` bytes of `data` as hex digits: Git's SHA-1 of a file where `etag` has 40 digits, else SHA-256."""
    digest = _hasher(etag, size)
    while block := data.read(BLOCK):
        digest.update(block)
    return str(digest.hexdigest())


def _hasher(etag: str, size: int) -> Any:
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if len(etag) == 40 else hashlib.sha256()


def _download(file: RemoteFile, blob: Path) -> None:
    """Write the content of `file` to `blob`, and check it before it takes that name.

    Content that came in several pieces and is wrong is fetched once more from its beginning: any piece may have been
    another page.
    """
    partial = _partial(blob)
    in_pieces = _transfer(file, partial)
    if (digest := _digest(file, partial)) != file.etag and in_pieces:
        log.warning("%s: its pieces do not fit; going back to its beginning", file.name)
        partial.unlink()
        _transfer(file, partial)
        digest = _digest(file, partial)
    if digest != file.etag:
        partial.unlink()
        kind = "SHA-256" if len(file.etag) == 64 else "Git's SHA-1"
        raise WeightsError(
            f"hf-hub:{file.repo}@{file.commit}: {file.name} has {kind} {digest[:16]}..., expected {file.etag[:16]}..., "
            "and was removed",
            fix="run it again, which downloads it again",
        )
    mask = os.umask(0)
    os.umask(mask)
    partial.chmod(0o666 & ~mask)
    partial.replace(blob)


def _transfer(file: RemoteFile, partial: Path) -> bool:
    """Fetch what `partial` lacks of `file`, in one attempt or several; returns whether it came in several pieces."""
    attempts = iter(RETRY_WAITS)
    in_pieces = False
    try:
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            in_pieces |= before > 0
            try:
                _receive(file, partial, before)
                return in_pieces
            except Exception as error:
                if not is_network_error(error):
                    raise
                if partial.exists() and partial.stat().st_size >= before + PROGRESS:
                    attempts = iter(RETRY_WAITS)
                if (wait := next(attempts, None)) is None:
                    raise
                log.warning("%s: %s; going on in %g s", file.name, one_line(error), wait)
                time.sleep(max(wait, retry_after(error)))
    except OSError as error:
        if not is_network_error(error):
            partial.unlink(missing_ok=True)  # a full disk: make room for others
        raise


def _digest(file: RemoteFile, partial: Path) -> str:
    """Hash of the file that arrived, which is on the disk afterwards."""
    with partial.open("rb+") as data:
        digest = content_hash(data, file.etag, os.fstat(data.fileno()).st_size)
        os.fsync(data.fileno())
    return digest


def _receive(file: RemoteFile, partial: Path, start: int) -> None:
    """Append the rest of `file`, from byte `start`, to `partial`.

    Raises the errors of the HTTP client, `OSError` for an answer that is too short or too long.
    """
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    if start and start == file.size:
        return
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        if response.status_code == 416:  # what we hold is no beginning of the file
            partial.unlink(missing_ok=True)
            raise TransferError("the server cannot go on where the download was")
        hf_raise_for_status(response)
        continues = start and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        size = start = start if continues else 0
        with partial.open("ab" if continues else "wb") as out:
            for block in response.iter_bytes():
                size += len(block)
                if file.size is not None and size > file.size:
                    out.truncate(0)
                    raise TransferError(f"more than the {file.size} bytes that were announced")
                out.write(block)
    if file.size is not None and size < file.size:
        raise TransferError(f"the answer ended after {size} of {file.size} bytes")


class TransferError(OSError):
    """An answer of the wrong length: worth another attempt."""


def _partial(blob: Path) -> Path:
    """A temporary file of this process for `blob`; that of a process of this machine that has died is taken over."""
    mine = f"{blob.name}.{socket.gethostname()}-{os.getpid()}.incomplete"
    for left in blob.parent.glob("*.incomplete"):
        if time.time() - left.stat().st_mtime > STALE:
            left.unlink(missing_ok=True)
            continue
        match = re.fullmatch(rf"{blob.name}\.{re.escape(socket.gethostname())}-(\d+)\.incomplete", left.name)
        if match and not _is_alive(int(match[1])):
            left.replace(blob.parent / mine)
    return blob.parent / mine


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _link(blob: Path, link: Path) -> None:
    """Give `blob` the name `link` in a snapshot: a relative link, or a copy where the file system has none."""
    if link.is_file():
        return
    with atomic_write(link) as (made,):
        made.unlink()
        try:
            made.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:
            shutil.copyfile(blob, made)


def is_network_error(error: BaseException) -> bool:
    """True for a failure that another attempt may mend: a broken connection, or an answer 408, 429 or 5xx."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in (408, 429) or response.status_code >= 500
    clients = ("httpx", "httpx2", "httpcore", "httpcore2")  # the client of huggingface_hub, by version
    from_client = any(kind.__module__.partition(".")[0] in clients for kind in type(error).__mro__)
    return from_client or isinstance(error, TransferError | TimeoutError | ConnectionError)


def retry_after(error: BaseException) -> float:
    """Seconds that the server asked us to wait with an answer 429, at most `LONGEST_WAIT`; 0 otherwise."""
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdecimal() else 0.0
