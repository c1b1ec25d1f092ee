"""Opacity of synthesised images from the gradients of their optimisation (MACO, Fel et al. 2023)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from gen_prior.generators.base import Generator


class Transparency:
    """Sums the absolute gradient of the loss in the image over the steps of a synthesis (Fel et al. 2023).

    transparency = Transparency()
    result = synthesize(classifier, "goldfish", generator, record=transparency)
    rgba = transparency.rgba(result.images)
    """

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}
        """Index of the item (targets outermost, then seeds) -> sum of gradients `[h, w]`, mean over channels, CPU."""

    def watch(self, generator: Generator) -> Generator:
        """Return `generator`, which version 0.1 had to wrap here."""
        warnings.warn("Transparency.watch is not needed since 0.2", DeprecationWarning, stacklevel=2)
        return generator

    def __call__(self, first: int, step: int, images: Tensor) -> None:
        """Add the gradients of a step of the batch that starts with item `first`; called by `synthesize(record=...)`.

        The final images have none.
        """
        if images.grad is None:
            return
        for item, gradient in enumerate(images.grad.abs().mean(1).float().cpu(), first):
            known = self.sums.get(item)
            self.sums[item] = gradient if known is None or step == 1 else known + gradient

    def alpha(self, item: int, size: tuple[int, int], *, quantile: float = 0.9, blur: float = 0.015) -> Tensor:
        """Opacity `[H, W]` in [0, 1] of one item at `size` (H, W).

        The gradients are blurred by `blur` times the shorter side; at their `quantile` and above it is 1.
        """
        gradients = F.interpolate(self.sums[item][None, None], size, mode="bilinear", align_corners=False)[0]
        sigma = max(blur * min(size), 0.5)
        kernel = min(2 * int(3 * sigma) + 1, (min(size) - 1) // 2 * 2 + 1)
        from torchvision.transforms.v2.functional import gaussian_blur  # slow to import

        smooth: Tensor = gaussian_blur(gradients, [kernel, kernel], [sigma, sigma])[0]
        top = torch.quantile(smooth.flatten()[:: max(1, smooth.numel() // 100_000)], quantile)
        return (smooth / top.clamp_min(1e-30)).clamp(0, 1)

    def rgba(self, images: Tensor) -> Tensor:
        """Images `[T, S, 3, H, W]` in [0, 1] of a result with their opacity as a fourth channel."""
        grid, size = images.shape[:2], (int(images.shape[-2]), int(images.shape[-1]))
        alphas = [self.alpha(item, size) for item in range(grid[0] * grid[1])]
        return torch.cat([images, torch.stack(alphas).view(*grid, 1, *size)], 2)
