"""Options of generators of the wrong kind or out of range: one line that names the option, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import BIGGAN, biggan_state, consistency, dcgan, rae, tiny, upconv_state
from hub_server import Hub
from safetensors.torch import save

from gen_prior.errors import OptionError
from gen_prior.generators import load_generator

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *(("biggan", {"truncation": value}) for value in ("high", None, True, float("nan"), 0, 1.5)),
    *(("biggan", {"class_label": value}) for value in (1.0, True, -1, 10, "²", "x", [1])),
    *(("biggan", {"noise_seed": value, "optimise": "class"}) for value in ("x", 1.5, -1)),
    ("biggan", {"optimise": 3}),
    *(("dcgan", {"label_channels": value}) for value in (-3, 2.5, "x", True, 64, 10**12)),
    *(("dcgan", {"label_channels": 4, "class_label": value}) for value in (1.0, True, "x", -1, 4)),
    *(("tiny", {"image_size": value}) for value in ("big", 64.5, True, [64], 0, -8)),
    ("tiny", {"quantise": "x"}),
    ("rae", {"image_size": "big"}),
    *(("deepsim", {"crop": value}) for value in (True, 1.5, [1], "x")),
    *(("consistency", {"class_label": value}) for value in (1.0, True, "²", "x")),
]


@pytest.fixture(scope="module")
def each_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("families")
    for name, weights in (("biggan", biggan_state()), ("dcgan", dcgan()), ("deepsim", upconv_state("deepsim-norm1"))):
        (path / name).mkdir()
        (path / name / "model.safetensors").write_bytes(save(weights))
    (path / "biggan" / "config.json").write_text(json.dumps(BIGGAN))
    for name, network in (("tiny", tiny()), ("consistency", consistency()), ("rae", rae())):
        network.save_pretrained(path / name)
    return path


@pytest.mark.parametrize(("family", "options"), OPTIONS)
def test_options_of_the_wrong_kind_are_refused(each_family: Path, family: str, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{[*options][-1] if 'noise_seed' not in options else 'noise_seed'}|classes"):
        load_generator(f"local-dir:{each_family / family}", device="cpu", **options)
    assert (each_family / family).is_dir()


@pytest.mark.parametrize("name", ["pixel", "fourier", "maco"])
@pytest.mark.parametrize("side", ["big", 64.5, True, 4, 10**6])
def test_sides_of_the_wrong_kind_are_refused(name: str, side: Any) -> None:
    with pytest.raises(OptionError, match=r"image_size must be an? \w+ number from 8 to 2048"):
        load_generator(name, device="cpu", image_size=side)


def test_a_revision_is_text(hub: Hub) -> None:
    with pytest.raises(OptionError, match=r"revision must be text, got 1234567.*quote it"):
        load_generator("hf-hub:a/b", device="cpu", revision=1234567)
