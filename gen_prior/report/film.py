"""Animations of a synthesis or a dream: record frames, write them as GIF, WebP or MP4, lay them out as a strip."""

from __future__ import annotations

import io
import math
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import MissingExtraError, OptionError, OutputError
from gen_prior.util.files import write_bytes
from gen_prior.util.image_io import read_image, to_pil, write_png

KINDS = (".gif", ".webp", ".mp4")
LONGEST = 600.0
"""Seconds that the encoder of an MP4 may take."""


class Recorder:
    """Keeps the images of every `every`-th step and the final ones: `synthesize(..., record=recorder)`.

    Args:
        every: steps between two frames.
        out: a folder. Each batch's animations are written there when the next batch begins and, if the recorder is
            used as a context manager, on leaving it, even after an exception or Ctrl-C.
        names: file names of the items, without endings; `trajectory-000`, ... if None.
        kind: "gif", "webp" or "mp4".
        fps: frames per second.

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
    ) -> None:
        if every < 1:
            raise OptionError(f"every must be at least 1 step, got {every}")
        check_film(f"x.{kind}", fps)
        self.every, self.kind, self.fps = every, kind, fps
        self.out = Path(out) if out is not None else None
        self.names = names
        self._kept: dict[int, list[Tensor]] = {}
        self._latest: tuple[int, Tensor] | None = None
        self._written: set[int] = set()

    @property
    def frames(self) -> dict[int, list[Tensor]]:
        """Index of the item (targets outermost, then seeds) -> its frames, uint8 `[3, H, W]`, on the CPU, in order."""
        found = {item: list(kept) for item, kept in self._kept.items()}
        if self._latest is not None:
            first, images = self._latest
            for item, frame in enumerate(_bytes_of(images), first):
                found[item].append(frame)
        return found

    def __call__(self, first: int, step: int, images: Tensor) -> None:
        """Take the images `[B, 3, H, W]` of a step of the batch that starts with item `first`; steps count from 1."""
        batch = range(first, first + len(images))
        if step == 1:  # a new batch, or one repeated in halves: frames from item `first` on are void
            self._kept = {item: kept for item, kept in self.frames.items() if item < first}
            self._written &= set(self._kept)
            if self.out is not None:
                self._write(self.out, self.names)
        for item in batch:
            self._kept.setdefault(item, [])
        due = (step - 1) % self.every == 0
        self._latest = None if due else (first, images.detach())
        if due:
            for item, frame in zip(batch, _bytes_of(images), strict=True):
                self._kept[item].append(frame)

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
        for item, frames in sorted(self.frames.items()):
            if frames and item not in self._written:
                name = names[item] if names is not None else f"trajectory-{item:03d}"
                written += film_and_strip(out, name, [frame.float() / 255 for frame in frames], self.kind, self.fps)[:1]
                self._written.add(item)
        return written


def film_and_strip(out: Path, name: str, frames: Sequence[Tensor], kind: str, fps: float) -> list[Path]:
    """Write frames `[3, H, W]` in [0, 1] as `NAME.KIND` and `NAME-strip.png`, and return both paths."""
    picture = out / f"{name}-strip.png"
    animation = write_animation(out / f"{name}.{kind}", frames, fps=fps)
    write_png(picture, strip(frames))
    return [animation, picture]


def strip(frames: Sequence[Tensor], count: int = 8, gap: int = 2) -> Tensor:
    """Up to `count` of the frames `[3, H, W]`, evenly spaced in time, side by side as one image."""
    if not frames:
        raise OptionError("a strip needs at least one frame")
    picks = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long().tolist()
    padded = [F.pad(frames[pick], (0, gap), value=1.0) for pick in picks]
    return torch.cat(padded, 2)[:, :, : -gap or None]


def check_film(path: str | Path, fps: float) -> None:
    """Raise `OptionError` for an unknown ending or `fps` <= 0, `MissingExtraError` if MP4 cannot be written."""
    ending = Path(path).suffix.lower()
    if ending not in KINDS:
        raise OptionError(f"animations are {', '.join(KINDS)}, got {str(path)!r}")
    if not 0 < fps < math.inf:
        raise OptionError(f"fps must be positive, got {fps}")
    if ending == ".mp4":
        _ffmpeg()


def write_animation(path: str | Path, frames: Iterable[Tensor], *, fps: float = 12.0) -> Path:
    """Write frames `[3, H, W]`, RGB in [0, 1], to `path` (.gif, .webp or .mp4) and return the path.

    The file is complete or absent, never partial. Raises `OptionError` for another ending or no frames,
    `MissingExtraError` for MP4 without the extra `[video]`, `OutputError` if it cannot be written.
    """
    path = Path(path)
    check_film(path, fps)
    pictures = [to_pil(frame) for frame in frames]
    if not pictures:
        raise OptionError("an animation needs at least one frame")
    write_bytes(path, _mp4(pictures, fps) if path.suffix.lower() == ".mp4" else _looped(path, pictures, fps))
    return path


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
        """Where a frame is, or will be."""
        return self.folder / f"frame-{number:04d}.png"

    def paths(self) -> list[Path]:
        """The frames in the folder, in order."""
        return sorted(self.folder.glob("frame-[0-9][0-9][0-9][0-9].png"))

    def animate(self, name: str, *, kind: str = "gif", fps: float = 12.0) -> list[Path]:
        """Write the frames as `NAME.KIND` and `NAME-strip.png`, and return both paths; none if there are no frames."""
        frames = [read_image(frame) for frame in self.paths()]
        return film_and_strip(self.folder, name, frames, kind, fps) if frames else []


def _bytes_of(images: Tensor) -> Tensor:
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _looped(path: Path, pictures: Sequence[Image.Image], fps: float) -> bytes:
    buffer, milliseconds = io.BytesIO(), max(20, round(1000 / fps))
    first, rest = pictures[0], list(pictures[1:])
    if path.suffix.lower() == ".gif":
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    else:
        first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=85)
    return buffer.getvalue()


def _mp4(pictures: Sequence[Image.Image], fps: float) -> bytes:
    """Bytes of an MP4. H.264 needs even sides of some size: small frames are enlarged, odd ones cut by a pixel."""
    factor = max(1, -(-128 // min(pictures[0].size)))
    width, height = (side * factor // 2 * 2 for side in pictures[0].size)
    raw = io.BytesIO()
    for picture in pictures:
        enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
        raw.write(enlarged.crop((0, 0, width, height)).tobytes())
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    wanted = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.mp4"
        command = [_ffmpeg(), "-loglevel", "error", *given, *wanted, str(file)]
        try:
            done = subprocess.run(command, input=raw.getvalue(), capture_output=True, check=False, timeout=LONGEST)
        except (OSError, subprocess.SubprocessError) as error:
            raise OutputError(f"the MP4 encoder cannot be run: {error}", fix="write a .gif") from error
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise OutputError(f"the MP4 encoder failed: {reason[-1]}", fix="write a .gif")
        return file.read_bytes()


def _ffmpeg() -> str:
    """Path of the ffmpeg that comes with imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtraError(
            "MP4 needs imageio-ffmpeg, which is not installed", fix="pip install 'gen-prior[video]', or write a .gif"
        ) from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingExtraError(f"no MP4 encoder: {error}", fix="install ffmpeg, or write a .gif") from error
