"""What is promised of a GPU: the CPU's answers, no wait for the host in the loop, back-off when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data

import gen_prior as gp
from gen_prior.applications.black_boxes import activation_score
from gen_prior.optimise import loop
from gen_prior.optimise.cuda_graph import CapturedStep
from gen_prior.optimise.transforms import build_transform

pytestmark = pytest.mark.gpu
TARGETS = ["goldfish", "school bus", "blocks.10:42"]


@pytest.fixture(scope="module")
def cuda_lite0() -> gp.Classifier:
    return gp.load_classifier("efficientnet-lite0", device="cuda")


@pytest.fixture(scope="module")
def cuda_prior() -> gp.Generator:
    return gp.load_generator("dgn-lite0", device="cuda")


@pytest.fixture
def exact() -> Iterator[None]:
    """Float32 products in full, as on a CPU."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def watched(monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """Every `CapturedStep` that the loop makes from now on."""
    made: list[CapturedStep] = []

    class Seen(CapturedStep):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(loop, "CapturedStep", Seen)
    return made


def test_auto_is_the_gpu_and_everything_lies_there(cuda_lite0: gp.Classifier, cuda_prior: gp.Generator) -> None:
    assert gp.load_classifier("efficientnet-lite0").device.type == "cuda"
    assert {p.device.type for p in cuda_lite0.network.parameters()} == {"cuda"}
    assert cuda_prior(cuda_prior.initial_code(0, None)[None].cuda()).device.type == "cuda"


def test_the_classifier_and_the_prior_say_what_they_say_on_a_cpu(
    lite0: gp.Classifier, cuda_lite0: gp.Classifier, cuda_prior: gp.Generator, exact: None
) -> None:
    on_cpu = gp.load_generator("dgn-lite0", device="cpu")
    code = torch.stack([on_cpu.initial_code(seed, None) for seed in range(4)])
    with torch.no_grad():
        image, image_there = on_cpu(code), cuda_prior(code.cuda()).cpu()
        logits, logits_there = lite0(image), cuda_lite0(image.cuda()).cpu()
    torch.testing.assert_close(image_there, image, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits_there, logits, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["dgn-lite0", "fourier"])
def test_a_synthesis_begins_as_on_a_cpu(
    name: str, lite0: gp.Classifier, cuda_lite0: gp.Classifier, exact: None
) -> None:
    settings: dict[str, Any] = {"seeds": 2, "steps": 1, "precision": "fp32"}
    there = gp.synthesize(cuda_lite0, TARGETS, gp.load_generator(name, device="cuda"), **settings)
    here = gp.synthesize(lite0, TARGETS, gp.load_generator(name, device="cpu"), **settings)
    torch.testing.assert_close(there.start_activations, here.start_activations, atol=1e-2, rtol=2e-3)
    torch.testing.assert_close(there.history, here.history, atol=1e-2, rtol=2e-3)
    assert not there.images.is_cuda


def test_a_replay(cuda_lite0: gp.Classifier, cuda_prior: gp.Generator, tmp_path: Path) -> None:
    for generator in (cuda_prior, gp.load_generator("pixel", device="cuda")):
        result = gp.synthesize(cuda_lite0, TARGETS, generator, seeds=2, steps=6)
        result.save(tmp_path / generator.name)
        again = gp.load_result(tmp_path / generator.name).replay()
        torch.testing.assert_close(again.history[..., 0], result.history[..., 0], atol=1e-3, rtol=1e-3)
    assert torch.equal(again.images, result.images), "pixels that are shifted, not turned, in a fixed order of sums"


def test_the_gradient_of_a_turned_view_is_the_cpus_and_has_the_same_bits_twice(exact: None) -> None:
    transform = build_transform("affine", {"degrees": 15.0, "scale": (0.8, 1.2), "shift": 0.1})
    images, weights = torch.rand(16, 3, 224, 224), torch.randn(16, 3, 224, 224)
    draws = torch.rand(16, 5)

    def gradient(device: str) -> torch.Tensor:
        leaf = images.to(device).requires_grad_()
        (found,) = torch.autograd.grad((transform.apply(leaf, draws.to(device)) * weights.to(device)).sum(), leaf)
        return found.cpu()

    torch.testing.assert_close(gradient("cuda"), gradient("cpu"), atol=1e-3, rtol=1e-3)
    assert torch.equal(gradient("cuda"), gradient("cuda"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_result_does_not_depend_on_its_neighbours(
    precision: str, cuda_lite0: gp.Classifier, cuda_prior: gp.Generator, exact: None
) -> None:
    settings: dict[str, Any] = {"steps": 8, "precision": precision}
    together = gp.synthesize(cuda_lite0, TARGETS, cuda_prior, seeds=4, batch=12, **settings)
    alone = gp.synthesize(cuda_lite0, TARGETS[1], cuda_prior, seeds=[2], batch=1, **settings)
    # Kernels are chosen by the size of the batch, and add in another order; later steps part further.
    torch.testing.assert_close(
        together.history[1, 2, :3], alone.history[0, 0, :3], rtol=0.02 if precision == "fp32" else 0.2, atol=0.1
    )
    torch.testing.assert_close(together.start_activations[1, 2], alone.start_activations[0, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("steps", [6, 20], ids=["plain", "recorded"])
@pytest.mark.parametrize("name", ["dgn-lite0", "fourier", "maco", "pixel"])
def test_the_loop_never_waits_for_the_gpu(name: str, steps: int, cuda_lite0: gp.Classifier) -> None:
    seen: list[int] = []

    def progress(report: gp.Progress) -> None:
        assert report.activations is not None
        step = report.done // len(report.activations)
        seen.append(step)
        torch.cuda.set_sync_debug_mode("error" if 3 <= step < steps else "default")

    generator = gp.load_generator(name, device="cuda")
    try:
        gp.synthesize(cuda_lite0, TARGETS, generator, steps=steps, progress=progress)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen == list(range(1, steps + 1))


def test_a_recorded_step_is_the_step(cuda_lite0: gp.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
    pixels = gp.load_generator("pixel", device="cuda")
    recorded = gp.synthesize(cuda_lite0, TARGETS, pixels, seeds=2, steps=20)
    assert [step.graph is not None for step in made] == [True]
    monkeypatch.setattr(loop, "WORTHWHILE", 21)
    plain = gp.synthesize(cuda_lite0, TARGETS, pixels, seeds=2, steps=20)
    assert len(made) == 1
    assert torch.equal(recorded.history, plain.history)
    assert torch.equal(recorded.images, plain.images)


def test_a_function_that_waits_for_the_host_goes_on_as_it_is() -> None:
    def doubled(x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * (2 if x.sum().item() > 0 else -2),)

    step = CapturedStep()
    for value in (1.0, 2.0, -3.0, 4.0, -5.0):
        assert step(doubled, torch.full((3,), value, device="cuda"))[0].tolist() == [2 * abs(value)] * 3
    assert step.graph is None


def test_a_batch_that_does_not_fit_is_made_smaller(cuda_lite0: gp.Classifier) -> None:
    pixels = gp.load_generator("pixel", device="cuda")
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    settings: dict[str, Any] = {"seeds": 64, "steps": 2, "precision": "fp32"}
    room = torch.cuda.memory_allocated() + 700 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / whole)
    try:
        result = gp.synthesize(cuda_lite0, "goldfish", pixels, batch=64, **settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    sizes = result.settings["batches"]
    assert sum(sizes) == 64
    assert max(sizes) < 64, "the memory that is left does not hold the whole batch"
    assert result.images.shape[:2] == (1, 64)
    assert result.activations.isfinite().all()


def test_bf16_is_what_auto_means(cuda_lite0: gp.Classifier) -> None:
    pixels = gp.load_generator("pixel", device="cuda")
    auto, bf16, fp32 = (
        gp.synthesize(cuda_lite0, "goldfish", pixels, steps=3, precision=precision).codes
        for precision in ("auto", "bf16", "fp32")
    )
    assert torch.equal(auto, bf16)
    assert not torch.equal(auto, fp32)


def test_whole_syntheses_reach_their_classes(
    cuda_lite0: gp.Classifier, cuda_prior: gp.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watched(monkeypatch)
    result = gp.synthesize(cuda_lite0, ["goldfish", "school bus", "orange"], cuda_prior, seeds=2)
    assert (result.activations > 12).all()
    assert (result.images.amax((2, 3, 4)) <= 1).all()
    assert [step.graph is not None for step in made] == [True]


def test_dream_invert_and_evolve(lite0: gp.Classifier, cuda_lite0: gp.Classifier, cuda_prior: gp.Generator) -> None:
    photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1).float()[:, 60:220, 130:290] / 255
    dreamed = gp.dream(cuda_lite0, photograph, "blocks.5", octaves=1, steps=3).cpu()
    strength = gp.objectives.layer_l2("blocks.5")
    before, after = (
        strength(lite0.activations(x[None], ["blocks.5"]), x[None], x[None]) for x in (photograph, dreamed)
    )
    assert after.item() > 1.2 * before.item()
    first, last = (
        gp.invert(cuda_lite0, photograph, ["blocks.5"], {"dgn-lite0": cuda_prior}, steps=steps) for steps in (1, 12)
    )
    errors = [made.reconstructions["dgn-lite0"]["blocks.5"].error for made in (first, last)]
    assert 0 < errors[1] < 0.9 * errors[0]
    search = gp.evolve(
        gp.Evolution(cuda_prior, method="genetic"), activation_score(cuda_lite0, "goldfish"), evaluations=60
    )
    assert search.evaluations >= 60
    assert search.best_score > search.scores[0].max()
