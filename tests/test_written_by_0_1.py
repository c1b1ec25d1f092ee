"""Files that 0.1 wrote load, replay and go on; see tests/data/written_by_0_1/README.md.

Only public names are used. Old names in files are read without a warning; old names on the command line may warn.
Numbers equal those of 0.1 to the bit where torch and the CPU are the ones that wrote them, and nearly elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

import gen_prior as gp
from gen_prior.cli import app

DATA = Path(__file__).parent / "data" / "written_by_0_1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
RESUMED = ("trained", "rehearsed", "flow", "calmed", "refined", "detailed")
RESULTS = ("flow", "fourier", "maco", "mahendran2015", "whole", "yosinski2015-3")


@pytest.fixture
def own(written_by_0_1: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies a folder, to be written to. Relative paths, as 0.1 noted them, are those of the files."""
    monkeypatch.chdir(written_by_0_1)
    return lambda name: Path(shutil.copytree(name, tmp_path / name))


def same_machine() -> bool:
    """True if torch, the CPU and its instructions are those that wrote the files."""
    cpu = Path("/proc/cpuinfo")
    names = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    name = next((line.partition(": ")[2].strip() for line in names if line.startswith("model name")), "")
    machine = [name, torch.backends.cpu.get_cpu_capability()]
    return EXPECTED["torch"] == torch.__version__ and EXPECTED["cpu"] == machine


