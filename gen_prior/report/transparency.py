"""Transparency from attribution: what the optimisation kept pushing is opaque (MACO, Fel et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from gen_prior.errors import OptionError
from gen_prior.generators.base import Generator


class Transparency:
    """Sums |gradient of the loss in the image| over the steps of a synthesis.

    clear = Transparency()
    result = synthesize(classifier, "goldfish", clear.watch(generator), record=clear)
    rgba = clear.rgba(result.images)
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}
        """Item number (targets outermost, then seeds) -> `[h, w]`, mean over channels, on the CPU."""
        self._latest: Tensor | None = None

    def watch(self, generator: Generator) -> Generator:
        """The same generator, whose images report their gradients here."""
        return generator.with_module(_Watched(generator.module, self))

    def __call__(self, first: int, step: int, images: Tensor) -> None:
        """After a step of the batch that starts with item `first`, as `synthesize(record=...)` calls it."""
        if self._latest is None:
            if first in self.sums:
                return  # the final image, which nothing is climbed from
            raise OptionError("no gradient was seen: synthesize through the generator that watch() returned")
        for place, gradient in enumerate(self._latest.float().cpu()):
            known = self.sums.get(first + place)
            self.sums[first + place] = gradient if known is None or step == 1 else known + gradient
        self._latest = None

    def alpha(self, item: int, size: tuple[int, int], *, quantile: float = 0.9, blur: float = 0.015) -> Tensor:
        """Opacity `[H, W]` in [0, 1] of one item: smoothed over `blur` of the side, opaque from `quantile` on."""
        gradients = F.interpolate(self.sums[item][None, None], size, mode="bilinear", align_corners=False)[0]
        sigma = max(blur * min(size), 0.5)
        kernel = min(2 * int(3 * sigma) + 1, (min(size) - 1) // 2 * 2 + 1)
        smooth: Tensor = gaussian_blur(gradients, [kernel, kernel], [sigma, sigma])[0]
        top = torch.quantile(smooth.flatten()[:: max(1, smooth.numel() // 100_000)], quantile)
        return (smooth / top.clamp_min(1e-30)).clamp(0, 1)

    def rgba(self, images: Tensor) -> Tensor:
        """`[T, S, 3, H, W]` in [0, 1], a result's images -> `[T, S, 4, H, W]`, the last channel opacity."""
        grid, size = images.shape[:2], (int(images.shape[-2]), int(images.shape[-1]))
        alphas = [self.alpha(item, size) for item in range(grid[0] * grid[1])]
        return torch.cat([images, torch.stack(alphas).view(*grid, 1, *size)], 2)

    def report(self, gradient: Tensor) -> None:
        """Takes a gradient `[B, 3, h, w]`."""
        self._latest = gradient.detach().abs().mean(1)


class _Watched(nn.Module):
    def __init__(self, module: nn.Module | object, watcher: Transparency) -> None:
        super().__init__()
        self.inner, self._watcher = module, watcher

    def forward(self, codes: Tensor) -> Tensor:
        images: Tensor = self.inner(codes)  # type: ignore[operator]
        if images.requires_grad:
            images = images.view_as(images)  # a code that is its own image must not be hooked for ever
            images.register_hook(self._watcher.report)
        return images
