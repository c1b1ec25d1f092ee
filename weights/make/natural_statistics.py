"""Make `weights/natural-statistics.safetensors` from a folder of photographs.

    python weights/make/natural_statistics.py FOLDER

The file holds two statistics of natural images that pixel-space generators need: the square root of the covariance of
their colours (for decorrelation, Olah et al. 2017) and the mean magnitude of the Fourier spectrum of the decorrelated
colours (for MACO, Fel et al. 2023).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from gen_prior.util.image_io import centre_square

SIZE = 256


def photograph(path: Path) -> Tensor:
    """Centre square of a file, RGB `[3, SIZE, SIZE]` in [-0.5, 0.5]."""
    with Image.open(path) as file:
        pixels: Tensor = pil_to_tensor(centre_square(file, SIZE)).double() / 255 - 0.5
    return pixels


def main(folder: Path) -> None:
    """Average over the centre squares of every JPEG in `folder`."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpeg", ".jpg"})
    moment = torch.zeros(3, 3, dtype=torch.float64)
    for path in paths:
        pixels = photograph(path)
        flat = (pixels - pixels.mean((1, 2), keepdim=True)).flatten(1)
        moment += flat @ flat.T / flat.shape[1]
    values, vectors = torch.linalg.eigh(moment / len(paths))
    root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T
    whiten = torch.linalg.inv(root)
    magnitude = torch.zeros(3, SIZE, SIZE // 2 + 1, dtype=torch.float64)
    for path in paths:
        planes = torch.einsum("ij,jhw->ihw", whiten, photograph(path))
        magnitude += torch.fft.rfft2(planes, norm="ortho").abs()
    out = Path(__file__).parent.parent / "natural-statistics.safetensors"
    save_file(
        {"magnitude": (magnitude / len(paths)).to(torch.float16), "colour_root": root.float()},
        out,
        {"photographs": str(len(paths)), "source": folder.name, "size": str(SIZE), "licence": "Apache-2.0"},
    )
    out.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
