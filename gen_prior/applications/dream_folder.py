"""The folder of a dream: each frame is on disk when it is done, with what the next one starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.objectives import Objective
from gen_prior.optimise.resolve import TargetLike
from gen_prior.report.film import KINDS, FrameFolder
from gen_prior.util.devices import environment
from gen_prior.util.files import as_output_errors
from gen_prior.util.folders import OTHER_RUN_FIX, check_kind, remove_run
from gen_prior.util.image_io import read_image, write_png
from gen_prior.util.reading import reading
from gen_prior.util.words import changed_settings, others

PICTURE, STATE = "dream.png", "dream.safetensors"
FORMAT = "gen-prior/dream-1"


def dream_settings(
    classifier: Classifier, image: Tensor, target: TargetLike | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the frames of a dream depend on, as plain values; the target is None for an objective of one's own."""
    named = None if target is None or isinstance(target, Objective) else str(target)
    return {
        "classifier": classifier.describe(),
        "image": _sha256(image),
        "target": named,
        "custom": isinstance(target, Objective),
        **{
            name: _sha256(value) if isinstance(value, Tensor) else value
            for name, value in options.items()
            if name not in ("batch", "progress")
        },
        "environment": environment(classifier.device),
    }


class DreamFolder:
    """Writes the frames of a dream; a folder that holds a part of the same dream is continued after its last frame.

    Raises `OptionError` for a folder that holds another run, unless it may be overwritten, `OutputError` for one whose
    files are damaged.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], frames: int, *, overwrite: bool = False) -> None:
        check_kind(folder, PICTURE, overwrite=overwrite)
        self.folder, self.frames = folder, FrameFolder(folder)
        self.finished = 0
        """Number of frames that are on disk."""
        self.settings, self._count, self._is_new = json.loads(json.dumps(settings)), frames, False
        self._last: Tensor | None = None
        if not overwrite and (folder / PICTURE).exists():
            self._continue()

    def _continue(self) -> None:
        """Take over the frames that are there, if they are of this dream."""
        if not (self.folder / STATE).exists():
            self._refuse(f"a dream ({PICTURE}) of which it is not known how it was made")
        with reading("dream", self.folder):
            metadata = read_file_metadata(self.folder / STATE)
            before, finished = json.loads(metadata["settings"]), int(metadata["finished"])
            last = read_tensors(self.folder / STATE)["image"]
        if changed := changed_settings(before, self.settings):
            self._refuse(f"a dream with {others(changed)}")
        if self.settings["custom"]:
            self._refuse("a dream of an objective of your own, which cannot be compared with this one")
        if finished > self._count:
            self._refuse(f"{finished} frames of this dream, more than {self._count}")
        if all(self.frames.path(number).exists() for number in range(finished - 1)):  # else it begins anew
            self.finished, self._last = finished, last

    def _refuse(self, what: str) -> None:
        raise OptionError(f"{self.folder} holds {what}", fix=OTHER_RUN_FIX)

    def frame(self, number: int) -> Tensor:
        """A finished frame `[3, H, W]`: the last one exactly, others as they are in their PNG."""
        if number == self.finished - 1 and self._last is not None:
            return self._last
        return read_image(self.frames.path(number))

    def write(self, image: Tensor) -> None:
        """Write the next frame, then what the one after it starts from. Raises `OutputError`."""
        with as_output_errors(self.folder):
            if not self.finished:  # not earlier: a wrong option must not delete the frames of the run before
                self._clear()
            if self._count > 1:
                if self.finished == 1 and self._last is not None:  # before, a single frame was asked for
                    self.frames.write(0, self._last)
                self.frames.write(self.finished, image)
            self._is_new = True
            self.keep(image)

    def keep(self, image: Tensor) -> None:
        """Write the picture, and that one more is finished. Raises `OutputError`."""
        with as_output_errors(self.folder):
            write_png(self.folder / PICTURE, image)
            self.finished, self._last = self.finished + 1, image
            metadata = {"format": FORMAT, "settings": json.dumps(self.settings), "finished": str(self.finished)}
            save_safetensors(self.folder / STATE, {"image": image.contiguous()}, metadata)

    def animate(self, kind: str, fps: float) -> None:
        """Write `dream.KIND` and `dream-strip.png` of the finished frames, unless they are there."""
        film = self.folder / f"dream.{kind}"
        if self._count > 1 and self.finished and (self._is_new or not film.exists()):
            self.frames.animate("dream", kind=kind, fps=fps)

    def _clear(self) -> None:
        """Delete the run that is there."""
        if remove_run(self.folder):
            return
        self.frames.clear()  # of a version without a list of files
        for name in (STATE, "dream-strip.png", *(f"dream{kind}" for kind in KINDS)):
            (self.folder / name).unlink(missing_ok=True)


def _sha256(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()
