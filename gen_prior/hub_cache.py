"""What is taken out of huggingface_hub's cache: a file that was refused, and nothing that another commit still has."""

from __future__ import annotations

from pathlib import Path


def remove_from_cache(path: Path, *, damaged: bool = False) -> None:
    """Take the file `path` of a snapshot out of the cache.

    Its content goes too, unless other snapshots have the same; where it is `damaged`, it is of no use to them either.
    """
    blob = path.resolve()
    path.unlink(missing_ok=True)
    if blob.parent.name == "blobs" and (damaged or not _is_linked(blob)):
        blob.unlink(missing_ok=True)


def _is_linked(blob: Path) -> bool:
    snapshots = blob.parent.parent / "snapshots"
    return any(link.is_symlink() and link.resolve() == blob for link in snapshots.rglob("*"))
