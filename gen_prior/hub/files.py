"""File names in a Hub repository or a folder -> paths of checked local files.

Downloads, cache, tokens and offline mode are those of huggingface_hub (`HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`).
This module adds one commit for all files of a load, SHA-256 checks, and errors with a fix. Nothing from a repository
is ever executed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import LocalEntryNotFoundError

from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.hub.convert import convert, find_converted
from gen_prior.hub.download import RepoSpec, download, download_error, parse_repo, remove_from_cache
from gen_prior.hub.provenance import Provenance
from gen_prior.hub.strict_loading import check_config
from gen_prior.hub.tensors import file_sha256, read_file_metadata

log = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST_CONFIG = 64 * 2**20
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
        self._fetched: list[Path] = []
        self._converted: list[Path] = []
        self._stated: dict[str, str] = {}

    @classmethod
    def from_hub(cls, text: str, *, revision: str | None = None, sha256: Mapping[str, str] | None = None) -> Files:
        """Files of the repository `org/name[/folder][@revision]`; `sha256` is `{name: expected hex digest}`.

        `revision` overrides that of `text`. Raises `OptionError` for a name that cannot be one.
        """
        if revision is not None and not isinstance(revision, str):
            raise OptionError(f"revision must be text, got {revision!r}", fix=f"quote it: revision='\"{revision}\"'")
        spec = parse_repo(text)
        spec = spec._replace(revision=revision or spec.revision or "main")
        where = "/".join(part for part in (spec.repo, spec.folder) if part)
        return cls(f"hf-hub:{where}", repo=spec, folder=None, known=sha256 or {})

    @classmethod
    def from_folder(cls, folder: str | Path) -> Files:
        """Files of a local folder. Raises `WeightsError` where it does not exist."""
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise WeightsError(f"no folder {folder}", fix="pass a folder that holds the weights and their config")
        return cls(f"local-dir:{folder}", repo=None, folder=path, known={})

    def get(self, *names: str) -> Path:
        """Local path of the first of `names` that exists, downloaded and checked.

        Raises `DownloadError` (for a folder, `WeightsError`) where none exists, `WeightsError` for a wrong hash.
        """
        return self._get(names)[1]

    def find(self, *names: str) -> Path | None:
        """As `get`, or None where none of `names` exists."""
        found = self._find(names)
        return found[1] if found is not None else None

    def find_optional(self, *names: str) -> Path | None:
        """As `find`, and also None where the download fails."""
        try:
            return self.find(*names)
        except DownloadError as error:
            log.info("skipped: %s", error)
            return None

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
            raise download_error(absent, self._repo.repo, self._repo.revision, names) from absent
        return None

    def json(self, *names: str) -> dict[str, Any]:
        """Read the JSON object in the first of `names` that exists. Raises as `get`, `WeightsError` for a bad one."""
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
        """Path of the first of `names` that exists, or of its conversion to safetensors. Raises as `get`."""
        name, path = self._get(names)
        if name.endswith(".safetensors"):
            self._stated = read_file_metadata(path)
            return path
        digest = self.sha256[name]
        if (converted := find_converted(digest)) is None:
            converted = convert(path, digest, f"{self.source}/{name}", self.revision)
            self._converted.append(converted)
        return converted

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn failures inside the block into `WeightsError`, after deleting from the cache what this load put there.

        Foreign files make libraries fail in any way. Errors about the caller's options pass, as does `MemoryError`.
        """
        try:
            yield
        except WeightsError as error:
            self._forget()
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
            self._forget()
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            read = " or ".join(self.sha256) or "its files"
            raise WeightsError(f"{self._title()}: {read} cannot be used ({reason[:300]})", fix=self._fix()) from error

    def _forget(self) -> None:
        for path in self._fetched:
            remove_from_cache(path)
        for path in self._converted:
            path.unlink(missing_ok=True)

    def provenance(self, *, licence: str | None = None, paper: str | None = None) -> Provenance:
        """Record of the files used; a licence or paper not given is read from the metadata of the weights."""
        licence, paper = licence or self._stated.get("licence"), paper or self._stated.get("paper")
        return Provenance(self.source, self.revision, dict(self.sha256), licence, paper)

    def _download(self, name: str, offline: bool) -> Path | None:
        assert self._repo is not None
        found = download(self._repo.repo, name, self.revision or self._repo.revision or "main", offline=offline)
        self.revision = self.revision or found.commit
        if found.path is not None and found.is_new:
            self._fetched.append(found.path)
        return found.path

    def _check(self, path: Path, name: str) -> None:
        etag = path.resolve().name
        known = self._known.get(name) or (etag if SHA256.fullmatch(etag) else None)
        if known is not None and not name.endswith(".safetensors") and find_converted(known) is not None:
            self.sha256[name] = known  # its conversion is read instead
            return
        digest = file_sha256(path)
        if known is not None and digest != known:
            remove_from_cache(path, damaged=digest != etag)
            raise WeightsError(
                f"{self._title()}: {name} has SHA-256 {digest[:16]}..., expected {known[:16]}..., and was removed",
                fix="run it again, which downloads it again",
            )
        self.sha256[name] = digest

    def _title(self) -> str:
        revision = self.revision or (self._repo.revision if self._repo else None)
        return f"{self.source}@{revision}" if revision else self.source

    def _fix(self) -> str | None:
        return "use another revision: org/name@revision" if self._repo else "export or download the folder again"
