"""Exported folders are complete and load back; pulled weights then work offline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from checkpoints import BIGGAN, biggan_state, consistency, dcgan, pickled, saved_folder, tiny, upconv_state
from command_runner import Run
from hub_server import Hub, left_in_cache
from huggingface_hub import constants
from safetensors.torch import save as safetensors
from torch import Tensor, nn

import gen_prior.applications.comparison as comparison
from gen_prior.applications.publish import export, pull
from gen_prior.classifiers import load_classifier
from gen_prior.errors import OptionError, OutputError, UnknownNameError, WeightsError
from gen_prior.generators import Generator, load_generator
from gen_prior.generators.code_statistics import Accumulator, save
from gen_prior.generators.deepsim.network import VARIANTS, UpconvNetwork
from gen_prior.generators.dgn import generator as dgn
from gen_prior.hub import registry
from gen_prior.hub.tensors import read_file_metadata, read_tensors, save_safetensors
from gen_prior.report.model_card import model_card

EMBEDDED = Path(str(resources.files("gen_prior.weights").joinpath(dgn.EMBEDDED["dgn-lite0"])))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_prior.hub.convert.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("gen_prior.generators.code_statistics.cache_folder", lambda: tmp_path / "cache")


def same_images(first: str, second: str) -> None:
    a, b = (load_generator(spec, device="cpu") for spec in (first, second))
    assert a.code_shape == b.code_shape
    code = a.initial_code(3)[None]
    torch.testing.assert_close(a(code), b(code), atol=0, rtol=0)


def test_the_embedded_prior(tmp_path: Path) -> None:
    folder = export("dgn-lite0", tmp_path / "out", samples=2)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {"README.md", "generator.safetensors", "samples/seed-0.png", "samples/seed-1.png"}
    same_images("dgn-lite0", f"local-dir:{folder}")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "samples/seed-1.png" in card
    assert "codes of 8 photographs for each of 1000 classes" in card
    again = export(f"local-dir:{folder}", tmp_path / "again", samples=0)
    assert (again / "generator.safetensors").read_bytes() == (folder / "generator.safetensors").read_bytes()


def test_a_pickled_deepsim_with_statistics(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    state = UpconvNetwork(VARIANTS["deepsim-conv3"]).state_dict()
    torch.save({key.removeprefix("layers."): value for key, value in state.items()}, source / "upconvGAN_conv3.pt")
    spec = f"local-dir:{source}"
    generator = load_generator(spec, device="cpu")
    accumulator = Accumulator(generator.code_shape)
    accumulator.add(torch.rand(3, *generator.code_shape))
    save(accumulator.result(), generator)
    folder = export(spec, tmp_path / "out", samples=1)
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert names == {"README.md", "config.json", "model.safetensors", "statistics.safetensors", "seed-0.png"}
    assert json.loads((folder / "config.json").read_text()) == {
        "format": "gen-prior/deepsim-1",
        "variant": "deepsim-conv3",
        "layer": "relu3",
        "code_shape": [384, 13, 13],
        "image_size": 256,
    }
    same_images(spec, f"local-dir:{folder}")
    assert load_generator(f"local-dir:{folder}", device="cpu").notes["bounds"] == "mean + 3 std, calibrated"
    assert read_file_metadata(folder / "model.safetensors")["licence"].endswith("by their consent")
    assert "research use only" in (folder / "README.md").read_text()


def test_a_dcgan(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [
        nn.ConvTranspose2d(64, 8, 4),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 8, 4, 2, 1),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
    ]
    torch.save(nn.Sequential(*layers).state_dict(), tmp_path / "netG.pth")
    folder = export(f"dcgan:{tmp_path / 'netG.pth'}", tmp_path / "out", samples=0)
    same_images(f"dcgan:{tmp_path / 'netG.pth'}", f"local-dir:{folder}")


def pickled_tiny(path: Path) -> dict[str, bytes | Path]:
    network = tiny()
    files = saved_folder(network, path)
    del files["diffusion_pytorch_model.safetensors"]
    return files | {"diffusion_pytorch_model.bin": pickled(network.state_dict())}


def in_a_pipeline(path: Path) -> dict[str, bytes | Path]:
    files = {f"vae/{name}": data for name, data in saved_folder(tiny(), path).items()}
    return files | {"model_index.json": b'{"_class_name": "StableDiffusionPipeline", "vae": ["a", "b"]}'}


Files = dict[str, bytes | Path]
SOURCES: dict[str, tuple[str, Callable[[Path], Files], dict[str, Any]]] = {
    "biggan-deep-128": (
        "osanseviero/BigGAN-deep-128",
        lambda path: {"config.json": json.dumps(BIGGAN).encode(), "pytorch_model.bin": pickled(biggan_state())},
        {"class_label": 3, "truncation": 0.4},
    ),
    "deepsim-norm1": (
        registry.DEEPSIM,
        lambda path: {"upconvGAN_norm1.pt": pickled({k: v - 0.06 for k, v in upconv_state("deepsim-norm1").items()})},
        {"crop": 224},
    ),
    "diffusers:madebyollin/taesd": ("madebyollin/taesd", lambda path: saved_folder(tiny(), path), {"image_size": 16}),
    "diffusers:a/pickled": ("a/pickled", pickled_tiny, {"image_size": 16}),
    "hf-hub:a/pipeline": ("a/pipeline", in_a_pipeline, {"image_size": 16}),
    "consistency:openai/diffusers-ct_imagenet64": (
        "openai/diffusers-ct_imagenet64",
        lambda path: saved_folder(consistency(), path),
        {"class_label": 3},
    ),
    "dcgan:a/dcgan": ("a/dcgan", lambda path: {"generator.pth": pickled(dcgan())}, {}),
    "hf-hub:a/prior": ("a/prior", lambda path: {dgn.FILE: EMBEDDED}, {}),
}
"""Name -> repository, its files, options to load it with."""


@pytest.mark.parametrize("name", SOURCES)
@torch.no_grad()
def test_every_family_reads_back_as_it_was(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, files, options = SOURCES[name]
    commit = hub.publish(repo, files(tmp_path / "saved"), commit=registry.DEEPSIM_REVISION if "deep" in name else None)
    source = load_generator(name, device="cpu", **options)
    if measured := source.can_encode:
        accumulator = Accumulator(source.code_shape)
        accumulator.add(torch.rand(4, *source.code_shape, generator=torch.Generator().manual_seed(5)))
        save(accumulator.result(), source)
        source = load_generator(name, device="cpu", **options)
        assert torch.equal(torch.as_tensor(source.prior.mean), accumulator.result().mean)
    folder = export(name, tmp_path / "out", samples=1, options=options)
    hub.publish("me/mine", {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()})
    code = source.initial_code(3)[None]
    image: Tensor = source(code)
    assert image.std() > 0.001, "a grey square would equal any other"
    monkeypatch.setattr("gen_prior.generators.code_statistics.cache_folder", lambda: tmp_path / "of another machine")
    for where in (f"local-dir:{folder}", "hf-hub:me/mine"):
        again = load_generator(where, device="cpu", **options)
        torch.testing.assert_close(again(code), image, atol=0, rtol=0)
        assert torch.equal(again.initial_code(3)[None], code)
        assert (again.recipe, again.options) == (source.recipe, source.options)
        assert (again.notes, again.provenance.licence) == (source.notes, source.provenance.licence)
        assert again.provenance.paper == source.provenance.paper
        for part in ("mean", "std", "minimum", "maximum"):
            ours, theirs = (getattr(prior, part) for prior in (again.prior, source.prior))
            assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs)) if ours is not None else theirs is None
    assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt*"))
    assert (folder / "statistics.safetensors").exists() == measured
    (weights,) = (path for path in folder.rglob("*.safetensors") if path.name != "statistics.safetensors")
    if name != "hf-hub:a/prior":
        configs = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
        pipeline = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"}
        assert configs == (pipeline if "consistency" in name else {"config.json"})
    if name != "hf-hub:a/prior":  # whose file is copied whole
        metadata = read_file_metadata(weights)
        assert metadata["revision"] == commit
        assert metadata["source"] == f"hf-hub:{repo}"
    card = (folder / "README.md").read_text()
    assert commit in card
    assert all(f"{key}={value!r}" in card for key, value in options.items()), "the options that made the samples"
    other = export(f"local-dir:{folder}", tmp_path / "again", samples=0, options=options)
    assert read_tensors(other / weights.relative_to(folder)).keys() == read_tensors(weights).keys()


def test_a_dcgans_sizes_are_in_its_config(tmp_path: Path) -> None:
    (tmp_path / "generator.pth").write_bytes(pickled(dcgan()))
    folder = export(f"dcgan:{tmp_path}", tmp_path / "out", samples=0)
    stated = {"format": "gen-prior/dcgan-1", "latent": 64, "image_size": 16, "channels": 3, "widths": [8, 8, 3]}
    assert json.loads((folder / "config.json").read_text()) == stated


def test_a_paper_is_nobodys_guess(hub: Hub, tmp_path: Path) -> None:
    hub.publish("a/unknown", saved_folder(tiny(), tmp_path / "saved"))
    assert load_generator("diffusers:a/unknown", device="cpu", image_size=16).provenance.paper is None


def test_an_exported_config_that_names_no_generator_is_refused(tmp_path: Path) -> None:
    (tmp_path / "upconvGAN_conv3.pt").write_bytes(pickled(upconv_state("deepsim-conv3")))
    (tmp_path / "config.json").write_text('{"format": "gen-prior/deepsim-1", "variant": "deepsim-conv9"}')
    with pytest.raises(WeightsError, match=r"config\.json names 'deepsim-conv9'; known: deepsim-fc6"):
        load_generator(f"local-dir:{tmp_path}", device="cpu")


def test_pull_finds_a_wrong_layout(hub: Hub, tmp_path: Path) -> None:
    wrong: Files = {"config.json": json.dumps(BIGGAN).encode(), "pytorch_model.bin": pickled(dcgan())}
    hub.publish("osanseviero/BigGAN-deep-128", wrong)
    with pytest.raises(WeightsError, match="does not fit this BigGAN-deep"):
        pull("biggan-deep-128")
    assert left_in_cache(tmp_path) == []


def test_pull_takes_classifiers_of_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("test_byobnet.r160_in1k", pretrained=False, num_classes=5)
    config = {"architecture": "test_byobnet", "num_classes": 5, "pretrained_cfg": {"input_size": [3, 160, 160]}}
    files: Files = {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(network.state_dict())}
    commit = hub.publish("timm/tiny", files)
    assert pull("hf-hub:timm/tiny").revision == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_classifier(f"hf-hub:timm/tiny@{commit}", device="cpu").provenance.revision == commit


def test_pull_keeps_nothing_of_a_classifier_that_does_not_fit(hub: Hub, tmp_path: Path) -> None:
    config = json.dumps({"architecture": "test_resnet", "num_classes": 5}).encode()
    hub.publish("timm/x", {"config.json": config, "model.safetensors": safetensors({"fc.weight": torch.ones(5, 3)})})
    with pytest.raises(WeightsError, match="15 numbers for a network of"):
        pull("hf-hub:timm/x")
    assert left_in_cache(tmp_path) == []


def test_twins_stay_apart(tmp_path: Path) -> None:
    """conv3 and conv4 have the same shapes, and different encoders."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "upconvGAN_conv3.pt").write_bytes(pickled(upconv_state("deepsim-conv3")))
    folder = export(f"local-dir:{tmp_path / 'source'}", tmp_path / "out", samples=0)
    assert load_generator(f"local-dir:{folder}", device="cpu").notes["variant"] == "deepsim-conv3"


