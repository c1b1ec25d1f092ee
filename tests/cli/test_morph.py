"""`morph`: a film from a photograph to a class, and what is refused."""

from __future__ import annotations

from pathlib import Path

from command_runner import Run
from PIL import Image


def test_morph_films_the_way_there_and_back(run: type[Run], tiny: tuple[str, ...], photo: Path, tmp_path: Path) -> None:
    common = ("morph", photo, "bee", "-g", "tiny", "--frames", 4, "--film", "webp", "--out", tmp_path / "out", *tiny)
    done = run(*common, "--json")
    assert done.code == 0, done.err
    assert done.json["names"] == ["photo", "bee"]
    assert len(done.json["numbers"]) == 4 * len(done.json["units"])
    with Image.open(done.json["film"]) as film:
        assert getattr(film, "n_frames", 1) >= 6
    again = run(*common)
    assert again.code == 0, again.err
    assert "0.33 of the way" in again.out
    assert str(tmp_path / "out" / "morph.webp") in again.out


def test_morph_refuses_in_one_line(run: type[Run], tiny: tuple[str, ...], tmp_path: Path) -> None:
    for ends, words in (
        (("bee",), "needs two ends"),
        (("bee", tmp_path / "none.jpg"), "no such image"),
        (("bee", "bees"), "did you mean bee"),
        (("bee", "cup", "--film", "avi"), ".gif, .webp, .mp4"),
        (("bee", "cup", "--frames", 1), "from 2 to"),
    ):
        done = run("morph", *ends, "-g", "tiny", "--out", tmp_path / "out", *tiny)
        assert done.code != 0
        assert words in done.complaint
        assert not (tmp_path / "out").exists()
