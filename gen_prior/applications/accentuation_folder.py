"""The folder of an accentuation: each image is on disk when it is finished; another run is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.applications.accentuation import (
    NUMBERS,
    RECORD,
    Accentuated,
    Accentuation,
    write_item,
    write_record,
    write_sheets,
)
from gen_prior.applications.kept_code import kept_code
from gen_prior.hub.tensors import read_file_metadata, read_tensors
from gen_prior.objectives.mixes import AnyTarget
from gen_prior.optimise.saved_run import check_saved
from gen_prior.util.files import as_output_errors, write_json
from gen_prior.util.folders import remove_run
from gen_prior.util.reading import reading


class AccentuationFolder:
    """Writes an accentuation; a folder that holds a part of the same one is continued.

    Raises `OptionError` for a folder that holds another run, unless it may be overwritten, `OutputError` for one whose
    files are damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder, self._settings = folder, json.loads(json.dumps(settings))
        self._written: set[str] = set()
        is_known = check_saved(folder, RECORD, self._settings, overwrite=overwrite)
        if overwrite:
            remove_run(folder)
        if overwrite or not is_known:
            write_json(folder / RECORD, {"images": [], "settings": self._settings, "finished": False})

    def start_code(self, find: Callable[[], Tensor]) -> Tensor:
        """The photograph's code, found once."""
        made_of = {name: self._settings[name] for name in ("photograph_sha256", "generator", "seed")}
        return kept_code(self.folder / "photograph-code.safetensors", made_of, find)

    def finished(self, targets: Mapping[str, AnyTarget], film: str | None) -> dict[str, Accentuated]:
        """File name -> the image, of those of `targets` that are on disk, with a film of kind `film` if not None."""
        found = {}
        for name, target in targets.items():
            path = self.folder / f"{name}.safetensors"
            if not path.is_file() or (film is not None and not (self.folder / f"{name}.{film}").is_file()):
                continue
            with reading("accentuation", self.folder):
                metadata, tensors = read_file_metadata(path), read_tensors(path)
                if metadata["made_of"] != json.dumps(self._settings, sort_keys=True):
                    continue
                numbers = json.loads(metadata["numbers"])
                self._written.add(name)
                found[name] = Accentuated(
                    target.name,
                    name,
                    tensors["image"],
                    tensors["code"],
                    **{key: float(numbers[key]) for key in NUMBERS},
                )
        return found

    def write(self, made: Accentuation) -> None:
        """Write the images that are not on disk yet, then the record and the numbers. Raises `OutputError`."""
        with as_output_errors(self.folder):
            for one in made.images:
                if one.slug not in self._written:
                    write_item(self.folder, one, self._settings)
                    self._written.add(one.slug)
            write_record(self.folder, made)

    def write_sheets(self, made: Accentuation) -> None:
        """Write the sheets of what is finished. Raises `OutputError`."""
        with as_output_errors(self.folder):
            write_sheets(self.folder, made)
