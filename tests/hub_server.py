"""A local server that speaks the Hub's file protocol, with faults on request, and runs client code against it.

Run as a fixture: `hub = Hub(); hub.publish("org/name", {"config.json": b"..."})`, then `hub.run(code, home)` in a
process of its own, since huggingface_hub reads its environment when it is imported. Large files are redirected to a
second port, as the Hub redirects to its storage.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

LARGE = 1 << 20
Fault = Callable[[BaseHTTPRequestHandler, bytes], bool]
"""(handler, body) -> whether it has answered; asked before every GET of a body."""


@dataclass
class Repo:
    """One repository: commit -> name -> bytes; branch -> commit."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False


class Hub:
    """The server. Attributes to set, by file name: `faults` and `head_faults` (a `Fault`), `head_status` (statuses, one
    a request), `etags` and `commits` (what the server states instead of the truth)."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, Fault] = {}
        self.head_status: dict[str, list[int]] = {}
        self.requests: Counter[str] = Counter()
        self.storage_saw_token = False
        self.etags: dict[str, str] = {}
        self.commits: dict[str, str] = {}
        self.head_faults: dict[str, Fault] = {}
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, storage)) for storage in (False, True)]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(
        self, name: str, files: Mapping[str, bytes | Path], branch: str = "main", commit: str | None = None
    ) -> str:
        """Add a commit with these files; returns its hash."""
        repo = self.repos.setdefault(name, Repo())
        contents = {file: data.read_bytes() if isinstance(data, Path) else data for file, data in files.items()}
        digest = hashlib.sha1(b"".join(key.encode() + contents[key][:64] for key in sorted(contents))).hexdigest()
        commit = commit or digest
        repo.commits[commit] = contents
        repo.branches[branch] = commit
        return commit

    def environment(self, home: Path, **extra: str) -> dict[str, str]:
        """Environment of a client that knows only this server."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        return kept | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "3",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "127.0.0.1",
            **extra,
        }

    def start(self, code: str, home: Path, **extra: str) -> subprocess.Popen[str]:
        """Start a Python process that runs `code` against this server."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + code],
            env=self.environment(home, **extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, home: Path, **extra: str) -> dict[str, Any]:
        """Run `code`; what it passed to `say(**values)`, or `{"error": kind, "message": text}` of a library error."""
        process = self.start(code, home, **extra)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer | {"log": err}


PRELUDE = """
import atexit, json, logging, sys
logging.basicConfig(level="WARNING")
from gen_prior.errors import GenPriorError
def say(**values):
    print(json.dumps(values))
def complain(kind, error, trace):
    if issubclass(kind, GenPriorError):
        print(json.dumps({"error": kind.__name__, "message": str(error)}), flush=True)
        atexit._run_exitfuncs()
        import os
        os._exit(0)
    sys.__excepthook__(kind, error, trace)
sys.excepthook = complain
"""


def _handler(hub: Hub, storage: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def answer(self, *, body: bool) -> None:
            repo_name, _, rest = unquote(self.path).strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            where = "storage" if storage else "hub"
            hub.requests[f"{self.command} {where} {file}"] += 1
            repo = hub.repos.get(repo_name)
            signed_in = self.headers.get("Authorization")
            if storage and signed_in:
                hub.storage_saw_token = True
            if repo is None:
                return self.refuse(401 if not signed_in else 404, "RepoNotFound")
            if not storage and repo.token is not None and signed_in != f"Bearer {repo.token}":
                return self.refuse(403 if repo.gated else 401, "GatedRepo" if repo.gated else "RepoNotFound")
            commit = repo.branches.get(revision, revision)
            if commit not in repo.commits:
                return self.refuse(404, "RevisionNotFound")
            if file not in repo.commits[commit]:
                return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": hub.commits.get(file, commit)})
            if not body and (fault := hub.head_faults.get(file)) is not None and fault(self, b""):
                return None
            if not body and (statuses := hub.head_status.get(file)):
                return self.refuse(statuses.pop(0), "")
            data = repo.commits[commit][file]
            large = len(data) >= LARGE or file.endswith((".bin", ".pt", ".safetensors"))
            etag = hub.etags.get(file) or (hashlib.sha256(data) if large else git_sha1(data)).hexdigest()
            stated = hub.commits.get(file, commit)
            headers = {"X-Repo-Commit": stated, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            if large and not storage:
                headers |= {
                    "X-Linked-Etag": f'"{etag}"',
                    "X-Linked-Size": str(len(data)),
                    "Location": f"{hub.storage}/{repo_name}/resolve/{commit}/{file}",
                }
                return self.send(302, headers, b"", body)
            if body and (fault := hub.faults.get(file)) is not None and fault(self, data):
                return None
            if body and (span := self.headers.get("Range")):
                start = int(span.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                return self.send(206, headers, data[start:], body)
            return self.send(200, headers, data, body)

        def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
            self.send(status, {"X-Error-Code": code, **(headers or {})}, b"", True)

        def send(self, status: int, headers: Mapping[str, str], data: bytes, body: bool) -> None:
            try:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


def status_once(*statuses: int, headers: Mapping[str, str] | None = None) -> Fault:
    """Answers with these statuses, one a request, then no more."""
    left = list(statuses)

    def fault(handler: Any, data: bytes) -> bool:
        if not left:
            return False
        handler.send(left.pop(0), headers or {}, b"", True)
        return True

    return fault


def cut_once(after: int) -> Fault:
    """Announces the whole body, breaks the connection after so many bytes, once."""
    left = [True]

    def fault(handler: Any, data: bytes) -> bool:
        if not left:
            return False
        left.clear()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return fault


def reset(handler: Any, data: bytes) -> bool:
    """Breaks the connection without an answer: the client sees a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
    return True


def silent(seconds: float) -> Fault:
    """Takes the request and says nothing for so long, then breaks the connection."""

    def fault(handler: Any, data: bytes) -> bool:
        time.sleep(seconds)
        handler.close_connection = True
        return True

    return fault


def git_sha1(data: bytes) -> Any:
    """Git's hash of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data)


def left_in_cache(home: Path) -> list[str]:
    """Names of files that no load may leave: partial downloads, links to nothing, blobs that are not what they say."""
    found = []
    for path in home.rglob("*"):
        if path.is_symlink() and not path.exists():
            found.append(path.name)
        elif path.is_file() and path.parent.name == "blobs":
            data = path.read_bytes()
            if path.name not in (hashlib.sha256(data).hexdigest(), git_sha1(data).hexdigest()):
                found.append(path.name)
    return found


def kept_in_cache(home: Path) -> list[str]:
    """Names of the files with content in a cache: blobs, links of snapshots and conversions."""
    kept = [path for path in home.rglob("*") if path.parent.name in ("blobs", "converted") or path.is_symlink()]
    return sorted(path.name for path in kept)
