"""Frames of a synthesis or a dream: recorded, written as GIF, WebP or MP4, laid out as a strip."""

from __future__ import annotations

import io
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
from gen_prior.files import read_image, to_pil, write_bytes, write_png

KINDS = (".gif", ".webp", ".mp4")


class Recorder:
    """Keeps every `every`-th step's images: pass it as `synthesize(record=recorder)`.

    As a context manager with `out`, it writes what it has on leaving, also after an exception or Ctrl-C.
    """

    def __init__(self, every: int = 5, *, out: str | Path | None = None, kind: str = "gif", fps: float = 12.0) -> None:
        if every < 1:
            raise OptionError(f"every must be at least 1 step, got {every}")
        check_kind(f"x.{kind}")
        self.every, self.kind, self.fps = every, kind, fps
        self.out = Path(out) if out is not None else None
        self.frames: dict[int, list[Tensor]] = {}
        """Item number (targets outermost, then seeds) -> its frames, uint8 `[3, H, W]`, on the CPU."""

    def __call__(self, first: int, step: int, images: Tensor) -> None:
        if step == 1:  # a new batch, or one that is tried again in halves
            self.frames.update({first + place: [] for place in range(len(images))})
        if (step - 1) % self.every == 0:
            frames = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            for place, frame in enumerate(frames):
                self.frames[first + place].append(frame)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.out is not None and self.frames:
            self.save(self.out)

    def save(self, out: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write each item's animation and strip as `NAME.KIND` and `NAME-strip.png`; returns the animations."""
        written = []
        for item, frames in sorted(self.frames.items()):
            if frames:
                pictures = [frame.float() / 255 for frame in frames]
                name = names[item] if names is not None else f"trajectory-{item:03d}"
                written.append(write_animation(Path(out) / f"{name}.{self.kind}", pictures, fps=self.fps))
                write_png(Path(out) / f"{name}-strip.png", strip(pictures))
        return written


def strip(frames: Sequence[Tensor], count: int = 8, gap: int = 2) -> Tensor:
    """Up to `count` of the frames `[3, H, W]`, evenly spaced in time, side by side on white."""
    if not frames:
        raise OptionError("a strip needs at least one frame")
    picks = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long().tolist()
    padded = [F.pad(frames[pick], (0, gap), value=1.0) for pick in picks]
    return torch.cat(padded, 2)[:, :, : -gap or None]


def check_kind(path: str | Path) -> None:
    """Raises `OptionError` for another ending than these, `MissingExtraError` where MP4 cannot be made."""
    ending = Path(path).suffix.lower()
    if ending not in KINDS:
        raise OptionError(f"animations are {', '.join(KINDS)}, got {str(path)!r}")
    if ending == ".mp4":
        _ffmpeg()


def write_animation(path: str | Path, frames: Iterable[Tensor], *, fps: float = 12.0) -> Path:
    """Write frames `[3, H, W]` in [0, 1] as a GIF, WebP or MP4 by the ending of `path`, atomically; returns it.

    Raises `OptionError` for another ending or no frames, `MissingExtraError` for MP4 without the extra `[video]`.
    """
    path = Path(path)
    check_kind(path)
    if not fps > 0:
        raise OptionError(f"fps must be positive, got {fps}")
    pictures = [to_pil(frame) for frame in frames]
    if not pictures:
        raise OptionError("an animation needs at least one frame")
    write_bytes(path, _mp4(pictures, fps) if path.suffix.lower() == ".mp4" else _looped(path, pictures, fps))
    return path


class FrameFolder:
    """Frames on disk as they are made: `frame-0000.png`, ...; the animation is made from those that are there."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def clear(self) -> None:
        """Remove the frames of an earlier run, so that two runs never mix in one animation."""
        for path in self.paths():
            path.unlink()

    def write(self, number: int, frame: Tensor) -> Path:
        """Write one frame `[3, H, W]` in [0, 1]."""
        path = self.folder / f"frame-{number:04d}.png"
        write_png(path, frame)
        return path

    def paths(self) -> list[Path]:
        """The finished frames in order."""
        return sorted(self.folder.glob("frame-[0-9][0-9][0-9][0-9].png"))

    def animate(self, path: str | Path, *, fps: float = 12.0) -> Path | None:
        """Write the finished frames as one animation; None where there are none."""
        frames = [read_image(frame) for frame in self.paths()]
        return write_animation(path, frames, fps=fps) if frames else None


def _looped(path: Path, pictures: Sequence[Image.Image], fps: float) -> bytes:
    buffer, milliseconds = io.BytesIO(), max(20, round(1000 / fps))
    first, rest = pictures[0], list(pictures[1:])
    if path.suffix.lower() == ".gif":
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    else:
        first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=85)
    return buffer.getvalue()


def _mp4(pictures: Sequence[Image.Image], fps: float) -> bytes:
    """H.264 takes even sides only: small frames are enlarged, odd ones cut by a pixel."""
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
        done = subprocess.run(command, input=raw.getvalue(), capture_output=True, check=False)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise OutputError(f"the MP4 encoder failed: {reason[-1]}", fix="write a .gif")
        return file.read_bytes()


def _ffmpeg() -> str:
    """Path of the encoder that comes with imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtraError(
            "MP4 needs imageio-ffmpeg, which is not installed", fix="pip install 'gen-prior[video]', or write a .gif"
        ) from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())
