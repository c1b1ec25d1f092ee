"""`accentuate`: an image for each target, a sheet, numbers, a film on request, and what is refused."""

from __future__ import annotations

from pathlib import Path

from command_runner import Run


def test_accentuate_writes_all_of_it(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    common = ("accentuate", photo, "bee", "conv2:3@mean", "--layer", "conv1", "--out", tmp_path / "out", *tiny)
    done = run(*common, "--film", "webp")
    assert done.code == 0, done.err
    assert "distance at conv1" in done.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    images = {"photograph.png", "accentuation-sheet.png", "bee.png", "bee.webp", "bee-strip.png", "conv2-3-mean.png"}
    assert images <= names
    assert {"numbers.csv", "accentuation.json", "accentuation.safetensors"} <= names
    again = run(*common)
    assert again.code == 2
    assert "holds an accentuation" in again.complaint
    replaced = run(*common, "--overwrite", "--json", "--through", "tiny")
    assert replaced.json["images"][0]["activation"] >= replaced.json["images"][0]["start_activation"]


def test_accentuate_refuses_in_one_line(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((photo, "bee", "--layer", "conv9"), "conv2"),
        ((photo, "bees", "--layer", "conv1"), "did you mean bee"),
        ((tmp_path / "none.jpg", "bee", "--layer", "conv1"), "no such image"),
        ((photo, "bee", "--layer", "conv1", "--film", "avi"), ".gif, .webp, .mp4"),
    ):
        done = run("accentuate", *arguments, "--out", tmp_path / "out", *tiny)
        assert done.code != 0
        assert words in done.complaint
        assert not (tmp_path / "out").exists()
