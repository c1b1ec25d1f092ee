"""Photographs on the pages: crops beside the atlas, small copies that go with it, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from PIL import Image

from gen_prior.atlas.page_data import Json, ShardRows, inside, read_json
from gen_prior.atlas.shards import webp
from gen_prior.errors import OptionError
from gen_prior.util.files import as_output_errors, write_bytes
from gen_prior.util.image_io import read_picture

PhotographMode = Literal["link", "thumbnails", "none"]
CROPS_FOLDER, THUMBNAILS = "photographs", "thumbnails"
"""Folders of crops: the first is for this machine only, the second goes with the pages."""
SHOWN = 8
"""Photographs of each unit."""
SIDE = 96
QUALITY = 70


def check_mode(mode: str) -> PhotographMode:
    """`mode` if it is one of `PhotographMode`. Raises `OptionError`."""
    if mode not in get_args(PhotographMode):
        raise OptionError(
            f"photographs are one of {', '.join(get_args(PhotographMode))}, got {mode!r}", fix="for example link"
        )
    return cast("PhotographMode", mode)


class PagePhotographs:
    """The photographs that excite each unit most, as a page shows them: `mode` is one of `PhotographMode`."""

    def __init__(self, folder: Path, mode: PhotographMode) -> None:
        self.folder, self.mode = folder, mode
        self._copies: set[str] = set()

    def of(self, shard: ShardRows) -> list[list[Json]]:
        """For each unit of `shard` its photographs, the best first: label and activation, and, where the mode allows
        it, the file's name and the crop of what the unit saw, a path inside the atlas. `PhotographPass` writes them:
        "most" and "patch" into the file of the shard, "exemplars" into the row."""
        path = self.folder / CROPS_FOLDER / "exemplars" / f"{shard.index:05d}.json"
        known = read_json(path) if path.is_file() else {}
        return [
            [self._one(one) for one in known.get(row["target"], {}).get("most", row.get("exemplars") or [])[:SHOWN]]
            for row in shard.rows
        ]

    def _one(self, photograph: Mapping[str, Any]) -> Json:
        found: Json = {"label": photograph.get("label"), "activation": photograph.get("activation")}
        if self.mode == "none":
            return found
        found["file"] = str(photograph.get("file") or "").rpartition("/")[2]
        patch = inside(photograph.get("patch"))
        if patch is not None and patch.startswith(f"{CROPS_FOLDER}/"):
            found["image"] = patch if self.mode == "link" else self._copied(patch)
        return found

    def _copied(self, path: str) -> str | None:
        """Path of the small copy of a crop; None if the crop is gone."""
        if not (self.folder / path).is_file():
            return None
        digest = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()
        name = f"{THUMBNAILS}/{digest[:16]}.webp"
        if name not in self._copies:
            picture = read_picture(self.folder / path, path)
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            write_bytes(self.folder / name, webp(picture, QUALITY))
            self._copies.add(name)
        return name

    def finish(self) -> None:
        """Delete copies of crops that earlier pages had and these have not."""
        with as_output_errors(self.folder / THUMBNAILS):
            for left in (self.folder / THUMBNAILS).glob("*.webp"):
                if f"{THUMBNAILS}/{left.name}" not in self._copies:
                    left.unlink()
            if (self.folder / THUMBNAILS).is_dir() and not self._copies:
                (self.folder / THUMBNAILS).rmdir()
