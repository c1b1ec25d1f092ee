"""The first image that each method makes of 48 fixed, randomly drawn targets; nothing is selected.

    python benchmarks/target_sheet.py --tiny DIR --methods dgn-lite0 fourier --out docs/images

Half of the targets are classes that the prior's training photographs show, half are not. One sheet a method, one seed,
128 classifier evaluations an image. With `--blind` a second sheet bears numbers in place of names, for somebody who is
to say what each shows; the key is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from prior_quality import EVALUATIONS, selected_classes

import gen_prior as gp
from gen_prior.files import to_pil
from gen_prior.labels import imagenet
from gen_prior.mosaic import mosaic

TARGETS, COLUMNS = 48, 8
SELECTION_SEED = 3


def drawn_targets(tiny: Path) -> list[int]:
    """24 seen and 24 unseen classes in class order, the same every time."""
    source = torch.Generator().manual_seed(SELECTION_SEED)
    drawn: list[int] = []
    for members in selected_classes(tiny, 200).values():
        drawn += [members[i] for i in torch.randperm(len(members), generator=source)[: TARGETS // 2].tolist()]
    return sorted(drawn)


def main() -> None:
    """Synthesise and draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["dgn-lite0", "fourier"])
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    source, targets = gp.load_classifier("efficientnet-lite0"), drawn_targets(options.tiny)
    names = [imagenet().entries[index].name for index in targets]
    numbers = [str(place + 1) for place in range(TARGETS)]
    print("\n".join(f"{place + 1} {name}" for place, name in enumerate(names)))
    for method in options.methods:
        generator = gp.load_generator(method)
        result = gp.synthesize(source, targets, generator, steps=EVALUATIONS, precision=options.precision)
        images = source.resize(result.images[:, 0])
        places = range(0, TARGETS, COLUMNS)
        options.out.mkdir(parents=True, exist_ok=True)
        name = f"targets-{method.replace(':', '-').replace('/', '-')}"
        for suffix, captions in (("", names), *([("-blind", numbers)] if options.blind else [])):
            sheet = mosaic(
                [list(images[start : start + COLUMNS]) for start in places],
                captions=[captions[start : start + COLUMNS] for start in places],
                side=128,
            )
            to_pil(sheet).save(options.out / f"{name}{suffix}.jpg", quality=88)


if __name__ == "__main__":
    main()
