"""Texts as targets: the model's own logit of image and text, raised; refused where there is no text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers_models import save, tokeniser

import gen_prior as gp
from gen_prior.classifiers import load_classifier
from gen_prior.errors import TargetError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' dependencies


def own_logits(model: Any, classifier: gp.Classifier, images: torch.Tensor, text: str) -> torch.Tensor:
    """transformers' own `logits_per_image` `[B]`."""
    ids = tokeniser()(text, padding="max_length", max_length=8, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=ids, pixel_values=classifier.preprocess(images)).logits_per_image[:, 0]
    return result


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_models_own_logit(family: str, tmp_path: Path) -> None:
    model, _ = save(family, tmp_path)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    target = gp.parse_target('text:"a photo of a fox"', classifier)
    assert str(target) == 'text:"a photo of a fox"'
    assert target.slug == "a-photo-of-a-fox"
    assert gp.parse_targets("text:a photo of a fox", classifier) == [target]  # a shell takes the quotes away
    assert not target.is_class
    images = torch.rand(3, 3, 32, 32)
    read = target.read(classifier.activations(images, ["logits"]))
    torch.testing.assert_close(read, own_logits(model, classifier, images, "a photo of a fox"), rtol=1e-4, atol=1e-4)
    generator = gp.load_generator("pixel-raw", image_size=32, device="cpu")
    layer = next(name for name in classifier.layers() if name.endswith("layers.0.mlp.fc1"))
    result = gp.synthesize(
        classifier,
        [target, f'text:"a cup"-0.5*text:"a fox"+{layer}:3'],
        generator,
        steps=6,
        rate=0.01,
        out=tmp_path / "out",
    )
    assert (result.activations[:, 0] > result.history[:, 0, 0]).all()
    assert gp.load_result(tmp_path / "out").targets[0]["target"] == str(target)
    expected = own_logits(model, classifier, result.images[0], "a photo of a fox")
    torch.testing.assert_close(result.activations[0], expected, rtol=1e-4, atol=1e-4)


def test_texts_that_are_refused(tmp_path: Path, tiny_classifier: gp.Classifier) -> None:
    save("clip", tmp_path)
    classifier = load_classifier(f"local-dir:{tmp_path}", device="cpu")
    for text, says in [
        ("text:", "is empty"),
        ('text:""', "is empty"),
        ("text:" + "a " * 9, "has 11 tokens; .* 1 to 8"),
    ]:
        with pytest.raises(TargetError, match=says):
            gp.parse_targets(text, classifier)
    with pytest.raises(TargetError, match=r"tiny has no text tower, so 'a fox' cannot be a target\. Fix: take a model"):
        gp.parse_targets('text:"a fox"', tiny_classifier)
    (tmp_path / "vision").mkdir()
    save("clip-vision", tmp_path / "vision")
    with pytest.raises(TargetError, match="has no text tower"):
        gp.parse_targets('text:"a fox"', load_classifier(f"local-dir:{tmp_path / 'vision'}", device="cpu"))
