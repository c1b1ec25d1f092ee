"""Every reader of files that others may have written: damaged files raise errors of ours, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import BIGGAN, biggan_state, consistency, dcgan, kl, pickled, saved_folder, upconv_state
from checkpoints import tiny as tiny_vae
from fuzz import once_failed
from fuzz.mutations import LONG, as_text, damaged, damaged_json, fuzz
from hypothesis import strategies as st
from limits import bounded
from PIL import Image
from safetensors.torch import save

from gen_prior.applications.compare import compare, load_comparison
from gen_prior.applications.dataset import make_dataset, read_samples
from gen_prior.applications.evolve import Evolution
from gen_prior.classifiers import Classifier, load_classifier
from gen_prior.errors import GenPriorError, ImageError, OutputError, WeightsError
from gen_prior.generators import Generator, load_generator
from gen_prior.hub.convert import read_pickled
from gen_prior.hub.tensors import read_file_metadata, read_shapes, read_tensors
from gen_prior.optimise.load_result import load_result
from gen_prior.optimise.synthesize import synthesize
from gen_prior.report.comparison_sheet import draw_sheet
from gen_prior.training.photographs import open_photographs
from gen_prior.util.image_io import read_image

COUNTS = pytest.mark.parametrize("count", [20, pytest.param(500, marks=LONG)])
SLOW_COUNTS = pytest.mark.parametrize("count", [8, pytest.param(80, marks=LONG)])


@COUNTS
def test_safetensors(count: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    valid = save({"a": torch.randn(3, 4), "b": torch.ones(5).half()}, {"format": "pt"})

    def check(data: bytes) -> None:
        path.write_bytes(data)
        for read in (read_tensors, read_shapes, read_file_metadata):
            with contextlib.suppress(WeightsError):
                read(path)

    fuzz(count, damaged(valid), check, [b"", b"\xff" * 8 + b"{}", valid[:8] + b"{" * 100])
    length = int.from_bytes(valid[:8], "little")

    def check_header(header: Any) -> None:
        text = as_text(header).encode()
        check(len(text).to_bytes(8, "little") + text + valid[8 + length :])

    fuzz(count, damaged_json(json.loads(valid[8 : 8 + length])), check_header)


@COUNTS
def test_pickles(count: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):
            read_pickled(path)

    valid = pickled({"a": torch.ones(4), "b": torch.zeros(2, 2).half()})
    known = [b"", b"\x80\x02.", valid[:4] + valid[5:], valid[1:]]  # a directory of an archive that is not there
    fuzz(count, damaged(valid), check, known)


@COUNTS
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_images(count: int, kind: str, tmp_path: Path) -> None:
    path, buffer = tmp_path / "x.png", io.BytesIO()
    Image.effect_noise((24, 20), 50).convert("RGB").save(buffer, kind)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(ImageError):
            assert read_image(path).shape[0] == 3

    fuzz(count, damaged(buffer.getvalue()), check, [b"", buffer.getvalue()[:20]])


@SLOW_COUNTS
def test_tar_shards(count: int, tmp_path: Path) -> None:
    picture, shard = io.BytesIO(), io.BytesIO()
    Image.effect_noise((16, 16), 50).convert("RGB").save(picture, "PNG")
    with tarfile.open(fileobj=shard, mode="w") as tar:
        for name in ("a.png", "b.png", "c.png"):
            entry = tarfile.TarInfo(name)
            entry.size = len(picture.getvalue())
            tar.addfile(entry, io.BytesIO(picture.getvalue()))

    def check(data: bytes) -> None:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / "x.tar").write_bytes(data)
        with contextlib.suppress(GenPriorError), bounded(20, 2**30):
            open_photographs(tmp_path / "in", 8, tmp_path / "cache")

    fuzz(count, damaged(shard.getvalue()), check, once_failed.shards(picture.getvalue()))


@SLOW_COUNTS
def test_results(count: int, tiny: None, tmp_path: Path) -> None:
    classifier, generator = load_classifier("tiny"), load_generator("tiny")
    result = synthesize(classifier, ["bee", "conv2:3"], generator, seeds=2, steps=1, batch=2, out=tmp_path)
    assert result.images.shape[0] == 2
    valid = json.loads((tmp_path / "result.json").read_text())

    def check(record: Any) -> None:
        (tmp_path / "result.json").write_text(as_text(record), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            found = load_result(tmp_path)
            assert found.images.shape[1:2] == found.activations.shape[1:]
            found.replay(classifier, generator)

    nameless = json.loads(as_text(valid))
    del nameless["targets"][0]["target"]
    fuzz(count * 3, damaged_json(valid), check, [nameless])
    (tmp_path / "result.json").write_text(as_text(valid))
    data = (tmp_path / "bee-seed0.safetensors").read_bytes()

    def check_data(changed: bytes) -> None:
        (tmp_path / "bee-seed0.safetensors").write_bytes(changed)
        if changed != data:
            with pytest.raises(OutputError):
                load_result(tmp_path)

    fuzz(count, damaged(data), check_data)


@SLOW_COUNTS
def test_comparisons(count: int, tiny: None, tmp_path: Path) -> None:
    made = compare(load_classifier("tiny"), "bee", ["tiny"], judge=None, seeds=2, evaluations=2, out=tmp_path)
    assert made.record["finished"]
    valid = json.loads((tmp_path / "comparison.json").read_text())

    def check(record: Any) -> None:
        (tmp_path / "comparison.json").write_text(as_text(record), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            load_comparison(tmp_path).summary()
        with contextlib.suppress(GenPriorError):
            draw_sheet(tmp_path)

    fuzz(count * 3, damaged_json(valid), check, once_failed.comparisons(valid))


@SLOW_COUNTS
def test_datasets(count: int, tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> None:
    make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=[1], per_class=2, steps=1)
    line = json.loads((tmp_path / "images.jsonl").read_text().splitlines()[0])

    def check(record: Any) -> None:
        (tmp_path / "images.jsonl").write_text(as_text(record) + "\n", encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(OutputError):
            for sample in read_samples(tmp_path):
                assert (tmp_path / sample.file).resolve().is_relative_to((tmp_path / "images").resolve())

    fuzz(count * 3, damaged_json(line), check, [[], [line], 3, *(line | change for change in once_failed.SAMPLES)])
    settings = json.loads((tmp_path / "settings.json").read_text())

    def check_settings(changed: Any) -> None:
        (tmp_path / "settings.json").write_text(as_text(changed), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            make_dataset(tiny_classifier, tiny_generator, tmp_path, classes=[1], per_class=2, steps=1)

    fuzz(count, damaged_json(settings), check_settings)


@SLOW_COUNTS
def test_evolutions(count: int, tiny_generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "evolution.npz"
    search = Evolution(tiny_generator, population=6)
    for _ in range(2):
        generation = search.ask()
        search.tell(torch.arange(len(generation.codes)).float())
    search.save(path)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(GenPriorError):
            Evolution.load(path, tiny_generator)

    valid, known = path.read_bytes(), [b"", b"PK\x03\x04"]
    entry = valid.index(b"PK\x01\x02")
    for place, value in ((8, 1), (10, 99), (10, 8)):  # encrypted, an unknown compression, no valid zlib stream
        known.append(valid[: entry + place] + bytes([value]) + valid[entry + place + 1 :])
    known += [valid.replace(b"'shape': (", b"'shape': -"), valid.replace(b"'descr': '<f8'", b"'descr': '|O8'")]
    fuzz(count * 3, damaged(valid), check, known)


def _families(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Family -> files: JSON files as values, others as bytes or paths."""
    vae, two = saved_folder(tiny_vae(), tmp_path / "taesd"), saved_folder(kl(), tmp_path / "kl")
    pipeline = saved_folder(consistency(), tmp_path / "consistency")
    return {
        "tiny-vae": vae,
        "kl": two,
        "consistency": pipeline,
        "biggan": {"config.json": json.dumps(BIGGAN).encode(), "model.safetensors": save(biggan_state())},
        "dcgan": {"model.safetensors": save(dcgan()), "config.json": b'{"format": "gen-prior/dcgan-1", "latent": 64}'},
        "deepsim": {
            "model.safetensors": save(upconv_state("deepsim-norm1")),
            "config.json": b'{"format": "gen-prior/deepsim-1", "variant": "deepsim-norm1"}',
        },
    }


