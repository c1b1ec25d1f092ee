"""Animations as files: frames -> GIF, WebP or MP4."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from gen_prior.errors import MissingExtraError, OptionError, OutputError
from gen_prior.util.files import write_bytes
from gen_prior.util.image_io import to_pil

KINDS = (".gif", ".webp", ".mp4")
LONGEST = 600.0
"""Seconds that the encoder of an MP4 may take."""
HOLD = 1.0
"""Seconds for which a film shows its last frame, before a player starts again."""


def check_film(path: str | Path, fps: float) -> None:
    """Raise `OptionError` for an unknown ending or impossible `fps`, `MissingExtraError` if MP4 cannot be written."""
    ending = Path(path).suffix.lower()
    if ending not in KINDS:
        raise OptionError(f"animations are {', '.join(KINDS)}, got {str(path)!r}")
    if not 0.01 <= fps <= 1000:
        raise OptionError(f"fps must lie in 0.01 to 1000, got {fps}")
    if ending == ".mp4":
        _ffmpeg()


def write_animation(path: str | Path, frames: Iterable[Tensor], *, fps: float = 12.0, hold: float = HOLD) -> Path:
    """Write frames `[3, H, W]`, RGB in [0, 1], to `path` (.gif, .webp or .mp4) and return the path.

    The last frame is shown for `hold` seconds; give 0 for a film whose end leads back to its beginning.
    The file is complete or absent, never partial. Raises `OptionError` for another ending or no frames,
    `MissingExtraError` for MP4 without the extra `[video]`, `OutputError` if it cannot be written.
    """
    path = Path(path)
    check_film(path, fps)
    pictures = [to_pil(_checked(frame)) for frame in frames]
    if not pictures:
        raise OptionError("an animation needs at least one frame")
    if path.suffix.lower() == ".mp4":
        write_bytes(path, _mp4([*pictures, *pictures[-1:] * (round(hold * fps) - 1)], fps))
    else:
        write_bytes(path, _looped(path, pictures, fps, hold))
    return path


def _checked(frame: Tensor) -> Tensor:
    if frame.ndim != 3 or frame.shape[0] not in (1, 3) or min(frame.shape) < 1 or frame.device.type == "meta":
        raise OptionError(f"a frame must be [3, H, W], got {list(frame.shape)}")
    return frame


def _looped(path: Path, pictures: Sequence[Image.Image], fps: float, hold: float) -> bytes:
    buffer, each = io.BytesIO(), max(20, round(1000 / fps))
    first, rest = pictures[0], list(pictures[1:])
    milliseconds = [each] * len(rest) + [max(each, round(1000 * hold))]
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
