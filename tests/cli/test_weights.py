"""`pull`, `export` and `calibrate` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints import BIGGAN, biggan_state, pickled
from checkpoints import tiny as tiny_autoencoder
from command_runner import Run
from hub_server import Hub

from gen_prior.applications.compare import load_comparison
from gen_prior.generators import load_generator
from gen_prior.hub.tensors import read_file_metadata, read_tensors
from gen_prior.util.image_io import write_png


def test_export_leaves_a_folder_that_loads(run: type[Run], tmp_path: Path) -> None:
    done = run("export", "dgn-lite0", tmp_path / "out")
    assert done.code == 0, done.err
    assert "generator.safetensors" in done.out
    ours, embedded = (load_generator(spec, device="cpu") for spec in (f"local-dir:{tmp_path / 'out'}", "dgn-lite0"))
    code = embedded.initial_code(1)[None]
    assert torch.equal(ours(code), embedded(code))


def test_pull_fetches_and_a_revision_overrides(run: type[Run], hub: Hub) -> None:
    files = {"config.json": json.dumps(BIGGAN).encode(), "pytorch_model.bin": pickled(biggan_state())}
    first = hub.publish("osanseviero/BigGAN-deep-128", files)
    second = hub.publish("osanseviero/BigGAN-deep-128", files | {"README.md": b"x"})
    old = run("pull", "biggan-deep-128", "--revision", first, "--json")
    assert old.code == 0, old.err
    assert old.json["biggan-deep-128"]["revision"] == first
    both = run("pull", "biggan-deep-128", f"hf-hub:osanseviero/BigGAN-deep-128@{first}", "--json")
    assert [found["revision"] for found in both.json.values()] == [second, first]
    assert second[:12] in run("pull", "biggan-deep-128").out
    assert next(entry for entry in run("models", "biggan-deep-128", "--json").json)["cached"] is True
    done = run("pull", "biggan-deep-128", "--revision", "none")
    assert (done.code, "no revision 'none'" in done.complaint) == (1, True)
    assert done.complaint.endswith("or gen-prior pull NAME --revision REVISION")


def test_export_puts_a_comparison_into_the_card(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = run(
        "compare", "bee", "-m", "dgn-lite0", "-m", "pixel", "--judge", "tiny-judge", "--out", tmp_path / "cmp", *tiny
    )
    assert done.code == 0, done.err
    done = run("export", "dgn-lite0", tmp_path / "out", "--comparison", tmp_path / "cmp", "--samples", 1)
    assert done.code == 0, done.err
    card = (tmp_path / "out" / "README.md").read_text()
    summary = load_comparison(tmp_path / "cmp").summary()
    assert set(summary) == {"dgn-lite0", "pixel"}
    for method, row in summary.items():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {method} |")]
        assert f"{row['activation']['value']:.3g}" in line
    done = run("export", "dgn-lite0", tmp_path / "other", "--comparison", tmp_path)
    assert "comparison.json is missing" in done.complaint
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", ["pull", "export"])
def test_an_unknown_name_has_close_matches(run: type[Run], tmp_path: Path, command: str) -> None:
    arguments = [command, "dgn-lite1", *([tmp_path / "out"] if command == "export" else [])]
    done = run(*arguments)
    assert done.code == 2
    assert "dgn-lite0" in done.complaint
    assert not (tmp_path / "out").exists()


def test_calibrate_keeps_what_a_direct_computation_gives(run: type[Run], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = tiny_autoencoder()
    network.save_pretrained(tmp_path / "network")
    source = torch.Generator().manual_seed(1)
    images = 0.2 + 0.6 * torch.rand(5, 3, 16, 16, generator=source)
    images = (images * 255).round() / 255
    for index, image in enumerate(images):
        write_png(tmp_path / "photographs" / "nested" / f"{index}.png", image)
    spec = f"local-dir:{tmp_path / 'network'}"
    arguments = ("calibrate", spec, tmp_path / "photographs", "--set", "image_size=16", "--device", "cpu")
    done = run(*arguments, "--batch", 2, "--covariance", "--json")
    assert done.code == 0, done.err
    with torch.no_grad():
        codes = network.encode(2 * images - 1).latents * network.config.scaling_factor
    path = tmp_path / "network" / "statistics.safetensors"
    assert done.json["file"] == str(path)
    assert (done.json["images"], done.json["units"]) == (5, codes[0].numel())
    found = read_tensors(path)
    expected = {
        "mean": codes.mean(0),
        "std": codes.std(0),
        "minimum": codes.amin(0),
        "maximum": codes.amax(0),
        "covariance": codes.flatten(1).T.cov(),
    }
    assert found.keys() == expected.keys()
    assert codes.std(0).min() > 1e-3
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-4)
    assert read_file_metadata(path)["images"] == "5"
    used = load_generator(spec, device="cpu", image_size=16).prior
    torch.testing.assert_close(used.mean, codes.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(used.std, codes.std(0), atol=1e-5, rtol=1e-4)
    assert "5 images" in run(*arguments).out


def test_calibrate_needs_an_encoder(run: type[Run], tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    done = run("calibrate", "dgn-lite0", tmp_path / "photographs")
    assert done.code == 2
    assert "has no encoder" in done.complaint
    done = run("calibrate", "pixel", tmp_path / "photographs")
    assert done.code == 2
    assert "no weights to keep code statistics for" in done.complaint


def test_calibrate_counts_what_it_left_out(run: type[Run], tmp_path: Path) -> None:
    tiny_autoencoder().save_pretrained(tmp_path / "network")
    for index in range(3):
        write_png(tmp_path / "photographs" / f"{index}.png", torch.rand(3, 16, 16))
    (tmp_path / "photographs" / "broken.png").write_bytes(b"no image")
    arguments = ("calibrate", f"local-dir:{tmp_path / 'network'}", tmp_path / "photographs", "--set", "image_size=16")
    done = run(*arguments, "--json")
    assert (done.json["images"], done.json["left_out"]) == (3, 1)
    assert "left out:" in done.err
    assert "3 images (1 left out), " in run(*arguments).out
    assert "at least 1 image, got 0" in run(*arguments, "--batch", 0).complaint