@pytest.mark.parametrize("count", [3, pytest.param(40, marks=LONG)])
@pytest.mark.parametrize("family", ["tiny-vae", "kl", "consistency", "biggan", "dcgan", "deepsim"])
def test_configurations_of_generators(count: int, family: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    configs: dict[str, Any] = {}
    for name, data in _families(tmp_path)[family].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = data.read_bytes() if isinstance(data, Path) else data
        (folder / name).write_bytes(content)
        if name.endswith(".json"):
            configs[name] = json.loads(content)

    def check(change: tuple[str, Any]) -> None:
        name, value = change
        before = (folder / name).read_bytes()
        (folder / name).write_text(as_text(value), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            load_generator(f"local-dir:{folder}", device="cpu")
        (folder / name).write_bytes(before)

    changes = [st.tuples(st.just(name), damaged_json(config)) for name, config in configs.items()]
    fuzz(count, st.one_of(changes), check)


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=LONG)])
def test_configurations_of_classifiers(count: int, tmp_path: Path) -> None:
    import timm

    network = timm.create_model("test_resnet", num_classes=5)
    (tmp_path / "model.safetensors").write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))
    cfg = {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic"}
    valid = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": cfg, "label_names": list("abcde")}

    def check(config: Any) -> None:
        (tmp_path / "config.json").write_text(as_text(config), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            load_classifier(f"local-dir:{tmp_path}", device="cpu")

    known = [
        valid | {"pretrained_cfg": cfg | {"input_size": [3, 2**20, 2**20]}},
        valid | {"pretrained_cfg": cfg | {"input_size": [3, 8000, 8000]}},
        valid | {"architecture": "vit_giant_patch14_224"},
    ]
    fuzz(count, damaged_json(valid), check, known)
