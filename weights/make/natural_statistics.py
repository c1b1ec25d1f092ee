"""Makes `weights/natural-statistics.safetensors` from a folder of photographs.

    python weights/make/natural_statistics.py FOLDER

Holds what pixel-space modes need of natural images: the mean magnitude of their Fourier spectrum (MACO,
Fel et al. 2023) and the square root of the covariance of their colours (decorrelation, Olah et al. 2017).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.v2.functional import pil_to_tensor

SIZE = 256


def main(folder: Path) -> None:
    """Average over the centre squares of every JPEG in `folder`."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpeg", ".jpg"})
    magnitude = torch.zeros(3, SIZE, SIZE // 2 + 1, dtype=torch.float64)
    moment = torch.zeros(3, 3, dtype=torch.float64)
    for path in paths:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        pixels = pil_to_tensor(picture).double() / 255 - 0.5
        magnitude += torch.fft.rfft2(pixels, norm="ortho").abs()
        flat = (pixels - pixels.mean((1, 2), keepdim=True)).flatten(1)
        moment += flat @ flat.T / flat.shape[1]
    values, vectors = torch.linalg.eigh(moment / len(paths))
    root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T
    out = Path(__file__).parent.parent / "natural-statistics.safetensors"
    save_file(
        {"magnitude": (magnitude / len(paths)).to(torch.float16), "colour_root": root.float()},
        out,
        {"photographs": str(len(paths)), "source": folder.name, "size": str(SIZE), "licence": "Apache-2.0"},
    )
    out.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
