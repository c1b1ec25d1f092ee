"""Films of a synthesis or a dream: record frames, write them as an animation, lay them out as a strip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import OptionError
from gen_prior.report.animation import KINDS, check_film, write_animation
from gen_prior.util.image_io import from_pil, read_image, write_png
from gen_prior.util.mosaic import INK, LINE, TEXT_SIZE, write_line

MOST_FRAMES = 100_000
"""Most frames of a film: more than an hour."""


class Recorder:
    """Keeps the images of every `every`-th step and the final ones: `synthesize(..., record=recorder)`.

    Args:
        every: steps between two frames.
        out: a folder. Each batch's animations are written there when the next batch begins and, if the recorder is
            used as a context manager, on leaving it, even after an exception or Ctrl-C.
        names: file names of the items, without endings; `trajectory-000`, ... if None.
        kind: "gif", "webp" or "mp4".
        fps: frames per second.
        keep: keep frames in memory after they are written to `out`; without, memory is that of a batch.

    Raises:
        OptionError: another kind, or `every` or `fps` out of range. MissingExtraError: MP4 without the extra `[video]`.
    """

    def __init__(
        self,
        every: int = 5,
        *,
        out: str | Path | None = None,
        names: Sequence[str] | None = None,
        kind: str = "gif",
        fps: float = 12.0,
        keep: bool = True,
    ) -> None:
        if every < 1:
            raise OptionError(f"every must be at least 1 step, got {every}")
        check_film(f"x.{kind}", fps)
        self.every, self.kind, self.fps = every, kind, fps
        self.out = Path(out) if out is not None else None
        self.names, self.keep = names, keep
        self._kept: dict[int, list[tuple[int, Tensor]]] = {}
        self._latest: tuple[int, int, Tensor] | None = None
        self._written: set[int] = set()

    @property
    def frames(self) -> dict[int, list[Tensor]]:
        """Index of the item (targets outermost, then seeds) -> its frames, uint8 `[3, H, W]`, on the CPU, in order."""
        return {item: [frame for _, frame in kept] for item, kept in self._all().items()}

    @property
    def steps(self) -> dict[int, list[int]]:
        """Index of the item -> how many steps had been taken before each of its frames; 0 for the start."""
        return {item: [step - 1 for step, _ in kept] for item, kept in self._all().items()}

    def _all(self) -> dict[int, list[tuple[int, Tensor]]]:
        """Index of the item -> (step, frame) of those that are kept and of the latest."""
        found = {item: list(kept) for item, kept in self._kept.items()}
        if self._latest is not None:
            first, step, images = self._latest
            for item, frame in enumerate(_bytes_of(images), first):
                found[item].append((step, frame))
        return found

    def __call__(self, first: int, step: int, images: Tensor) -> None:
        """Take the images `[B, 3, H, W]` of a step of the batch that starts with item `first`; steps count from 1."""
        batch = range(first, first + len(images))
        if step == 1:  # a new batch, or one repeated in halves: frames from item `first` on are void
            self._kept = {item: kept for item, kept in self._all().items() if item < first}
            self._latest = None
            self._written &= set(self._kept)
            if self.out is not None:
                self._write(self.out, self.names)
        for item in batch:
            self._kept.setdefault(item, [])
        due = (step - 1) % self.every == 0
        self._latest = None if due else (first, step, images.detach())
        if due:
            for item, frame in zip(batch, _bytes_of(images), strict=True):
                self._kept[item].append((step, frame))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.out is not None:
            self._write(self.out, self.names)

    def save(self, out: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write every item as `NAME.KIND` and `NAME-strip.png`, and return the paths of the animations."""
        self._written = set()
        return self._write(Path(out), names)

    def _write(self, out: Path, names: Sequence[str] | None) -> list[Path]:
        """Write the items that have not been written yet."""
        written = []
        for item, kept in sorted(self._all().items()):
            if kept and item not in self._written:
                name = names[item] if names is not None else f"trajectory-{item:03d}"
                frames, labels = [frame.float() / 255 for _, frame in kept], [f"step {step - 1}" for step, _ in kept]
                written += film_and_strip(out, name, frames, self.kind, self.fps, labels)[:1]
                self._written.add(item)
                if not self.keep:
                    self._kept.pop(item, None)
        self._latest = self._latest if self.keep else None
        return written


def film_and_strip(
    out: Path, name: str, frames: Sequence[Tensor], kind: str, fps: float, labels: Sequence[str] | None = None
) -> list[Path]:
    """Write frames `[3, H, W]` in [0, 1] as `NAME.KIND` and `NAME-strip.png`, with the labels; returns the paths."""
    picture = out / f"{name}-strip.png"
    animation = write_animation(out / f"{name}.{kind}", frames, fps=fps)
    write_png(picture, strip(frames, labels=labels))
    return [animation, picture]


def strip(frames: Sequence[Tensor], count: int = 8, gap: int = 2, labels: Sequence[str] | None = None) -> Tensor:
    """Up to `count` of the frames `[3, H, W]`, evenly spaced in time, side by side as one image.

    `labels`: one for each frame, written below it; one that is wider than the frame is cut.
    """
    if not frames:
        raise OptionError("a strip needs at least one frame")
    picks = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long().tolist()
    padded = [F.pad(frames[pick], (0, gap), value=1.0) for pick in picks]
    row = torch.cat(padded, 2)[:, :, : -gap or None]
    return row if labels is None else torch.cat([row, _words([labels[pick] for pick in picks], row, gap)], 1)


def _words(labels: Sequence[str], row: Tensor, gap: int) -> Tensor:
    """A line of text `[3, LINE, W]` as wide as `row`, a label below each of its frames."""
    line = Image.new("RGB", (row.shape[2], LINE), "white")
    width = (row.shape[2] + gap) // len(labels)
    for number, label in enumerate(labels):
        write_line(ImageDraw.Draw(line), (number * width + 2, 1), label, TEXT_SIZE, INK, width - gap - 2)
    return from_pil(line).to(row)


class FrameFolder:
    """A folder of frames `frame-0000.png`, ..., written one at a time and then joined into an animation."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def clear(self) -> None:
        """Remove the frames of an earlier run, so that no animation mixes two runs."""
        for path in self.paths():
            path.unlink()

    def write(self, number: int, frame: Tensor) -> Path:
        """Write one frame `[3, H, W]` in [0, 1] and return its path."""
        write_png(self.path(number), frame)
        return self.path(number)

    def path(self, number: int) -> Path:
        """Path of a frame, written or not."""
        return self.folder / f"frame-{number:04d}.png"

    def paths(self) -> list[Path]:
        """The frames in the folder, in order."""
        return sorted(self.folder.glob("frame-[0-9][0-9][0-9][0-9].png"))

    def animate(self, name: str, *, kind: str = "gif", fps: float = 12.0) -> list[Path]:
        """Write the frames as `NAME.KIND` and `NAME-strip.png`, and return both paths; none if there are no frames."""
        frames = [read_image(frame) for frame in self.paths()]
        labels = [f"frame {number}" for number in range(len(frames))]
        return film_and_strip(self.folder, name, frames, kind, fps, labels) if frames else []


def _bytes_of(images: Tensor) -> Tensor:
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


__all__ = ["KINDS", "FrameFolder", "Recorder", "check_film", "film_and_strip", "strip", "write_animation"]