COMPARED = {
    "format": comparison.FORMAT, "classifier": {"name": "lite0"}, "natural": {"size": 0}, "targets": [], "seeds": [0],
}  # fmt: skip


def test_numbers_of_a_comparison_are_in_the_card(tmp_path: Path) -> None:
    summary = {"activation": {"value": 12.345, "low": 11.0, "high": 13.0, "count": 3}}
    methods = [
        {"name": "dgn-lite0", "folder": "dgn-lite0", "summary": summary},
        {"name": "pixel|<b>", "folder": "pixel-b", "summary": {}},
    ]
    (tmp_path / "comparison.json").write_text(json.dumps(COMPARED | {"methods": methods}))
    card = (export("dgn-lite0", tmp_path / "out", comparison=tmp_path, samples=0) / "README.md").read_text()
    assert "| dgn-lite0 | 12.3 (11 to 13) |" in card
    assert "| pixel\\|&lt;b> | - |" in card
    by_file = export("dgn-lite0", tmp_path / "by-file", comparison=tmp_path / "comparison.json", samples=0)
    assert (by_file / "README.md").read_text() == card


def with_metadata(folder: Path, **metadata: str) -> str:
    """The embedded prior in a folder of its own, with these entries in its metadata besides."""
    save_safetensors(folder / dgn.FILE, read_tensors(EMBEDDED), read_file_metadata(EMBEDDED) | metadata)
    return f"local-dir:{folder}"


