"""Examine a generator step by step: download, load, draw, measure; the findings as a report that can be sent.

A step that fails is reported with its reason, so that users of weights that we could not test can send one file.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.errors import DownloadError, OptionError, OutputError, UnknownNameError, WeightsError
from gen_prior.generators import Generator, load_generator
from gen_prior.report.spectrum import spectrum
from gen_prior.util.devices import environment, resolve_device
from gen_prior.util.files import write_bytes, write_json
from gen_prior.util.image_io import write_png
from gen_prior.util.progress import Progress, ProgressOption, progress_callback

PACKAGES = ("huggingface-hub", "safetensors", "diffusers", "transformers")
JSON, MARKDOWN, IMAGE = "doctor.json", "doctor.md", "image.png"
STEPS: dict[str, str | None] = {
    "load": None,
    "draw": "generator",
    "measure": "image",
    "gradient": "generator",
    "encode": "image",
}
"""Step -> the attribute of the examination that it needs; the method `_STEP` takes it."""
PATCHES = (8, 16, 32)
"""Sides of patches, in pixels, at whose borders an image of wrongly ordered patches has discontinuities."""


def examine(
    name: str,
    out: str | Path,
    *,
    device: str | torch.device = "auto",
    options: Mapping[str, Any] | None = None,
    progress: ProgressOption = None,
) -> dict[str, Any]:
    """Examine the generator `name`, write `doctor.json`, `doctor.md` and `image.png` into `out`, and return the report.

    The report names versions, files with hashes, licence and commit, and for each step whether it succeeded, its
    seconds, and what it found or why it failed. Weights of another layout are listed with all names and shapes.

    Args:
        options: options of `load_generator`.
        progress: as `synthesize` takes it, in steps.

    Raises:
        UnknownNameError, OptionError: a name or option that no generator has. DeviceError: an absent device.
        OutputError: `out` cannot be written. Every other failure is in the report.
    """
    target, show = resolve_device(device), progress_callback(progress)
    examination = _Examination(name, target, dict(options or {}))
    for number, step in enumerate(STEPS):
        if show is not None:
            show(Progress(number, len(STEPS), step))
        examination.take(step)
    report = examination.report()
    folder = Path(out)
    try:
        write_json(folder / JSON, report)
        write_bytes(folder / MARKDOWN, markdown(report).encode())
        if examination.image is not None:
            write_png(folder / IMAGE, examination.image)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return report


class _Examination:
    """The generator, its image, and the findings so far."""

    def __init__(self, name: str, device: torch.device, options: dict[str, Any]) -> None:
        self.name, self.device, self.options = name, device, options
        self.generator: Generator | None = None
        self.image: Tensor | None = None
        self.steps: dict[str, dict[str, Any]] = {}

    def take(self, step: str) -> None:
        """Take one step and keep its findings; one that needs what failed before is skipped."""
        needed = STEPS[step]
        if needed is not None and getattr(self, needed) is None:
            self.steps[step] = {"status": "skipped", "reason": "an earlier step failed"}
            return
        begun = time.perf_counter()
        try:
            found = getattr(self, f"_{step}")()
            status = {"status": found.pop("status", "ok")} | found
        except (UnknownNameError, OptionError):
            raise  # the caller's mistake, not the generator's
        except Exception as error:  # foreign weights and libraries fail in any way
            status = {"status": "failed", "reason": f"{type(error).__name__}: {error}"} | _details(error)
        self.steps[step] = status | {"seconds": round(time.perf_counter() - begun, 3)}

    def _load(self) -> dict[str, Any]:
        self.generator = generator = load_generator(self.name, device=self.device, **self.options)
        tensors = [value for module in generator.networks for value in (*module.parameters(), *module.buffers())]
        values = {id(value): value for value in tensors}.values()  # networks may share a part
        return {
            "parameters": sum(value.numel() for value in values),
            "bytes": sum(value.numel() * value.element_size() for value in values),
        }

    def _draw(self) -> dict[str, Any]:
        assert self.generator is not None
        code = self.generator.initial_code(0)
        with torch.no_grad():
            image = self.generator.final_images(code[None].to(self.device))[0].cpu()
        found = {"code": _moments(code), "height": image.shape[1], "width": image.shape[2]}
        if not torch.isfinite(image).all():
            return found | {"status": "failed", "reason": "the image is not finite"}
        self.image = image.float()
        return found

    def _measure(self) -> dict[str, Any]:
        assert self.image is not None
        return statistics(self.image)

    def _gradient(self) -> dict[str, Any]:
        assert self.generator is not None
        code = self.generator.initial_code(0)[None].to(self.device).requires_grad_()
        # Towards grey, so that the clamp to [0, 1] lets every pixel's gradient pass.
        (gradient,) = torch.autograd.grad((self.generator(code) - 0.5).square().mean(), code)
        found = {"norm": float(gradient.norm()), "share of zeros": float((gradient == 0).float().mean())}
        if not torch.isfinite(gradient).all() or not gradient.any():
            return found | {"status": "failed", "reason": "the gradient is not finite, or zero"}
        return found

    def _encode(self) -> dict[str, Any]:
        assert self.generator is not None
        assert self.image is not None
        if not self.generator.can_encode:
            return {"status": "skipped", "reason": "the generator has no encoder"}
        code = self.generator.encode(self.image[None].to(self.device))
        with torch.no_grad():
            again = self.generator(code)[0].cpu()
        return {"code": _moments(code), "mean absolute difference": float((again - self.image).abs().mean())}

    def report(self) -> dict[str, Any]:
        """All findings."""
        report = {
            "generator": self.name,
            "options": self.options,
            "ok": all(step["status"] != "failed" for step in self.steps.values()),
            "environment": environment(self.device) | _installed(),
            "described": self.generator.describe() if self.generator is not None else None,
            "steps": self.steps,
        }
        return {key: _as_json(value) for key, value in report.items()}


def _as_json(value: Any) -> Any:
    """The value for JSON: lists for tuples, text for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _installed() -> dict[str, str]:
    """Versions of the packages that read weights, of those that are installed."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def statistics(image: Tensor) -> dict[str, Any]:
    """Statistics that tell an image `[3, H, W]` from noise: colours, smoothness, spectrum, steps at patch borders.

    Photographs have neighbouring pixels that correlate by more than 0.9, amplitudes that fall as one over the
    frequency (a slope of the power near -2), and no steps at patch borders: "jump at 16" is the mean difference
    between pixels on both sides of the borders of 16 x 16 patches, divided by that of other neighbours.
    """
    across = (image[:, :, 1:] - image[:, :, :-1]).abs().mean((0, 1))
    pairs = torch.stack([image[:, :, 1:], image[:, :, :-1]]).flatten(1)
    found: dict[str, Any] = {
        "mean": [round(value, 4) for value in image.mean((1, 2)).tolist()],
        "std": [round(value, 4) for value in image.std((1, 2)).tolist()],
        "share at black or white": float(((image <= 0) | (image >= 1)).float().mean()),
        "correlation of neighbours": float(torch.corrcoef(pairs)[0, 1]),
    }
    for side in PATCHES:
        edge = torch.arange(1, len(across) + 1) % side == 0
        if edge.any() and not edge.all():
            found[f"jump at {side}"] = float(across[edge].mean() / across[~edge].mean().clamp_min(1e-12))
    if min(image.shape[1:]) >= 32:
        square = F.interpolate(image[None], (min(image.shape[1:]),) * 2, mode="area")
        found["slope of the spectrum"] = float(spectrum(square).slope[0])
    return found


def _moments(values: Tensor) -> dict[str, Any]:
    return {"shape": list(values.shape), "mean": float(values.float().mean()), "std": float(values.float().std())}


def _details(error: BaseException) -> dict[str, Any]:
    """Kind of the failure, and all names and shapes of weights of another layout."""
    kind = {DownloadError: "download", WeightsError: "weights"}.get(type(error), "other")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, WeightsError) and cause.layout:
            return {"kind": kind, "layout": {name: list(shape) for name, shape in cause.layout.items()}}
        cause = cause.__cause__
    return {"kind": kind}


def _short(value: Any) -> str:
    """A finding for people: four digits of a number, and no brackets around several."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return (
            " x ".join(map(str, value)) if all(isinstance(one, int) for one in value) else ", ".join(map(_short, value))
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people: what was examined, and a table of steps."""
    described = report["described"] or {}
    lines = [f"# {report['generator']}: {'all steps succeeded' if report['ok'] else 'a step failed'}", ""]
    facts = {key: described.get(key) for key in ("source", "revision", "licence", "paper", "code_shape", "options")}
    facts["options"] = facts["options"] or report["options"]
    lines += [f"- {key}: {value}" for key, value in (facts | report["environment"]).items() if value]
    lines += [f"- SHA-256 of {name}: {digest}" for name, digest in described.get("sha256", {}).items()]
    lines += ["", "| step | status | seconds | findings |", "|---|---|---|---|"]
    for name, step in report["steps"].items():
        rest = {key: value for key, value in step.items() if key not in ("status", "seconds", "layout")}
        found = "; ".join(f"{key}: {_short(value)}" for key, value in rest.items()).replace("|", "/")
        found = found.replace("\n", " ")
        lines.append(f"| {name} | {step['status']} | {step.get('seconds', '')} | {found} |")
    for name, step in report["steps"].items():
        if "layout" in step:
            lines += ["", f"All tensors of the weights that `{name}` refused:", ""]
            lines += [f"- {tensor} {shape}" for tensor, shape in step["layout"].items()]
    return "\n".join(lines) + "\n"


__all__ = ["examine", "markdown", "statistics"]
