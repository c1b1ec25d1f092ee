"""File names in a Hub repository or a folder -> paths of checked local files.

Downloads, cache, tokens and offline mode are those of huggingface_hub (`HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`).
This module adds one commit for all files of a load, hash checks, and errors with a fix. Nothing from a repository is
ever executed, and nothing whole is deleted from the cache.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import LocalEntryNotFoundError

from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.hub.convert import convert, find_converted
from gen_prior.hub.download import HASH, RepoSpec, check_revision, download, parse_repo, remove_from_cache
from gen_prior.hub.download_errors import download_error
from gen_prior.hub.fetch import content_hash
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.registry import Entry
from gen_prior.hub.strict_loading import check_config
from gen_prior.hub.tensors import HashedPath, hashed, read_file_metadata
from gen_prior.util.files import is_folder
from gen_prior.util.reading import open_regular, read_regular

log = logging.getLogger(__name__)

MAX_CONFIG_BYTES = 64 * 2**20
"""Bytes."""


class Files:
    """The files of a repository at one commit, or of a folder; made by `from_hub` or `from_folder`.

    Attributes:
        source: "hf-hub:org/name[/folder]" or "local-dir:path".
        revision: the commit, once the first file was found; None for folders.
        sha256: `{name: hex digest}` of every file used so far.
    """

    def __init__(self, source: str, *, repo: RepoSpec | None, folder: Path | None, known: Mapping[str, str]) -> None:
        self.source = source
        self.revision: str | None = None
        self.sha256: dict[str, str] = {}
        self._repo, self._folder, self._known = repo, folder, known
        self._stated: dict[str, str] = {}

    @classmethod
    def from_hub(cls, text: str, *, revision: str | None = None, sha256: Mapping[str, str] | None = None) -> Files:
        """Files of the repository `org/name[/folder][@revision]`; `sha256` is `{name: expected hex digest}`.

        `revision` overrides that of `text`. Raises `OptionError` for a name that cannot be one.
        """
        if revision is not None and not isinstance(revision, str):
            raise OptionError(f"revision must be text, got {revision!r}", fix=f"quote it: revision='\"{revision}\"'")
        spec = parse_repo(text)
        check_revision(revision or spec.revision or "main")
        spec = spec._replace(revision=revision or spec.revision or "main")
        where = "/".join(part for part in (spec.repo, spec.folder) if part)
        return cls(f"hf-hub:{where}", repo=spec, folder=None, known=sha256 or {})

    @classmethod
    def of_entry(cls, entry: Entry, revision: str | None = None) -> Files:
        """Files of a registered model on the Hub; `revision` overrides the registered one."""
        return cls.from_hub(entry.repo or "", revision=revision or entry.revision, sha256=entry.sha256)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Files:
        """Files of a local folder. Raises `WeightsError` where it does not exist."""
        path = Path(folder).expanduser()
        if not is_folder(path):
            raise WeightsError(f"no folder {folder}", fix="pass a folder that holds the weights and their config")
        return cls(f"local-dir:{folder}", repo=None, folder=path, known={})

    def get(self, *names: str) -> HashedPath:
        """Local path, with its hash, of the first of `names` that exists, downloaded and checked.

        Raises `DownloadError` (for a folder, `WeightsError`) where none exists, `WeightsError` for a wrong hash.
        """
        return self._get(names)[1]

    def find(self, *names: str) -> HashedPath | None:
        """As `get`, or None where none of `names` exists."""
        found = self._find(names)
        return found[1] if found is not None else None

    def find_optional(self, *names: str) -> HashedPath | None:
        """As `find`, and also None where the download fails."""
        try:
            return self.find(*names)
        except DownloadError as error:
            log.info("skipped: %s", error)
            return None

    def _get(self, names: tuple[str, ...]) -> tuple[str, HashedPath]:
        found = self._find(names)
        if found is None:
            message = f"{self._title()} has no {' or '.join(names)}"
            raise DownloadError(message, fix="check the name and the revision") if self._repo else WeightsError(message)
        return found

    def _find(self, names: tuple[str, ...]) -> tuple[str, HashedPath] | None:
        if self._folder is not None:
            for name in names:
                if (self._folder / name).is_file():
                    found = hashed(self._folder / name)
                    self.sha256[name] = str(found.sha256)
                    return name, found
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
                return name, self._checked(path, name)
        if absent is not None:
            raise download_error(absent, self._repo.repo, self._repo.revision, names) from absent
        return None

    def json(self, *names: str) -> dict[str, Any]:
        """Read the JSON object in the first of `names` that exists. Raises as `get`, `WeightsError` for a bad one."""
        path = self.get(*names)
        try:
            config = json.loads(read_regular(path, limit=MAX_CONFIG_BYTES).decode())
            if not isinstance(config, dict):
                raise ValueError(f"holds a {type(config).__name__}")
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is not a JSON object: {error}", fix=self._fix()) from error
        check_config(config, str(path))
        return config

    def weights(self, *names: str) -> Path:
        """Path of the first of `names` that exists, or of its conversion to safetensors. Raises as `get`."""
        name, path = self._get(names)
        if name.endswith(".safetensors"):
            self._stated = read_file_metadata(path)
            return path
        digest = self.sha256[name]
        if (converted := find_converted(digest)) is None:
            converted = convert(path, digest, f"{self.source}/{name}", self.revision)
        return converted

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn failures inside the block into `WeightsError`, since foreign files make libraries fail in any way.

        Errors about the caller's options pass, as does `MemoryError`.
        """
        try:
            yield
        except WeightsError as error:
            if error.fix is None:
                raise WeightsError(error.message, fix=self._fix()) from error
            raise
        except (GenPriorError, MemoryError):
            raise
        except OSError as error:
            raise WeightsError(f"{self._title()} cannot be read: {error}") from error
        except Exception as error:
            if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
                raise  # an unknown option: `find_loader` explains it
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            read = " or ".join(self.sha256) or "its files"
            raise WeightsError(f"{self._title()}: {read} cannot be used ({reason[:300]})", fix=self._fix()) from error

    def provenance(self, *, licence: str | None = None, paper: str | None = None) -> Provenance:
        """Record of the files used; a licence or paper not given is read from the metadata of the weights."""
        licence, paper = licence or self._stated.get("licence"), paper or self._stated.get("paper")
        return Provenance(self.source, self.revision, dict(self.sha256), licence, paper)

    def _download(self, name: str, offline: bool) -> Path | None:
        assert self._repo is not None
        found = download(self._repo.repo, name, self.revision or self._repo.revision or "main", offline=offline)
        self.revision = self.revision or found.commit
        return found.path

    def _checked(self, path: Path, name: str) -> HashedPath:
        """`path` with its SHA-256, after a check against the hash that names it in the cache, and the known one."""
        etag, known = path.resolve().name, self._known.get(name)
        expected = known or (etag if len(etag) == 64 and HASH.fullmatch(etag) else None)
        if expected is not None and not name.endswith(".safetensors") and find_converted(expected) is not None:
            self.sha256[name] = expected  # its conversion is read instead
            return hashed(path, expected)
        found = hashed(path)
        digest = self.sha256[name] = str(found.sha256)
        if HASH.fullmatch(etag) and (digest if len(etag) == 64 else _git_sha1(path)) != etag:
            removed = remove_from_cache(path)
            raise WeightsError(
                f"{self._title()}: {name} has SHA-256 {digest[:16]}... in the cache, which is not what was downloaded: "
                f"it is damaged{', and was removed' if removed else ''}",
                fix="run it again, which downloads it again" if removed else f"the cache is read-only: delete {path}",
            )
        if known is not None and digest != known:
            raise WeightsError(
                f"{self._title()}: {name} has SHA-256 {digest[:16]}..., expected {known[:16]}...", fix=self._fix()
            )
        return found

    def _title(self) -> str:
        revision = self.revision or (self._repo.revision if self._repo else None)
        return f"{self.source}@{revision}" if revision else self.source

    def _fix(self) -> str | None:
        return "use another revision: org/name@revision" if self._repo else "export or download the folder again"


def _git_sha1(path: Path) -> str:
    """Hash by which Git names the content of a file."""
    with open_regular(path) as file:
        return content_hash(file, "0" * 40, os.fstat(file.fileno()).st_size)
