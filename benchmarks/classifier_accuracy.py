"""Top-1 and top-5 of the embedded classifiers over a folder of photographs whose classes are known.

    python benchmarks/classifier_accuracy.py FOLDER [--out benchmarks/results/classifier_accuracy.json]

FOLDER holds images named by WordNet id, as in the collection of one photograph per ImageNet class:
n01440764_tench.JPEG and so on. Three preparations are compared for each classifier of input side S:

- reference: Pillow resizes the shorter side to S + 32, bicubic, and the centre S x S is cut out;
- bicubic, bilinear: the centre square of S / (S + 32) of the shorter side goes through `Classifier.resize`.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor

from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.util.files import write_json

NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
PREPARATIONS = ("reference", "bicubic", "bilinear")
MARGIN = 32
SUFFIXES = (".jpeg", ".jpg", ".png")


def photographs(folder: Path, classifier: Classifier) -> Iterator[tuple[Image.Image, int]]:
    """Each image whose name begins with a WordNet id of the classifier, and its class index."""
    assert classifier.labels is not None
    for path in sorted(folder.iterdir()):
        match = re.match(r"n\d{8}(?=_|\.)", path.name)
        if match and path.suffix.lower() in SUFFIXES:
            with Image.open(path, formats=("JPEG", "PNG")) as picture:
                yield picture.convert("RGB"), classifier.labels.index(match[0])


def prepare(picture: Image.Image, preparation: str, classifier: Classifier) -> Tensor:
    """`picture` as `[3, S, S]` in [0, 1], for an input size of S."""
    side = classifier.input_size[0]
    if preparation == "reference":
        scale = (side + MARGIN) / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        return center_crop(pil_to_tensor(picture.resize(size, Image.Resampling.BICUBIC)), [side, side]).float() / 255
    square = round(min(picture.size) * side / (side + MARGIN))
    image = center_crop(pil_to_tensor(picture), [square, square]).float() / 255
    classifier.interpolation = preparation
    return classifier.resize(image[None])[0]


@torch.inference_mode()
def measure(folder: Path, device: str) -> list[dict[str, object]]:
    """A row for each classifier and preparation: number of images, top-1 and top-5 accuracy."""
    rows: list[dict[str, object]] = []
    for name in NAMES:
        classifier = load_classifier(name, device=device)
        counts = {preparation: [0, 0] for preparation in PREPARATIONS}
        images, clock = 0, time.perf_counter()
        for picture, label in photographs(folder, classifier):
            batch = torch.stack([prepare(picture, preparation, classifier) for preparation in PREPARATIONS])
            ranked = classifier(batch.to(classifier.device)).topk(5).indices.cpu()
            images += 1
            for preparation, first in zip(PREPARATIONS, ranked, strict=True):
                counts[preparation][0] += int(first[0] == label)
                counts[preparation][1] += int((first == label).any())
        if not images:
            raise SystemExit(f"no image in {folder} is named by a WordNet id, such as n01440764_tench.JPEG")
        seconds = time.perf_counter() - clock
        for preparation, (top1, top5) in counts.items():
            share = {"top1": round(top1 / images, 4), "top5": round(top5 / images, 4)}
            rows.append({"classifier": name, "preparation": preparation, "images": images, **share})
            print(f"{name}  {preparation:10} top-1 {top1 / images:.1%}  top-5 {top5 / images:.1%}", flush=True)
        print(f"{name}  {seconds:.0f} s", flush=True)
    return rows


def processor() -> str:
    """Model name of the CPU."""
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "classifier_accuracy.json")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    rows = measure(arguments.folder, arguments.device)
    record = {
        "command": "python benchmarks/classifier_accuracy.py FOLDER",
        "data": "one photograph for each of the 1000 ImageNet classes (not the validation set)",
        "machine": {
            "device": arguments.device,
            "cpu": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
        "rows": rows,
    }
    write_json(arguments.out, record)


if __name__ == "__main__":
    main()
