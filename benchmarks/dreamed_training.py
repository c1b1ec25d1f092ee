"""Does adding synthetic images to a small training set help? `python benchmarks/dreamed_training.py FOLDER DREAMED`.

FOLDER is real images, one folder per WordNet id (`FOLDER/train/n01443537/**`, the layout of Tiny ImageNet, or
`FOLDER/n01443537/*`); DREAMED is the folder of the synthetic images, which are made if missing. A small network is
trained from scratch on a few real images of each class, with and without the synthetic ones, for the same number of
updates of the same batch size, and tested on other real images. Writes benchmarks/results/dreamed_training.json.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gen_prior.applications.dataset import make_dataset
from gen_prior.classifiers import load_classifier
from gen_prior.generators import load_generator
from gen_prior.util.files import write_json
from gen_prior.util.image_io import image_files, read_image

SIDE = 32
CLASSES = [
    # goldfish, bullfrog, jellyfish, monarch, sulphur butterfly, African elephant, basketball, keyboard, orange, pizza
    "n01443537",
    "n01641577",
    "n01910747",
    "n02279972",
    "n02281406",
    "n02504458",
    "n02802426",
    "n03085013",
    "n07747607",
    "n07873807",
]


def small_network(classes: int) -> nn.Module:
    """Four convolutions, for images of 32 pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 96), (96, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def small(path: Path) -> Tensor:
    """The image at `path`, `[3, 32, 32]`."""
    return F.interpolate(read_image(path)[None], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[0]


def accuracy(images: Tensor, labels: Tensor, tests: tuple[Tensor, Tensor], *, seed: int, updates: int) -> float:
    """Top-1 accuracy on `tests` after training on `images` with mirroring and shifts."""
    torch.manual_seed(seed)
    network = small_network(int(labels.max()) + 1).train()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, updates)
    for _ in range(updates):
        chosen = torch.randint(len(images), (64,))
        batch = images[chosen]
        batch = torch.where(torch.rand(64, 1, 1, 1) < 0.5, batch.flip(3), batch)
        batch = batch.roll((int(torch.randint(-3, 4, ())), int(torch.randint(-3, 4, ()))), (2, 3))
        loss = F.cross_entropy(network(batch), labels[chosen], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return float((network.eval()(tests[0]).argmax(1) == tests[1]).float().mean())


def compare_training_sets(
    real: list[Tensor], dreamed: tuple[Tensor, Tensor], tests: tuple[Tensor, Tensor], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Accuracies after training on real images, on synthetic ones (images and labels), and on both."""
    rows: list[dict[str, Any]] = []
    for count in options.real:
        images = torch.cat([images[:count] for images in real])
        labels = torch.arange(len(real)).repeat_interleave(count)
        sets = {
            "real": (images, labels),
            "real and dreamed": (torch.cat([images, dreamed[0]]), torch.cat([labels, dreamed[1]])),
            "dreamed": dreamed,
        }
        for name, (x, y) in sets.items():
            values = [accuracy(x, y, tests, seed=s, updates=options.updates) for s in range(options.seeds)]
            row = {"real_per_class": count, "trained_on": name, "accuracy": round(statistics.mean(values), 4)}
            rows.append(row | {"of_each_seed": [round(value, 4) for value in values]})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Make the synthetic images, train on each set, and write the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("dreamed", type=Path)
    parser.add_argument("--classes", nargs="*", default=list(CLASSES))
    parser.add_argument("--real", type=int, nargs="*", default=[5, 20, 100], help="real training images per class")
    parser.add_argument("--per-class", type=int, default=20, help="synthetic images per class")
    parser.add_argument("--steps", type=int, default=60, help="steps of each synthetic image")
    parser.add_argument("--tests", type=int, default=100, help="real test images per class")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dreamed_training.json")
    options = parser.parse_args()
    root = options.folder / "train" if (options.folder / "train").is_dir() else options.folder
    classifier, generator = load_classifier("efficientnet-lite0"), load_generator("dgn-lite0")
    samples = make_dataset(
        classifier, generator, options.dreamed, classes=options.classes, per_class=options.per_class,
        steps=options.steps, progress=lambda p: print(f"{p.label}: {p.done}/{p.total}", flush=True),
    )  # fmt: skip
    order = [classifier.class_index(name) for name in options.classes]
    dreamed = [sample for sample in samples if sample.kept and sample.class_index in order]
    dreams = torch.stack([small(options.dreamed / sample.file) for sample in dreamed])
    dream_labels = torch.tensor([order.index(sample.class_index) for sample in dreamed])
    real = [
        torch.stack([small(p) for p in image_files([root / n])[: max(options.real) + options.tests]])
        for n in options.classes
    ]
    tests = torch.cat([images[-options.tests :] for images in real])
    test_labels = torch.arange(len(real)).repeat_interleave(options.tests)
    rows = compare_training_sets(real, (dreams, dream_labels), (tests, test_labels), options)
    record = {
        "classes": options.classes,
        "dreamed_per_class": options.per_class,
        "dream_steps": options.steps,
        "tests_per_class": options.tests,
        "updates": options.updates,
        "chance": round(1 / len(options.classes), 4),
        "rows": rows,
        "generator": {"name": generator.name, "sha256": generator.describe()["sha256"]},
        "machine": {"cpu": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    write_json(options.out, record)


if __name__ == "__main__":
    main()