def digest(tensors: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


def run(*arguments: str | Path) -> Any:
    """A command with `--json`, which must succeed; what it printed."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-2) -> None:
    """Equal to the bit on the machine that wrote the files, nearly elsewhere."""
    if same_machine():
        assert torch.equal(one, other)
    else:
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", RESULTS)
def test_results_load_and_replay(own: Callable[[str], Path], name: str) -> None:
    result = gp.load_result(f"results/{name}")
    for part, expected in EXPECTED["results"][name].items():
        assert digest({part: getattr(result, part)}) == expected, part
    assert result.status == [["ok"]]
    again = result.replay()
    close(again.images, result.images)
    close(again.codes, result.codes)
    assert again.recipe == result.recipe


def test_a_stopped_result_loads(own: Callable[[str], Path]) -> None:
    result = gp.load_result("results/stopped")
    assert result.status == [["did not rise", "not finished"]]
    assert digest({"images": result.images}) == EXPECTED["results"]["stopped"]["images"]


def test_the_files_hold_old_names(written_by_0_1: Path) -> None:
    """That the other tests mean something: recipes of 0.1 keep codes on a `shell`, and runs are `rehearsed`."""
    recipe = json.loads((written_by_0_1 / "results" / "whole" / "result.json").read_text())["settings"]["recipe"]
    assert [name for name, _ in recipe["edits"]] == ["shell", "shell"]
    assert "rehearsed=0.5" in (written_by_0_1 / "training" / "commands.txt").read_text()


@pytest.mark.parametrize("name", sorted(EXPECTED["recipes"]))
def test_recipes_can_be_followed(own: Callable[[str], Path], name: str) -> None:
    """Those of all presets of 0.1, as results hold them."""
    recipe = gp.Recipe.from_dict(EXPECTED["recipes"][name]).with_options(steps=1, candidates=1, trials=1)
    options = {"image_size": 16} if recipe.domain == "image" else {}
    generator = gp.load_generator("pixel" if options else "local-dir:training/trained", device="cpu", **options)
    classifier = gp.load_classifier("local-dir:classifier", device="cpu")
    assert gp.synthesize(classifier, "bee", generator, recipe=recipe, seeds=1).images.isfinite().all()


def test_a_comparison_loads_and_replays(own: Callable[[str], Path]) -> None:
    summary = gp.load_comparison("comparison").summary()
    assert list(summary) == ["local-dir:training/layouts", "pixel"]
    assert all(0 <= method["judge_top1"]["value"] <= 1 for method in summary.values())
    done = CliRunner().invoke(app, ["replay", "comparison", "--json"])
    reports = json.loads(done.stdout)
    assert [report["images"] for report in reports] == [1, 1]
    assert done.exit_code == 0 or not same_machine()
    assert max(report["largest_difference"] for report in reports) < 1e-2


def test_a_dataset_goes_on(own: Callable[[str], Path]) -> None:
    folder = own("dataset")
    before = (folder / "images.jsonl").read_text().splitlines()
    wanted = ("--per-class", "2", "--classes", "ant", "--classes", "elk", "--judge", "local-dir:judge")
    others = ("--filter", "top5", "--shard-size", "2", "--steps", "4", "-g", "local-dir:training/layouts")
    done = run("dataset", "local-dir:classifier", *wanted, *others, "--device", "cpu", "--out", folder)
    after = (folder / "images.jsonl").read_text().splitlines()
    assert len(before) < done["made"] == len(after)
    assert set(before) < set(after)


def test_evolutions_go_on(own: Callable[[str], Path]) -> None:
    folder = own("evolved")
    by_unit = ("-c", "efficientnet-lite0", "--device", "cpu", "--out", folder / "by-unit")
    assert run("evolve", "goldfish", "--evaluations", "12", *by_unit)["generations"] == 3
    generator = gp.load_generator("local-dir:training/layouts", device="cpu")
    state = gp.Evolution.load(folder / "by-hand" / "evolution.npz", generator)
    assert (state.evaluations, state.best_score) == (4, 0.4)
    scores = folder / "scores.txt"
    scores.write_text("0.5 0.1 0.2 0.3")
    by_hand = ("-g", "local-dir:training/layouts", "--device", "cpu", "--out", folder / "by-hand")
    told = run("evolve", "--tell", scores, *by_hand)
    assert (told["generations"], told["best"], told["method"]) == (2, 0.5, "genetic")


@pytest.mark.parametrize("name", sorted(EXPECTED["priors"]))
def test_priors_and_exported_folders_load(own: Callable[[str], Path], name: str) -> None:
    options = {"image_size": 8} if name == "exported/autoencoder" else {}
    generator = gp.load_generator(f"local-dir:{name}", device="cpu", **options)
    code, expected = generator.initial_code(0, "bee"), EXPECTED["priors"][name]
    image = generator(code[None])
    assert image.shape[-1] == expected["side"]
    torch.testing.assert_close(code.flatten()[:40], torch.tensor(expected["code"]))
    torch.testing.assert_close(F.adaptive_avg_pool2d(image, 4)[0], torch.tensor(expected["image"]), atol=1e-4, rtol=0)


def test_statistics_of_codes_are_used(own: Callable[[str], Path]) -> None:
    for folder in ("sources/autoencoder", "exported/autoencoder"):
        measured = load_file(f"{folder}/statistics.safetensors")
        prior = gp.load_generator(f"local-dir:{folder}", device="cpu", image_size=8).prior
        assert torch.equal(torch.as_tensor(prior.mean), measured["mean"])
        assert torch.equal(torch.as_tensor(prior.std), measured["std"])
        assert measured["covariance"].shape == (measured["mean"].numel(),) * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", RESUMED)
def test_training_goes_on_from_a_checkpoint(own: Callable[[str], Path], name: str) -> None:
    out = own(f"training/{name}")
    lines = Path("training/commands.txt").read_text().splitlines()
    (command,) = [line.split()[1:] for line in lines if line.split()[0] == name]
    run(*command, "--steps", "3", "--resume", "--out", out)
    records = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert records == sorted({*records, 3}), "its records stay, and the last step's is added"
    assert len(records) > 1
    before, after = (load_file(folder / "generator.safetensors") for folder in (Path("training", name), out))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    if same_machine():
        assert digest(after) == EXPECTED["resumed"][name]
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, atol=0.05, rtol=0.05)


def test_layouts_are_chosen_from_what_was_encoded(own: Callable[[str], Path]) -> None:
    out = own("training/layouts")
    codes = out / "cache" / "codes.safetensors"
    written = codes.stat().st_mtime_ns
    others = ("--images", "photographs", "--layouts", "3", "--device", "cpu", "--out", out)
    run("layout-prior", "training/flow", "-c", "local-dir:classifier", *others)
    assert codes.stat().st_mtime_ns == written
    before, after = (load_file(folder / "generator.safetensors") for folder in (Path("training/layouts"), out))
    assert digest(before) == digest(after)


def test_an_inversion_is_recorded_alike(own: Callable[[str], Path], tmp_path: Path) -> None:
    priors = ("-g", "local-dir:training/layouts", "-g", "local-dir:training/trained")
    layers = ("--layer", "layer1", "--layer", "logits", "--style", "layer1", "--steps", "6")
    classifier = ("-c", "local-dir:classifier", "--device", "cpu", "--out", tmp_path / "out")
    run("invert", "photographs/class0/000.png", *layers, *priors, *classifier)
    before, after = (
        json.loads((folder / "inversion.json").read_text()) for folder in (Path("inverted"), tmp_path / "out")
    )
    assert before.keys() | {"finished"} == after.keys()
    for name, row in before["feature_error"].items():
        assert after["feature_error"][name] == pytest.approx(row, rel=1e-2)
        recipes = [gp.Recipe.from_dict(record["settings"]["recipes"][name]) for record in (before, after)]
        assert recipes[0] == recipes[1]
    pictures = [{path.name for path in folder.glob("*.png")} for folder in (Path("inverted"), tmp_path / "out")]
    assert pictures[0] == pictures[1]


def test_the_embedded_prior_draws_the_same(own: Callable[[str], Path]) -> None:
    expected = load_file("embedded.safetensors")
    generator = gp.load_generator("dgn-lite0", device="cpu")
    starts = [(0, None), (0, "n01443537"), (9, "n01443537"), (0, "n02279972"), (9, "n02279972")]
    codes = torch.stack([generator.initial_code(seed, wanted) for seed, wanted in starts])
    torch.testing.assert_close(codes, expected["codes"])
    with torch.no_grad():
        small = F.adaptive_avg_pool2d(generator(codes), 4)
    torch.testing.assert_close(small, expected["images"], atol=1e-4, rtol=0)
