"""transformers' vision models: equal to their own forward, every layer reachable, files checked, no code executed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import Hub
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers_models import FAMILIES, VIT, library, save

import gen_prior as gp
from gen_prior.classifiers import load_classifier
from gen_prior.classifiers.labels import imagenet
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.classifiers.transformers import read_labels
from gen_prior.errors import MissingExtraError, TargetError, WeightsError
from gen_prior.objectives.targets import Target, parse_target

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' dependencies


def own_output(model: Any, pixels: Tensor) -> Tensor:
    """The output of transformers' own forward."""
    output = model.get_image_features(pixel_values=pixels) if hasattr(model, "get_image_features") else model(pixels)
    names = ("logits", "image_embeds", "pooler_output")
    found = [getattr(output, name) for name in names if getattr(output, name, None) is not None]
    result: Tensor = found[0] if found else output.feature_maps[-1]
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    model, processor = save(family, tmp_path)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    assert classifier.input_size == (32, 32)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    processor.do_resize = False  # resizing differs in its rounding to 8 bits only
    pixels = processor(images=picture, return_tensors="pt", do_resize=False, do_center_crop=False)["pixel_values"]
    with torch.no_grad():
        expected = own_output(model, pixels)
        torch.testing.assert_close(classifier(image), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert classifier.has_classes == ("ForImageClassification" in FAMILIES[family][0])
    raise_units(load_classifier(f"local-dir:{tmp_path}", device="cpu", fold=False))


def raise_units(classifier: gp.Classifier) -> None:
    """A unit of the first, a middle and the last layer rises, and its value is that of a plain forward hook."""
    layers = [layer for layer, shape in classifier.layers().items() if layer != LOGITS and 1 <= len(shape) <= 3]
    chosen = (layers[0], layers[len(layers) // 2], layers[-1])
    targets = [parse_target(f"{layer}:1", classifier) for layer in chosen]
    generator = gp.load_generator("pixel-raw", image_size=32, device="cpu")
    result = gp.synthesize(classifier, targets, generator, seeds=1, steps=6, rate=0.01, scale="image")
    for index, target in enumerate(targets):
        assert result.activations[index, 0] > result.history[index, 0, 0], target
        with torch.no_grad():
            expected = hooked(classifier, target, result.images[index])
        torch.testing.assert_close(result.activations[index, 0], expected, rtol=1e-4, atol=1e-5)


def hooked(classifier: gp.Classifier, target: Target, image: Tensor) -> Tensor:
    """The unit's value `[]` for an image `[1, 3, H, W]`, by a plain forward hook."""
    found: list[Any] = []
    layer = classifier.network.get_submodule(target.layer)
    handle = layer.register_forward_hook(lambda module, args, output: found.append(output))
    classifier.network(classifier.preprocess(image))
    handle.remove()
    values = found[-1][0] if isinstance(found[-1], Tensor) else found[-1][0][0]  # of the one image
    places: tuple[Any, ...] = target.position if isinstance(target.position, tuple) else (target.position,)
    values = values.movedim((classifier.layout(target.layer).unit_axis or 0) - 1, 0)
    value: Tensor = values[(target.unit, *(place for place in places if place is not None))]
    return value


def published(hub: Hub, family: str, folder: Path) -> str:
    save(family, folder)
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    return hub.publish("org/net", files)


def test_the_hub_cold_warm_and_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = published(hub, "clip", tmp_path / "net")
    image = torch.rand(1, 3, 32, 32)
    cold = load_classifier("transformers:org/net", device="cpu")
    described = cold.describe()
    assert described["revision"] == commit
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(described["sha256"])
    hub.publish("org/net", {"config.json": b"{}"})  # a later commit
    hub.requests.clear()
    warm = load_classifier(f"hf-hub:org/net@{commit}", device="cpu")
    assert not [request for request in hub.requests if "GET" in request]
    assert torch.equal(warm(image), cold(image))
    hub.repos.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = load_classifier(f"transformers:org/net@{commit}", device="cpu")
    assert torch.equal(offline(image), cold(image))
    assert offline.text_tower is not None
    assert offline.text_tower.encode("a fox").shape == (12,)


def test_weights_in_parts(tmp_path: Path) -> None:
    model, _ = save("vit", tmp_path)
    expected = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_classifier(f"local-dir:{tmp_path}", device="cpu")(image), expected(image))


def test_labels(tmp_path: Path) -> None:
    def named(model: Any) -> None:
        model.config.id2label = dict(enumerate(["ant", "bee, honeybee", "cup", "dog", "elk"]))

    save("vit", tmp_path, named)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    assert classifier.class_index("honeybee") == 1
    assert read_labels({0: "LABEL_0", 1: "LABEL_1"}) is None
    lemmas = {x.index: ", ".join((x.name, *x.synonyms)) for x in imagenet().entries}
    assert read_labels(lemmas) is imagenet()
    assert read_labels(lemmas | {7: "another"}) is not imagenet()


def test_features_have_no_classes(tmp_path: Path) -> None:
    save("dinov2", tmp_path)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    for target in ("goldfish", "3"):
        with pytest.raises(TargetError, match=r"has no classes: its output is features; .* Fix: name a unit"):
            gp.synthesize(classifier, target, gp.load_generator("pixel", image_size=32), steps=1)


def test_a_pooler_that_a_file_lacks(tmp_path: Path) -> None:
    """Files of DINO hold ViTModel's features without the pooler that its class has."""
    save("dinov2", tmp_path)
    model = library.ViTModel(library.ViTConfig(**VIT)).eval()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("pooler.")}, tmp_path / "model.safetensors")
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    assert classifier(torch.rand(1, 3, 32, 32)).shape == (1, 17, 16)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "vitt"}, "did you mean vit"),
        ({"architectures": ["MyNet"], "auto_map": {"AutoModel": "code.MyNet"}}, "code that comes with a repository"),
        ({"architectures": None}, "names the architecture 'None'"),
        ({"architectures": ["BertModel"]}, "reads input_ids, not images"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "hides random parts"),
        ({"hidden_size": 24}, r"do not fit ViTForImageClassification: it has .* where \[24"),
        ({"num_hidden_layers": 3}, "do not fit ViTForImageClassification: it lacks"),
        ({"num_hidden_layers": 1}, "do not fit ViTForImageClassification: it has unexpected"),
        ({"num_hidden_layers": 10**9}, "the limit is 512"),
    ],
)
def test_configurations_that_do_not_fit(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    save("vit", tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(WeightsError, match=says) as caught:
        load_classifier(f"local-dir:{tmp_path}", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("preprocessor_config.json", "has no preprocessor_config.json, .* Fix: save the image processor"),
        ("model.safetensors", "has no model.safetensors"),
    ],
)
def test_files_that_are_missing(file: str, says: str, tmp_path: Path) -> None:
    save("vit", tmp_path)
    (tmp_path / file).rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=says):
        load_classifier(f"local-dir:{tmp_path}", device="cpu")


def test_code_of_a_repository_is_not_run(tmp_path: Path) -> None:
    save("vit", tmp_path)
    (tmp_path / "code.py").write_text("raise SystemExit('executed')")
    change_config(tmp_path, auto_map={"AutoModelForImageClassification": "code.Net", "AutoConfig": "code.Config"})
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    processor["auto_map"] = {"AutoImageProcessor": "code.Processor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert load_classifier(f"local-dir:{tmp_path}", device="cpu")(torch.rand(1, 3, 32, 32)).shape == (1, 5)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'gen-prior\[transformers\]'"):
        load_classifier("transformers:org/net")
