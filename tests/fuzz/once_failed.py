"""Damaged records and archives that readers once failed at, which random damage seldom hits."""

from __future__ import annotations

import io
import tarfile
from copy import deepcopy
from typing import Any

SAMPLES: list[dict[str, Any]] = [
    *({"file": file} for file in ("../secret.txt", "images/../../secret.txt", "/dev/zero", "\0", "a" * 5000, 3, None)),
    *({"activation": value} for value in (float("nan"), 1e999, "1", [1])),
    *({"seed": value} for value in (2**70, -1, 0.5, True, "0")),
    {"judge_rank": 1.5}, {"judge_probability": float("inf")}, {"class_name": 5}, {"kept": "yes"}, {"colour": 1},
]  # fmt: skip
"""What a line of `images.jsonl` once changed: files from outside went into the shards, numbers into raw errors."""


def comparisons(valid: dict[str, Any]) -> list[Any]:
    """Records of comparisons that readers, sheets or model cards once failed at."""
    found: list[Any] = [[], {"format": valid["format"]}, valid | {"methods": {}}, valid | {"targets": 3}]
    found += [valid | {key: None} for key in ("classifier", "natural", "seeds")]
    method = valid["methods"][0]
    measure = next(name for name, summary in method["summary"].items() if summary is not None)
    changes: list[dict[str, Any]] = [{"name": 3}, *({"folder": folder} for folder in ("..", "/dev", "\0"))]
    for key, value in (("value", 10**400), ("low", "x"), ("count", float("nan"))):
        changes.append({"summary": {measure: method["summary"][measure] | {key: value}}})
    for change in changes:
        record = deepcopy(valid)
        record["methods"][0] |= change
        found.append(record)
    return found


def shards(picture: bytes) -> list[bytes]:
    """Tar archives of images that once ended the reading of photographs."""
    wide = picture[:16] + (13_000).to_bytes(4, "big") * 2 + picture[24:]  # a bomb: 507 MB of pixels in 1 kB
    found = [b"", bytes(1024), _shard(picture)[:700], _shard(wide)]
    for size in (b"zzzzzzzzzzz\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7):
        found.append(_changed(_shard(picture), 124, size))  # no octal number, 2^95, -1, 2^63
    found.append(_changed(_shard(picture), 156, b"S"))  # a sparse member of an old kind
    for key, value in (("size", "x"), ("size", "-1"), ("size", str(2**70)), ("mtime", "nan"), ("path", "\udcff.png")):
        found.append(_shard(picture, {key: value}))
    for version in ("0.0", "1.0", "x"):
        sparse = {"GNU.sparse.major": version[0], "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**42)}
        found.append(_shard(picture, sparse | {"GNU.sparse.name": "a.png", "GNU.sparse.map": "0,x"}))
    return found


def _shard(picture: bytes, pax: dict[str, str] | None = None) -> bytes:
    """An archive of three pictures, the first with these extended headers."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, name in enumerate(("a.png", "b.png", "c.png")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.pax_headers = len(picture), (pax or {}) if number == 0 else {}
            tar.addfile(entry, io.BytesIO(picture))
    return file.getvalue()


def _changed(shard: bytes, place: int, value: bytes) -> bytes:
    """The archive with other bytes in its first header, whose checksum fits."""
    header = bytearray(shard[:512])
    header[place : place + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + shard[512:]
