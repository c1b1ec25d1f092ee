"""Sheets of images of 48 fixed, randomly drawn targets, one sheet per method; nothing is selected.

    python benchmarks/target_sheet.py --tiny DIR --methods dgn-lite0 fourier --out docs/images

Half of the targets are classes of the prior's training photographs, half are not. A sheet shows two images of each
target side by side, of seeds 0 and 1 (`--seeds 1`: one), each with 128 classifier evaluations. `--blind KEY` also
writes pages `KEY/METHOD-1.png`, ... of the same images at 256 pixels, numbered in a new random order, for a viewer who
names what each one shows; the class names in that order are in `KEY/METHOD.json`, which the viewer must not see.
`--starts` draws `starts.jpg` instead: for every third target, the image that seed 0 starts from and the result.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from prior_quality import EVALUATIONS, selected_classes
from torch import Tensor

import gen_prior as gp
from gen_prior.classifiers.labels import imagenet
from gen_prior.util.files import write_json
from gen_prior.util.image_io import to_pil
from gen_prior.util.mosaic import mosaic

TARGETS, COLUMNS, SIDE = 48, 8, 128
BLIND_COLUMNS, BLIND_ROWS, BLIND_SIDE = 4, 4, 256
SELECTION_SEED = 3


def drawn_targets(tiny: Path) -> list[int]:
    """24 seen and 24 unseen classes in class order, the same every time."""
    source = torch.Generator().manual_seed(SELECTION_SEED)
    drawn: list[int] = []
    for members in selected_classes(tiny, 200).values():
        drawn += [members[i] for i in torch.randperm(len(members), generator=source)[: TARGETS // 2].tolist()]
    return sorted(drawn)


def sheet(images: Tensor, captions: Sequence[str], columns: int, side: int) -> Image:
    """Sheet of images `[T, S, 3, H, W]`, those of a target side by side with its caption, each `side` pixels wide."""
    cells = images.flatten(0, 1)
    words = [caption for caption in captions for _ in range(images.shape[1])]
    rows = range(0, len(cells), columns)
    return to_pil(
        mosaic(
            [list(cells[start : start + columns]) for start in rows],
            captions=[words[start : start + columns] for start in rows],
            side=side,
        )
    )


def blind_pages(images: Tensor) -> Iterator[Image]:
    """Pages of images `[T, S, 3, H, W]` with the number of their target below."""
    numbers = [f"{index + 1}" for index in range(len(images))]
    page = BLIND_COLUMNS * BLIND_ROWS // images.shape[1]
    for start in range(0, len(images), page):
        yield sheet(images[start : start + page], numbers[start : start + page], BLIND_COLUMNS, BLIND_SIDE)


def starts(source: gp.Classifier, method: str, targets: Sequence[int], precision: str) -> Image:
    """Rows of eight: the images that seed 0 of each target starts from, and below them the results."""
    generator = gp.load_generator(method)
    codes = torch.stack([generator.initial_code(0, source.class_key(target)) for target in targets])
    with torch.no_grad():
        before = torch.cat([generator(code[None]) for code in codes]).clamp(0, 1)
    recipe = generator.recipe.within(EVALUATIONS)
    after = gp.synthesize(source, targets, generator, recipe=recipe, precision=precision).images[:, 0]
    rows, words = [], []
    for first in range(0, len(targets), COLUMNS):
        columns = range(first, min(first + COLUMNS, len(targets)))
        rows += [[images[index] for index in columns] for images in (before, after)]
        words += [[" " for _ in columns], [imagenet().entries[targets[index]].name for index in columns]]
    return to_pil(mosaic(rows, captions=words, side=SIDE))


def main() -> None:
    """Synthesise and draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["dgn-lite0", "fourier"])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--blind", type=Path, metavar="KEY")
    parser.add_argument("--seeds", type=int, choices=(1, 2, 4), default=2, help="images of each target")
    parser.add_argument("--starts", action="store_true", help="draw the starts of the first method's images")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    source, targets = gp.load_classifier("efficientnet-lite0"), drawn_targets(options.tiny)
    names = [imagenet().entries[index].name for index in targets]
    if options.starts:
        starts(source, options.methods[0], targets[::3], options.precision).save(options.out / "starts.jpg", quality=88)
        return
    for method in options.methods:
        generator = gp.load_generator(method)
        recipe = generator.recipe.within(EVALUATIONS)
        images = gp.synthesize(
            source, targets, generator, recipe=recipe, seeds=options.seeds, precision=options.precision
        ).images
        name = method.replace(":", "-").replace("/", "-")
        sheet(images, names, COLUMNS, SIDE).save(options.out / f"targets-{name}.jpg", quality=88)
        if options.blind is not None:
            options.blind.mkdir(parents=True, exist_ok=True)
            order = random.SystemRandom().sample(range(TARGETS), TARGETS)
            for number, page in enumerate(blind_pages(images[order]), start=1):
                page.save(options.blind / f"{name}-{number}.png")
            write_json(options.blind / f"{name}.json", [names[index] for index in order])


if __name__ == "__main__":
    main()