def test_numbers_that_the_weights_state_are_in_the_card(tmp_path: Path) -> None:
    summary = {"judge top-1": {"value": 0.75, "low": 0.5, "high": 0.875}, "seconds": 3}
    for number, stated in enumerate(
        ({"dgn-lite0": summary}, {"format": "x", "methods": [{"name": "dgn-lite0", "summary": summary}]})
    ):
        spec = with_metadata(tmp_path / f"source{number}", comparison=json.dumps(stated))
        card = (export(spec, tmp_path / f"out{number}", samples=0) / "README.md").read_text()
        assert "| dgn-lite0 | 0.75 (0.5 to 0.875) | 3 |" in card
    summary = {"a": {"value": 1, "low": 1, "high": 1, "count": 1}}
    given = COMPARED | {"methods": [{"name": "other", "folder": "other", "summary": summary}]}
    (tmp_path / "comparison.json").write_text(json.dumps(given))
    card = (export(spec, tmp_path / "given", comparison=tmp_path, samples=0) / "README.md").read_text()
    assert "| other | 1 (1 to 1) |" in card
    assert "0.875" not in card


@pytest.mark.parametrize(
    "stated",
    [None, "", "[1]", '"x"', "{", '{"methods": [{}]}', '{"methods": [1]}', '{"a": 1}', "[" * 5000],
)
def test_a_comparison_that_cannot_be_read_is_left_out(tmp_path: Path, stated: str | None) -> None:
    spec = with_metadata(tmp_path / "source", **({} if stated is None else {"comparison": stated}))
    assert "Compared" not in (export(spec, tmp_path / "out", samples=0) / "README.md").read_text()


