"""Makes the pictures of the documentation that show targets, networks and sizes: all, or those that are named.

    python docs/make_target_pictures.py --photographs FOLDER
    python docs/make_target_pictures.py larger.jpg

Some take photographs (JPEG or PNG of 200 pixels or more), the more the better; 200 will do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

import gen_prior as gp
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import mosaic


def larger(photographs: Path) -> Tensor:
    """The same seed at 256, 512 and 1024 px, whole, and at the same place as large as it was drawn."""
    classifier, rows, numbers = gp.load_classifier("efficientnet-lite0"), [], []
    for side in (256, 512, 1024):
        result = gp.synthesize(
            classifier, ["monarch", "cheeseburger"], gp.load_generator("dgn-lite0", image_size=side), seeds=1
        )
        images = list(result.images[:, 0])
        middle, reach = side // 2, 128
        rows.append([*images, images[0][:, middle - reach : middle + reach, middle - reach : middle + reach]])
        numbers.append([f"{value:.1f}" for value in result.activations[:, 0].tolist()])
    words = ["monarch", "cheeseburger", "256 pixels of the first"]
    return mosaic(rows, captions=numbers, row_names=["256 px", "512 px", "1024 px"], column_names=words, side=256)


PICTURES: dict[str, Callable[[Path], Tensor]] = {
    "larger.jpg": larger,
}


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *PICTURES], help=", ".join(PICTURES))
    parser.add_argument("--photographs", type=Path, help="a folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    for name in options.names or PICTURES:
        began = time.perf_counter()
        picture, path = PICTURES[name](options.photographs), options.out / name
        to_pil(picture).save(path, quality=75)
        seconds = time.perf_counter() - began
        print(f"{name}: {tuple(picture.shape[1:])}, {path.stat().st_size // 1024} KB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
