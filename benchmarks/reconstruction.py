"""Reconstructions by the embedded prior of photographs that it was not trained on: PSNR, feature distance, a picture.

    python benchmarks/reconstruction.py --tiny DIR

The held-out photographs of the training (1000 of Tiny ImageNet's 100,000) are encoded by the networks in
`weights/make`, at their own size and enlarged to 128 pixels; the embedded generator decodes the projection of the finer
code on what its coarse and fine codes can express. PSNR is taken at 64 pixels; the feature distance is 1 - cosine of
the judge's (lite2) penultimate features of original and reconstruction, both enlarged to its input size. The picture
shows squares of scikit-image's test pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import gen_prior as gp
from gen_prior.generators.dgn.network import WhitenedDecoder
from gen_prior.report.metrics import logits_and_features
from gen_prior.training.networks import FeatureExtractor
from gen_prior.training.photographs import open_photographs
from gen_prior.training.prior_file import load_networks
from gen_prior.training.stage import Material
from gen_prior.training.stages.decoder import DecoderSettings, DecoderStage
from gen_prior.util.files import write_json
from gen_prior.util.image_io import write_png
from gen_prior.util.mosaic import mosaic

NETWORKS = Path(__file__).parent.parent / "weights" / "make" / "dgn-lite0-networks.safetensors"
SIDE, BATCH = 64, 100


def test_squares() -> Tensor:
    """Twelve photographs `[12, 3, 128, 128]`: three squares of each of four test pictures of scikit-image."""
    from skimage import data

    squares: list[Tensor] = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1).float() / 255
        side = min(picture.shape[1:])
        for share in (1.0, 0.6, 0.6):
            edge = round(side * share)
            left = 0 if len(squares) % 3 == 1 else picture.shape[2] - edge
            cut = picture[None, :, side - edge : side, left : left + edge]
            squares.append(F.interpolate(cut, (2 * SIDE, 2 * SIDE), mode="bicubic", antialias=True).clamp(0, 1)[0])
    return torch.stack(squares)


def main() -> None:
    """Encode and decode the held-out photographs, measure the errors and draw examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="folder for decoded photographs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reconstruction.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/reconstructions.png"))
    options = parser.parse_args()
    classifier, judge = gp.load_classifier("efficientnet-lite0"), gp.load_classifier("efficientnet-lite2")
    network = gp.load_generator("dgn-lite0").module
    assert isinstance(network, WhitenedDecoder)
    with tempfile.TemporaryDirectory() as folder:
        photographs = open_photographs(options.tiny / "train", SIDE, options.cache or folder)
        networks, digest = load_networks(NETWORKS)
        material = Material(classifier, FeatureExtractor(classifier, SIDE), None, Path(folder), classifier.device)
        material.photographs, material.start = photographs, networks
        trainer = DecoderStage(material, DecoderSettings())
        originals = photographs.batch(trainer.held_out)

    fine_code = network.details
    assert fine_code is not None
    basis = fine_code.basis.float()
    details = basis / basis.square().sum(0)  # its columns are orthogonal

    def remade(images: Tensor) -> Tensor:
        """Reconstructions of images of twice the side of the coarse decoding, at their own size."""
        with torch.no_grad():
            expected = fine_code.expected(trainer.encode(F.avg_pool2d(images, 2)))
            rest = (trainer.encode(images) - expected).flatten(1) @ details @ basis.T
            return network.decode(expected + rest.view_as(expected)).clamp(0, 1)

    enlarged = F.interpolate(originals, scale_factor=2.0, mode="bicubic").clamp(0, 1)
    copies = torch.cat([remade(part) for part in enlarged.split(BATCH)])
    errors = (F.adaptive_avg_pool2d(copies, SIDE) - originals).square().flatten(1).mean(1)
    features = [
        torch.cat([logits_and_features(judge, part)[1] for part in images.split(BATCH)])
        for images in (originals, copies)
    ]
    report = {
        "protocol": __doc__,
        "photographs": len(originals),
        "psnr": float((-10 * errors.log10()).mean()),
        "feature_distance": float((1 - F.cosine_similarity(features[0], features[1])).mean()),
        "networks_sha256": digest,
        "generator": gp.load_generator("dgn-lite0").describe(),
    }
    write_json(options.out, report)
    shown = test_squares()
    rows = [list(images) for images in (shown, remade(shown))]
    write_png(options.picture, mosaic(rows, row_names=["photograph", "its code"], side=96))
    print(json.dumps({key: report[key] for key in ("photographs", "psnr", "feature_distance")}))


if __name__ == "__main__":
    main()
