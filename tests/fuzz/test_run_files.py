"""Files of runs: scores of an experiment, its record, morphs, inversions, dreams, recipes and files of a training."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import pickled
from fuzz.mutations import LONG, as_text, damaged, damaged_header, damaged_json, fuzz
from hypothesis import strategies as st

import gen_prior as gp
from gen_prior.applications.scores_file import read_scores
from gen_prior.errors import GenPriorError, OptionError, WeightsError
from gen_prior.training.checkpoints import latest_checkpoint
from gen_prior.training.prior_file import load_networks
from gen_prior.training.recipe import TrainingRecipe, read_recipe, recipe_text

COUNTS = pytest.mark.parametrize("count", [20, pytest.param(500, marks=LONG)])
SLOW_COUNTS = pytest.mark.parametrize("count", [8, pytest.param(80, marks=LONG)])
SCORES = b"image,V4-1\ngen-0000/image-00.png,0.5\ngen-0000/image-01.png,\ngen-0000/image-02.png,nan\n"


@COUNTS
def test_scores(count: int, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(OptionError):
            found = read_scores(path)
            assert len(found.images) == len(found.values)

    quoted = b'image,score\n"' + b"x" * 200_000 + b'",1\n'  # more than the csv module takes in a cell
    known = [b"", b"\xff\xfe\0", b"image,x\n\0,1\n", b"1e999\n", b"9" * 5000, quoted, b'image,x\n"a,1\n', b"\r,\r1"]
    fuzz(count * 3, damaged(SCORES), check, known)
    fuzz(count, st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")), check)


@SLOW_COUNTS
def test_experiments(count: int, tiny_generator: gp.Generator, tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    search = gp.Experiment(folder, tiny_generator, neurons=["a", "b"], population=4)
    scores = search.ask() / "scores.csv"
    rows = scores.read_text().splitlines()
    scores.write_text("\n".join([rows[0], *(f"{row.split(',')[0]},1,2" for row in rows[1:])]))
    search.tell(scores)
    valid = json.loads((folder / "experiment.json").read_text())

    def check(record: Any) -> None:
        (folder / "experiment.json").write_text(as_text(record), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            gp.Experiment(folder, tiny_generator).export()
        assert not [path for path in tmp_path.iterdir() if path != folder]

    first = next(iter(valid["generations"][0]))
    known = [
        valid | {"generations": [{first: {"a": 10**400}}]},
        valid | {"generations": [{}, {}, {}]},
        valid | {"neurons": []},
    ]
    fuzz(count * 2, damaged_json(valid), check, known)


@SLOW_COUNTS
def test_morphs(count: int, tiny_classifier: gp.Classifier, tiny_generator: gp.Generator, tmp_path: Path) -> None:
    def again() -> None:
        gp.morph(tiny_classifier, ["bee", "cup"], tiny_generator, frames=3, steps=1, out=tmp_path)

    again()
    valid, tensors = json.loads((tmp_path / "morph.json").read_text()), (tmp_path / "morph.safetensors").read_bytes()

    def check(record: Any) -> None:
        (tmp_path / "morph.json").write_text(as_text(record), encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(GenPriorError):
            again()

    fuzz(count, damaged_json(valid), check, [valid | {"frames": 10**400}, valid | {"names": 3}])
    (tmp_path / "morph.json").write_text(as_text(valid))

    def check_tensors(data: bytes) -> None:
        (tmp_path / "morph.safetensors").write_bytes(data)
        with contextlib.suppress(GenPriorError):
            again()

    fuzz(count, damaged(tensors), check_tensors)


@COUNTS
def test_recipes(count: int, tmp_path: Path) -> None:
    path, valid = tmp_path / "recipe.toml", recipe_text(TrainingRecipe()).encode()

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(GenPriorError):
            read_recipe(path).check()

    stages = [
        b"decoder = 3",
        b"[decoder]\nsteps = []",
        b"flow = [1]",
        b"x = " + b"[" * 5000,
        b"[decoder]\nsteps = 1e999",
    ]
    fuzz(count * 2, damaged(valid), check, [b"", b"\xff", b"[settings]", b"steps = " + b"9" * 5000, *stages])


@COUNTS
def test_checkpoints(count: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000010.pt"
    valid = pickled({"step": 10, "settings": {"a": 1}, "modules": {"x": {"w": torch.ones(3)}}})

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):
            found = latest_checkpoint(tmp_path)
            assert found is None or isinstance(found, dict)

    fuzz(count, damaged(valid), check, [b"", valid[:100], pickled([1]), pickled(torch.ones(2)), pickled({"taps": 1})])


@COUNTS
def test_networks(count: int, tmp_path: Path) -> None:
    from safetensors.torch import save

    path, valid = tmp_path / "networks.safetensors", save({"encoder.w": torch.ones(3)}, {"format": "x"})

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(WeightsError):
            load_networks(path)

    fuzz(count, damaged(valid), check, [b""])
    fuzz(count, damaged_header(valid), check)
