"""`--html` of every command but synth and compare: a page of the pictures in the folder, whatever names hold."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from command_runner import Run

from gen_prior.report.pages.gallery import gallery

HOSTILE = "<script>alert(1)</script>"
NAMES = "(?:ant|bee|crane bird|golden retriever|cup|conv1)"
TINY = ("--classifier", "tiny")
SHORT = ("--steps", 2)
COMMANDS: dict[str, tuple[tuple[object, ...], str, set[str]]] = {
    "invert": (("PHOTO", "--layer", "conv1", "-g", "tiny", *SHORT, *TINY), "error", {"original.png", "tiny-conv1.png"}),
    "dream": (
        ("PHOTO", "--layer", "conv2", "--octaves", 1, "--frames", 2, *SHORT, *TINY),
        "frame 1",
        {"dream.png", "dream.gif", "dream-strip.png", "frame-0001.png"},
    ),
    "accentuate": (
        ("PHOTO", "bee", "--layer", "conv1", "--film", "webp", *SHORT, *TINY),
        "distance",
        {"photograph.png", "bee.png", "bee.webp"},
    ),
    "morph": (
        ("bee", "cup", "-g", "tiny", "--frames", 2, *SHORT, *TINY),
        "position 1.00",
        {"morph.gif", "frame-0001.png"},
    ),
    "evolve": (
        ("bee", "-g", "tiny", "--evaluations", 8, "--population", 8, *TINY),
        "best score",
        {"best.png"},
    ),
    "benchmark": (
        ("tiny", "--judge", "tiny-judge", "-g", "tiny", "--classes", 1, "--units", 0, "--seeds", 1, *SHORT),
        "Means",
        set(),
    ),
    "dataset": (
        ("tiny", "--per-class", 1, "--classes", "bee", "-g", "tiny", *SHORT),
        "probability",
        {"images/0001-bee/seed-00000.png"},
    ),
}
"""Command -> its words, what its page says, and pictures that it shows."""


def sources(page: str) -> list[str]:
    return [unquote(html.unescape(found)) for found in re.findall(r'<img src="([^"]*)"', page)]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_of_each_kind_of_folder(name: str, run: type[Run], photo: Path, tmp_path: Path) -> None:
    words, says, pictures = COMMANDS[name]
    given = [photo if word == "PHOTO" else word for word in words]
    done = run(name, *given, "--out", tmp_path / "out", "--html", "--device", "cpu", "-q")
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert says in page
    shown = sources(page)
    assert shown
    assert pictures <= set(shown)
    assert all((tmp_path / "out" / source).is_file() for source in shown)
    if name not in ("benchmark", "compare"):  # quick enough to run again
        (tmp_path / "out" / "gallery.html").write_text("of an earlier call")
        done = run(name, *given, "--out", tmp_path / "out", "--device", "cpu", "-q")
        assert (done.code, (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")) == (0, page)
    for path in tmp_path.rglob("*"):  # the same folder, in which every name of the target and the layer is hostile
        if path.suffix in (".csv", ".json", ".jsonl"):
            text = re.sub(rf'"{NAMES}"|\b{NAMES}\b(?=[,\n])', f'"{HOSTILE}"', path.read_text())
            path.write_text(text)
    page = gallery(tmp_path / "out").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # our own
    assert (html.escape(HOSTILE) in page) == (name not in ("dream", "evolve"))  # these show no names


@pytest.mark.usefixtures("tiny")
def test_an_experiment_shows_its_generations(run: type[Run], photo: Path, tmp_path: Path) -> None:
    common = ("evolve", "-g", "tiny", "--device", "cpu", "--population", 4, "--out", tmp_path / "out", "-q")
    assert run(*common, "--ask", "--reference", photo).code == 0
    table = tmp_path / "out" / "gen-0000" / "scores.csv"
    head, *images = table.read_text().splitlines()
    scores = zip(images, ("1", "2", "nan", "3", "9"), strict=True)
    table.write_text("\n".join([head, *(f"{image}{score}" for image, score in scores)]))
    assert run(*common, "--tell", table, "--html").code == 0
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert "generation 0" in page
    assert "score 3.00" in page
    assert "no score" in page or "score –" in page
    assert "gen-0000/image-03.png" in sources(page)
    assert "best score 3.00" in page, "the reference image is no part of the search"
    assert "score 9.00" in page
    assert "1 search, 4 images shown, 3 with a score; 1 reference image beside them." in page
    assert f"gen-0000/reference-{photo.name}" in sources(page)