@pytest.mark.parametrize("wrong", ["x", 10**400, {"value": 10**400}, {"value": 1, "low": "x", "high": 2}, [1], True])
def test_numbers_that_are_none_leave_the_card_whole(tiny_generator: Generator, wrong: Any) -> None:
    card = model_card("tiny", tiny_generator, 0, {"tiny": {"activation": wrong, "seconds": 3}})
    assert re.search(r"\| tiny \| (-|1) \| 3 \|", card)


@pytest.mark.parametrize(
    "record",
    [b"", b"[1]", b"{" * 5000, b"\xff", b'{"format": 3}', None],
)
def test_a_damaged_comparison_is_refused(tmp_path: Path, record: bytes | None) -> None:
    wrong = {"methods": [{"name": "a", "folder": "a", "summary": {"x": {"value": 1, "low": 0, "high": 10**400}}}]}
    data = json.dumps(COMPARED | wrong).encode() if record is None else record
    (tmp_path / "comparison.json").write_bytes(data)
    done = Run("export", "dgn-lite0", tmp_path / "out", "--comparison", tmp_path)
    assert done.code == 1
    assert "comparison" in done.complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json"]


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        export("dgn-lite0", tmp_path / "full")
    with pytest.raises(OptionError, match="has no weights"):
        export("fourier", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
    with pytest.raises(UnknownNameError, match="deepsim-fc6"):
        pull("deepsim-fc66")
    assert pull("dgn-lite0").source == "embedded"
