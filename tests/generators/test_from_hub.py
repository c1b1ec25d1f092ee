"""Every family through the real Hub client, from random checkpoints in the published layouts; formats recognised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    BIGGAN,
    biggan_state,
    consistency,
    dcgan,
    kl,
    pickled,
    rae,
    random_like,
    saved_folder,
    tiny,
    upconv_state,
    vq,
)
from hub_server import Hub, left_in_cache
from huggingface_hub import constants
from safetensors.torch import save
from typer.testing import CliRunner

from gen_prior.applications.publish import pull
from gen_prior.classifiers import load_classifier
from gen_prior.cli import app
from gen_prior.errors import DownloadError, GenPriorError, OptionError, WeightsError
from gen_prior.generators import NAMED, ONE_SIDE, PREFIXED, SEVERAL_SIDES, load_described, load_generator
from gen_prior.generators.biggan.generator import UNPUBLISHED
from gen_prior.hub import registry
from gen_prior.optimise.load_result import load_result


def test_deepsim_by_name(hub: Hub) -> None:
    state = pickled(upconv_state("deepsim-norm1"))
    hub.publish(registry.DEEPSIM, {"upconvGAN_norm1.pt": state}, commit=registry.DEEPSIM_REVISION)
    assert not registry.is_cached(registry.find("deepsim-norm1"))
    generator = load_generator("deepsim-norm1", device="cpu")
    assert generator.image_shape() == (227, 227)
    assert registry.is_cached(registry.find("deepsim-norm1"))
    assert generator.provenance.revision == registry.DEEPSIM_REVISION
    assert "research" in str(generator.provenance.licence)
    seen = sum(hub.requests.values())
    load_generator("deepsim-norm1", device="cpu", crop=None)
    assert sum(hub.requests.values()) == seen


def test_deepsim_of_another_layout_is_refused(hub: Hub, tmp_path: Path) -> None:
    state = pickled(upconv_state("deepsim-norm1"))
    hub.publish(registry.DEEPSIM, {"upconvGAN_norm2.pt": state}, commit=registry.DEEPSIM_REVISION)
    with pytest.raises(WeightsError, match=r"does not fit deepsim-norm2.*another revision"):
        load_generator("deepsim-norm2", device="cpu")
    assert left_in_cache(tmp_path) == []


def test_caffenet_and_the_encoder(hub: Hub, tmp_path: Path) -> None:
    from gen_prior.classifiers import caffenet

    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in caffenet.network().state_dict().items()}
    hub.publish(registry.DEEPSIM, {"caffenet.pt": pickled({k: 0.01 * v for k, v in random_like(shapes).items()})})
    hub.repos[registry.DEEPSIM].branches["main"] = next(iter(hub.repos[registry.DEEPSIM].commits))
    hub.publish(
        registry.DEEPSIM,
        {"upconvGAN_norm1.pt": pickled(upconv_state("deepsim-norm1"))},
        "other",
        registry.DEEPSIM_REVISION,
    )
    classifier = load_classifier("caffenet", device="cpu")
    assert classifier.class_index("bell pepper") == 945
    assert classifier.layer_shape("fc6") == (4096,)
    generator = load_generator("deepsim-norm1", device="cpu")
    images = torch.rand(2, 3, 227, 227)
    expected = classifier.activations(images, ["norm1"])["norm1"]
    torch.testing.assert_close(generator.encode(images), expected)
    assert generator.encode(torch.rand(1, 3, 40, 50)).shape == (1, 96, 27, 27)
    command = ["synth", "bell pepper", "--classifier", "caffenet", "--generator", "deepsim-norm1", "--seeds", "1"]
    done = CliRunner().invoke(app, [*command, "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    result = load_result(tmp_path / "out")
    assert result.targets[0]["target"] == "logits:945"
    assert result.images.shape == (1, 1, 3, 227, 227)
    assert result.recipe.source.startswith("DGN-AM")


def test_biggan_by_name_and_by_format(hub: Hub, tmp_path: Path) -> None:
    state = biggan_state()
    files = {"config.json": json.dumps(BIGGAN).encode(), "pytorch_model.bin": pickled(state)}
    hub.publish("osanseviero/BigGAN-deep-128", files)
    commit = hub.publish("other/gan", {"config.json": files["config.json"], "model.safetensors": save(state)})
    named = load_generator("biggan-deep-128", device="cpu", truncation=0.4, class_label=3)
    found = load_generator(f"hf-hub:other/gan@{commit}", device="cpu", truncation=0.4, class_label=3)
    assert named.code_shape == (12,)
    code = named.initial_code(0)[None]
    torch.testing.assert_close(named(code), found(code), atol=0, rtol=0)
    with pytest.raises(OptionError, match="crop"):
        load_generator("hf-hub:other/gan", device="cpu", crop=3)
    with pytest.raises(WeightsError, match=r"no repository.*biggan-deep-256.*local-dir:FOLDER"):
        load_generator("biggan-deep-256", device="cpu")
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    assert load_generator(f"local-dir:{tmp_path}", device="cpu").code_shape == (12,)


def test_diffusers_by_name_and_by_format(hub: Hub, tmp_path: Path) -> None:
    files = saved_folder(tiny(), tmp_path / "saved")
    hub.publish("madebyollin/taesd", files)
    hub.publish(
        "a/pipeline",
        {f"vae/{key}": value for key, value in files.items()} | {"model_index.json": b'{"vae": ["x", "y"]}'},
    )
    code = torch.randn(1, 4, 8, 8)
    images = [
        load_generator(spec, device="cpu", image_size=16)(code)
        for spec in (
            "diffusers:madebyollin/taesd",
            "hf-hub:madebyollin/taesd",
            "diffusers:a/pipeline/vae",
            "hf-hub:a/pipeline",
        )
    ]
    for image in images[1:]:
        assert torch.equal(image, images[0])
    assert registry.is_cached(registry.find("diffusers:madebyollin/taesd"))


def test_pickled_diffusers_weights(hub: Hub) -> None:
    network = tiny()
    config = json.dumps(dict(network.config) | {"_class_name": "AutoencoderTiny"}, default=list).encode()
    hub.publish("a/old", {"config.json": config, "diffusion_pytorch_model.bin": pickled(network.state_dict())})
    assert load_generator("diffusers:a/old", device="cpu", image_size=16).image_shape() == (16, 16)


def test_consistency_by_name_and_by_format(hub: Hub, tmp_path: Path) -> None:
    hub.publish("openai/diffusers-ct_imagenet64", saved_folder(consistency(), tmp_path / "saved"))
    code = torch.randn(1, 3 * 8 * 8)
    images = [
        load_generator(spec, device="cpu", class_label=3)(code)
        for spec in ("consistency:openai/diffusers-ct_imagenet64", "hf-hub:openai/diffusers-ct_imagenet64")
    ]
    assert torch.equal(images[0], images[1])


def test_pulled_models_load_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": json.dumps(BIGGAN).encode(), "pytorch_model.bin": pickled(biggan_state())}
    commit = hub.publish("osanseviero/BigGAN-deep-128", files)
    assert pull("biggan-deep-128").revision == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    generator = load_generator("biggan-deep-128", device="cpu")
    assert generator.provenance.revision == commit
    assert generator.code_shape == (12,)


def test_dcgan_by_prefix_and_by_format(hub: Hub) -> None:
    hub.publish("a/dcgan", {"generator.pth": pickled(dcgan())})
    code = torch.randn(1, 64)
    torch.manual_seed(0)
    first, second = (load_generator(f"{prefix}:a/dcgan", device="cpu") for prefix in ("dcgan", "hf-hub"))
    assert torch.equal(first(code), second(code))


def test_folders_of_each_format(tmp_path: Path, hub: Hub) -> None:
    for folder in ("biggan", "dcgan", "deepsim", "twin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "biggan" / "config.json").write_text(json.dumps(BIGGAN))
    (tmp_path / "biggan" / "pytorch_model.bin").write_bytes(pickled(biggan_state()))
    (tmp_path / "dcgan" / "model.safetensors").write_bytes(save(dcgan()))
    (tmp_path / "deepsim" / "upconvGAN_norm2.pt").write_bytes(pickled(upconv_state("deepsim-norm2")))
    (tmp_path / "twin" / "upconvGAN_conv3.pt").write_bytes(pickled(upconv_state("deepsim-conv3")))
    tiny().save_pretrained(tmp_path / "tiny")
    consistency().save_pretrained(tmp_path / "consistency")
    shapes = {
        "biggan": (12,),
        "dcgan": (64,),
        "deepsim": (256, 13, 13),
        "twin": (384, 13, 13),
        "tiny": (4, 128, 128),
        "consistency": (3 * 8 * 8 + 32,),
    }
    for folder, shape in shapes.items():
        generator = load_generator(f"local-dir:{tmp_path / folder}", device="cpu")
        assert generator.code_shape == shape
        assert generator.provenance.sha256


@pytest.mark.parametrize(
    ("name", "repo", "options"),
    [
        ("deepsim-norm1", registry.DEEPSIM, {"crop": 64}),
        ("biggan-deep-128", "osanseviero/BigGAN-deep-128", {"class_label": 3, "optimise": "class", "noise_seed": 5}),
        ("diffusers:madebyollin/taesd", "madebyollin/taesd", {"image_size": 16}),
        ("dcgan:a/dcgan", "a/dcgan", {"label_channels": 4, "class_label": 2, "file": "netG_epoch_9.pth"}),
    ],
)
def test_a_result_names_all_that_makes_its_generator_again(
    hub: Hub, tmp_path: Path, name: str, repo: str, options: dict[str, Any]
) -> None:
    published: dict[str, Callable[[], dict[str, bytes | Path]]] = {
        "deepsim-norm1": lambda: {"upconvGAN_norm1.pt": pickled(upconv_state(name))},
        "biggan-deep-128": lambda: {
            "config.json": json.dumps(BIGGAN).encode(),
            "model.safetensors": save(biggan_state()),
        },
        "diffusers:madebyollin/taesd": lambda: saved_folder(tiny(), tmp_path / "saved"),
        "dcgan:a/dcgan": lambda: {"netG_epoch_9.pth": pickled(dcgan())},
    }
    commit = hub.publish(repo, published[name](), commit=registry.DEEPSIM_REVISION if "deepsim" in name else None)
    made = load_generator(name, device="cpu", **options)
    described = json.loads(json.dumps(made.describe()))
    hub.publish(repo, {"README.md": b"moved on"})
    again = load_described(described, device="cpu")
    assert again.provenance.revision == commit
    assert again.describe() == made.describe()
    code = made.initial_code(0)[None]
    assert torch.equal(again(code), made(code))


def test_unknown_formats_list_the_known(tmp_path: Path, hub: Hub) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ResNet"]}')
    with pytest.raises(WeightsError, match=r"no generator of a known format.*BigGAN-deep.*DCGAN"):
        load_generator(f"local-dir:{tmp_path}", device="cpu")
    hub.publish("a/other", {"README.md": b"hello"})
    with pytest.raises(WeightsError, match="no generator of a known format"):
        load_generator("hf-hub:a/other", device="cpu")
    with pytest.raises(WeightsError, match="no folder"):
        load_generator(f"local-dir:{tmp_path / 'none'}", device="cpu")
    with pytest.raises(DownloadError):
        load_generator("diffusers:a/none", device="cpu")


def test_several_generators_in_one_place_are_named(tmp_path: Path, hub: Hub) -> None:
    one, other = (pickled(upconv_state(f"deepsim-norm{number}")) for number in (1, 2))
    hub.publish("a/all", {"upconvGAN_norm1.pt": one, "upconvGAN_norm2.pt": other})
    with pytest.raises(WeightsError, match=r"several generators: upconvGAN_norm2\.pt, upconvGAN_norm1\.pt"):
        load_generator("hf-hub:a/all", device="cpu")
    (tmp_path / "netG.pth").write_bytes(pickled(dcgan()))
    (tmp_path / "generator.pth").write_bytes(pickled(dcgan()))
    with pytest.raises(WeightsError, match=r"several generators: generator\.pth, netG\.pth"):
        load_generator(f"local-dir:{tmp_path}", device="cpu")
    assert load_generator(f"dcgan:{tmp_path / 'netG.pth'}", device="cpu").code_shape == (64,)
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "model.pth").write_bytes(pickled(dcgan()))
    (tmp_path / "both" / "model.safetensors").write_bytes(save(dcgan()))
    assert load_generator(f"local-dir:{tmp_path / 'both'}", device="cpu").code_shape == (64,)
    files = saved_folder(tiny(), tmp_path / "saved")
    pipeline = {f"{part}/{key}": value for part in ("vae", "vqvae") for key, value in files.items()}
    hub.publish("a/pipeline", pipeline | {"model_index.json": b'{"vae": ["x", "y"], "vqvae": ["x", "y"]}'})
    with pytest.raises(WeightsError, match="several generators: vae/, vqvae/"):
        load_generator("hf-hub:a/pipeline", device="cpu")


@pytest.mark.parametrize("kind", ["kl", "vq", "rae"])
@torch.no_grad()
def test_each_autoencoder_comes_through_the_hub(hub: Hub, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(4)
    network = {"kl": kl, "vq": vq, "rae": rae}[kind]().eval()
    hub.publish("a/model", saved_folder(network, tmp_path / "saved"))
    options = {} if kind == "rae" else {"image_size": 32}
    generator = load_generator("diffusers:a/model", device="cpu", **options)
    code = torch.randn(1, *generator.code_shape)
    if kind == "rae":
        expected = network.decode(code).sample
    else:
        expected = network.decode(code / network.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(generator(code), expected.clamp(0, 1), atol=1e-5, rtol=0)
    assert torch.equal(load_generator("hf-hub:a/model", device="cpu", **options)(code), generator(code))


def test_fc6_eucl_by_name(hub: Hub) -> None:
    """Its file has an underscore where its name has a dash."""
    state = {key: value.half() for key, value in upconv_state("deepsim-fc6-eucl").items()}
    hub.publish(registry.DEEPSIM, {"upconvGAN_fc6_eucl.pt": pickled(state)}, commit=registry.DEEPSIM_REVISION)
    generator = load_generator("deepsim-fc6-eucl", device="cpu")
    assert generator.notes["variant"] == "deepsim-fc6-eucl"
    assert generator.code_shape == (4096,)
    assert set(generator.provenance.sha256) == {"upconvGAN_fc6_eucl.pt"}


def test_the_registry_and_the_loaders_agree() -> None:
    generators = {entry.name for entry in registry.ENTRIES if entry.kind == "generator" and ":" not in entry.name}
    assert generators == set(NAMED) - set(UNPUBLISHED)
    assert len({entry.name for entry in registry.ENTRIES}) == len(registry.ENTRIES)
    for entry in registry.ENTRIES:
        assert entry.kind in ("generator", "classifier")
        assert entry.repo is None or (entry.files and entry.revision)
    with pytest.raises(GenPriorError, match="deepsim-fc6"):
        registry.find("deepsim-fc66")


def test_each_generator_draws_one_size_or_takes_one() -> None:
    listed = {entry.name for entry in registry.ENTRIES if entry.kind == "generator"}
    several = {name for name in listed if name in SEVERAL_SIDES or f"{name.partition(':')[0]}:..." in SEVERAL_SIDES}
    assert not several & ONE_SIDE.keys()
    assert several | ONE_SIDE.keys() == listed
    sources_of_any = {"local-dir", "hf-hub", "dcgan"}
    assert {name.partition(":")[0] for name in listed if ":" in name} | sources_of_any == set(PREFIXED)


FC6 = """
from gen_prior.generators import load_generator
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before = peak()
for turn in ("downloaded and converted", "read from the conversion"):
    generator = None
    generator = load_generator("deepsim-fc6", device="cpu")
say(megabytes=peak() - before, sum=float(generator.module.network.layers.defc7.weight.sum()))
"""


def test_fc6_at_full_size_stays_below_twice_its_file(hub: Hub, tmp_path: Path) -> None:
    state = upconv_state("deepsim-fc6")
    data = pickled(state)
    assert 224_000_000 < len(data) < 225_000_000
    hub.publish(registry.DEEPSIM, {"upconvGAN_fc6.pt": data}, commit=registry.DEEPSIM_REVISION)
    answer = hub.run(FC6, tmp_path / "home")
    assert answer["sum"] == pytest.approx(float(state["defc7.weight"].sum()), rel=1e-4)
    assert answer["megabytes"] < 2 * len(data) / 2**20
