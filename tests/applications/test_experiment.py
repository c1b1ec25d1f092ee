"""Experiments: a folder for each generation, scores that are its own, and everything that was measured kept."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gen_prior.applications.evolution import Evolution
from gen_prior.applications.experiment import Experiment
from gen_prior.applications.experiment_record import Record
from gen_prior.errors import ImageError, OptionError, OutputError
from gen_prior.generators import Generator
from gen_prior.util.image_io import read_image, write_png

MANY: dict[str, Any] = {"method": "genetic", "population": 5}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill_in(path: Path, score: Callable[[str], Any], separator: str = ",", newline: str = "\n", mark: str = "") -> Path:
    """Write the score of each row's image into all its other columns, as a spreadsheet would save it."""
    table = rows(path)
    lines = [separator.join(table[0])]
    for row in table:
        lines.append(separator.join([row["image"], *(str(score(row["image"])) for _ in list(row)[1:])]))
    path.write_bytes((mark + newline.join(lines) + newline).encode())
    return path


def by_place(image: str) -> float:
    return float(image.rpartition("image-")[2][:2]) if "image-" in image else 100.0


@pytest.fixture
def experiment(tiny_generator: Generator, tmp_path: Path) -> Callable[..., Experiment]:
    """`experiment(...)` opens the experiment in one folder, as another process would."""
    return lambda **options: Experiment(tmp_path / "cell", tiny_generator, **(MANY | options))


@pytest.fixture
def references(tmp_path: Path) -> Path:
    for place, name in enumerate(("face.png", "house.png", "deeper/face.png")):
        write_png(tmp_path / "shown" / name, torch.full((3, 8, 8), 0.2 * place))
    return tmp_path / "shown"


def test_each_generation_has_its_folder_with_a_table_to_fill_in(experiment: Callable[..., Experiment]) -> None:
    folder = experiment().ask()
    assert folder.name == "gen-0000"
    images = [f"image-0{place}.png" for place in range(5)]
    assert sorted(path.name for path in folder.iterdir()) == [*images, "scores.csv"]
    assert rows(folder / "scores.csv") == [{"image": f"gen-0000/{image}", "score": ""} for image in images]
    told = experiment().tell(fill_in(folder / "scores.csv", by_place))
    assert (told.generation, told.missing) == (0, {"score": 0})
    second = experiment().ask()
    assert second.name == "gen-0001"
    assert torch.equal(read_image(second / "image-00.png"), read_image(folder / "image-04.png")), "the best is kept"


def test_the_images_are_those_of_the_search(experiment: Callable[..., Experiment], tiny_generator: Generator) -> None:
    folder = experiment(seed=3).ask()
    straight = Evolution(tiny_generator, seed=3, **MANY)
    for place, image in enumerate(tiny_generator(straight.ask().codes)):
        assert (read_image(folder / f"image-0{place}.png") - image).abs().max() < 0.003


def test_nothing_in_a_generation_is_overwritten(experiment: Callable[..., Experiment]) -> None:
    folder = experiment().ask()
    fill_in(folder / "scores.csv", by_place)
    (folder / "image-01.png").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert experiment().ask() == folder
    assert {path: path.read_bytes() for path in folder.iterdir() if path in before} == before
    assert (folder / "image-01.png").is_file(), "what was missing is there again"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_are_read_as_spreadsheets_save_them(
    experiment: Callable[..., Experiment], separator: str, mark: str, newline: str
) -> None:
    folder = experiment().ask()
    written = (lambda image: f"{by_place(image):.2f}".replace(".", ",")) if separator == ";" else by_place
    fill_in(folder / "scores.csv", written, separator, newline, mark)
    opened = experiment()
    opened.tell(folder)  # the folder is as good as its scores.csv
    assert opened.searches["score"].scores[0].tolist() == [0, 1, 2, 3, 4]


def test_tables_in_utf_16_and_without_names(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    opened = experiment()
    opened.ask()
    lines = [f"gen-0000\\image-0{place}.png,{place}" for place in reversed(range(5))]
    (tmp_path / "out.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    opened.tell(tmp_path / "out.csv")
    assert opened.searches["score"].scores[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_further_columns_do_no_harm(experiment: Callable[..., Experiment], tmp_path: Path, separator: str) -> None:
    opened = experiment(neurons=["a", "b"])
    names = [row["image"] for row in rows(opened.ask() / "scores.csv")]
    table = [["image", "comment", "a", "trial", "b"], *([name, "moved", "1", "inf", "2.5"] for name in names)]
    (tmp_path / "with-remarks.csv").write_text("\n".join(separator.join(row) for row in table))
    assert opened.tell(tmp_path / "with-remarks.csv").missing == {"a": 0, "b": 0}
    assert opened.searches["b"].scores[0].tolist() == [2.5] * 5


@pytest.mark.parametrize("nothing", ["", "nan", "NA", "-"])
@pytest.mark.parametrize("method", ["genetic", "cma"])
def test_images_without_a_score(experiment: Callable[..., Experiment], nothing: str, method: str) -> None:
    opened = experiment(method=method)
    folder = opened.ask()
    fill_in(folder / "scores.csv", lambda image: nothing if "02" in image or "04" in image else by_place(image))
    assert opened.tell(folder).missing == {"score": 2}
    assert torch.tensor(opened.searches["score"].scores[0]).isnan().tolist() == [False, False, True, False, True]
    assert opened.searches["score"].best_score == 3
    opened.ask()
    again = experiment(method=method)
    assert torch.equal(again.searches["score"].ask().codes, opened.searches["score"].ask().codes)


def test_rows_may_be_missing_or_come_several_times(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    opened = experiment()
    opened.ask()
    (tmp_path / "some.csv").write_text(
        "trial,image,score\n1,gen-0000/image-03.png,2\n2,gen-0000/image-03.png,4\n3,gen-0000/image-00.png,1\n"
        "4,gen-0000/image-00.png,\n"
    )
    assert opened.tell(tmp_path / "some.csv").missing == {"score": 3}
    scores = opened.searches["score"].scores[0]
    assert (scores[3], scores[0]) == (3, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,score\ngen-0001/image-00.png,1\n", "holds scores of gen-0001, but gen-0000 waits"),
        ("image,score\ngen-0000/image-77.png,1\n", "names gen-0000/image-77.png, which gen-0000 does not have"),
        ("image,score\nimage-00.png,1\n", "without its generation"),
        ("image,score\ngen-0000/image-00.png,loud\n", "'loud' for gen-0000/image-00.png, which is no score"),
        ("image,score\ngen-0000/image-00.png,inf\n", "'inf'"),
        ("image,score\ngen-0000/image-00.png,1\n", "1 of 5 images have a score in .*, and at least 2 images"),
        ("image,score\ngen-0000/image-00.png,\n", "0 of 5 images have a score in .*scores.csv"),
        ("image,a,b\ngen-0000/image-00.png,1,2\n", "no column 'score'; besides image it has a, b"),
        ("image,score\n,1\n", "row 2 of .* does not name its image"),
        ("1,2,3\n4,5,6\n", "has 3 columns, but none is called 'image'"),
        ("1\n2\n3\n", "5 finite scores are needed, one for each image, got 3"),
        ("\n \n", "holds no scores"),
        ("caf\xe9", "cannot be read"),
    ],
)
def test_other_scores_are_refused_and_change_nothing(
    experiment: Callable[..., Experiment], tmp_path: Path, text: str, words: str
) -> None:
    opened = experiment()
    opened.ask()
    before = {path: path.read_bytes() for path in (tmp_path / "cell").rglob("*") if path.is_file()}
    (tmp_path / "scores.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(OptionError, match=words):
        opened.tell(tmp_path / "scores.csv")
    with pytest.raises(OptionError, match="no such file"):
        opened.tell(tmp_path / "none.csv")
    assert {path: path.read_bytes() for path in (tmp_path / "cell").rglob("*") if path.is_file()} == before


def test_scores_that_were_told_are_not_told_again(experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    opened = experiment()
    first = opened.ask()
    opened.tell(fill_in(first / "scores.csv", by_place))
    with pytest.raises(OptionError, match="no generation waits for scores: gen-0000 was told before"):
        opened.tell(first)
    opened.ask()
    with pytest.raises(OptionError, match=r"holds scores of gen-0000 \(told before\), but gen-0001 waits"):
        opened.tell(first)
    (tmp_path / "numbers.txt").write_text("0 1 2 3 4")
    with pytest.raises(OptionError, match="are those of gen-0000, which was told before"):
        opened.tell(tmp_path / "numbers.txt")


def test_scores_are_told_by_a_file(experiment: Callable[..., Experiment]) -> None:
    opened = experiment()
    opened.ask()
    with pytest.raises(OptionError, match="by a file that names their images, got list"):
        opened.tell([1, 2, 3, 4, 5])  # type: ignore[arg-type]


def test_scores_of_another_experiment_are_refused(
    experiment: Callable[..., Experiment], tiny_generator: Generator, tmp_path: Path
) -> None:
    other = Experiment(tmp_path / "other", tiny_generator, seed=1, **MANY).ask()
    opened = experiment()
    opened.ask()
    with pytest.raises(OptionError, match=r"belongs to the experiment in .*other, not to"):
        opened.tell(fill_in(other / "scores.csv", by_place))


def test_references_are_shown_and_kept_but_not_searched(
    experiment: Callable[..., Experiment], references: Path
) -> None:
    plain = experiment(references=[references])
    first = plain.ask()
    names = ["reference-face-2.png", "reference-face.png", "reference-house.png"]
    assert sorted(path.name for path in first.glob("reference-*")) == names
    plain.tell(fill_in(first / "scores.csv", by_place))
    assert plain.searches["score"].best_score == 4, "a reference's 100 is not the search's"
    again = experiment(references=[references])
    assert sorted(path.name for path in again.ask().glob("reference-*")) == names
    again.export()
    table = rows(again.folder / "responses.csv")
    shown = {row["image"]: (row["kind"], row["code"], row["score"]) for row in table}
    assert shown["gen-0000/image-04.png"] == ("evolved", "4", "4.0")
    for name in names:
        assert shown[f"gen-0000/{name}"] == ("reference", "-1", "100.0")
    assert {row["neuron"] for row in table} == {"score"}
    assert {row["search"] for row in table} == {"score", ""}
    (references / "face.png").unlink()
    with pytest.raises(OptionError, match="other reference images"):
        experiment(references=[references]).ask()
    (references / "bad.png").write_bytes(b"")
    with pytest.raises(ImageError):
        Experiment(references.parent / "new", plain.generator, references=[references]).ask()


def test_everything_measured_is_exported_with_its_codes(
    experiment: Callable[..., Experiment], tiny_generator: Generator
) -> None:
    for _ in range(3):
        opened = experiment()
        folder = opened.ask()
        opened.tell(fill_in(folder / "scores.csv", lambda image: "" if "image-02" in image else by_place(image)))
    opened.export()
    table, codes = rows(opened.folder / "responses.csv"), load_file(opened.folder / "codes.safetensors")["codes"]
    assert len(table) == len(codes) == 15
    assert [row["score"] for row in table[5:10]] == ["0.0", "1.0", "", "3.0", "4.0"]
    for row in table:
        shown = read_image(opened.folder / row["image"])
        assert (tiny_generator(codes[int(row["code"])][None])[0] - shown).abs().max() < 0.003


def test_several_neurons_have_searches_of_their_own_that_alternate(experiment: Callable[..., Experiment]) -> None:
    folder = experiment(neurons=["V4-12", "IT.3"]).ask()
    shown = sorted(path.name for path in folder.glob("*.png"))
    assert shown[:4] == ["image-00-IT.3.png", "image-00-V4-12.png", "image-01-IT.3.png", "image-01-V4-12.png"]
    assert not torch.equal(read_image(folder / shown[0]), read_image(folder / shown[1]))
    opened = experiment()
    lines = ["image,IT.3,V4-12", *(f"gen-0000/{name},{name[6:8]},-{name[6:8]}" for name in shown)]
    (folder / "scores.csv").write_text("\n".join(lines))
    opened.tell(folder)
    assert opened.searches["IT.3"].scores[0].tolist() == [0, 1, 2, 3, 4]
    assert opened.searches["V4-12"].scores[0].tolist() == [0, -1, -2, -3, -4]
    opened.export()
    codes = load_file(opened.folder / "codes.safetensors")
    assert {name: len(tensor) for name, tensor in codes.items()} == {"IT.3": 5, "V4-12": 5}
    table = rows(opened.folder / "responses.csv")
    assert len(table) == 20, "each neuron's response to the other's images is kept too"
    assert {(row["search"], row["neuron"]) for row in table} == {(a, b) for a in opened.neurons for b in opened.neurons}
    assert load_file(opened.folder / "codes.safetensors").keys() == {"V4-12", "IT.3"}
    (folder.parent / "numbers.txt").write_text(" ".join(map(str, range(10))))
    opened.ask()
    with pytest.raises(OptionError, match="does not say which score is whose"):
        opened.tell(folder.parent / "numbers.txt")


@pytest.mark.parametrize("neurons", [["a", "A"], ["../a"], ["image"], ["a/b"], ["gen-0000"]])
def test_names_that_cannot_be_folders_are_refused(experiment: Callable[..., Experiment], neurons: list[str]) -> None:
    with pytest.raises(OptionError):
        experiment(neurons=neurons)


def test_an_experiment_keeps_to_what_it_was(experiment: Callable[..., Experiment]) -> None:
    experiment(neurons=["a", "b"]).ask()
    with pytest.raises(OptionError, match="holds an experiment with a, b, not c"):
        experiment(neurons=["c"])
    with pytest.raises(OptionError, match="has population 5, not 6"):
        experiment(population=6)


def test_a_crash_between_record_and_search_loses_nothing(
    experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = experiment(neurons=["a", "b"])
    folder = opened.ask()

    def crash(*arguments: Any) -> None:
        raise KeyboardInterrupt

    fill_in(folder / "scores.csv", by_place)
    monkeypatch.setattr(opened.searches["b"], "save", crash)
    with pytest.raises(KeyboardInterrupt):
        opened.tell(folder)
    again = experiment()
    assert [len(search.scores) for search in again.searches.values()] == [1, 1]
    assert again.ask().name == "gen-0001"


def test_damaged_and_lost_records(experiment: Callable[..., Experiment]) -> None:
    opened = experiment()
    opened.ask()
    for text in ("", "{}", '{"format": "gen-prior/experiment-1", "neurons": ["score"], "references": 3}'):
        (opened.folder / "experiment.json").write_text(text)
        with pytest.raises(OutputError, match="damaged"):
            experiment()
    (opened.folder / "experiment.json").unlink()
    with pytest.raises(OutputError, match=r"holds generations, but experiment\.json is missing"):
        experiment()


def test_a_search_of_0_1_goes_on(experiment: Callable[..., Experiment], tiny_generator: Generator) -> None:
    old = Evolution(tiny_generator, seed=0, **MANY)
    old.ask()
    old.tell([1.0, 2, 3, 4, 5])
    old.ask()
    folder = experiment().folder
    old.save(folder / "evolution.npz")
    opened = experiment()
    (folder / "scores.txt").write_text("5 4 3 2 1")
    assert opened.tell(folder / "scores.txt").generation == 1
    opened.export()
    assert [float(row["score"]) for row in rows(folder / "responses.csv")] == [1, 2, 3, 4, 5, 5, 4, 3, 2, 1]
    record = Record.read(folder)
    assert record is not None
    assert len(record.generations) == 2


def test_a_search_starts_at_a_code_and_keeps_near_it(tiny_generator: Generator, tmp_path: Path) -> None:
    code = torch.arange(8.0)
    for method in ("cma", "sep-cma", "genetic"):
        near, wide = (
            Evolution(tiny_generator, method=method, population=64, start=code, spread=spread).ask().codes
            for spread in (None, 2.0)
        )
        assert (near.mean(0) - code).abs().max() < 0.2
        assert near.std(0).mean() == pytest.approx(0.3, rel=0.2)
        assert wide.std(0).mean() == pytest.approx(2.0, rel=0.2)
    part = Evolution(tiny_generator, dims=2, start=code, population=5)
    assert torch.equal(part.ask().codes[:, 2:], code[2:].expand(5, -1))
    part.save(tmp_path / "run.npz")
    assert torch.equal(Evolution.load(tmp_path / "run.npz", tiny_generator).ask().codes, part.ask().codes)
    with pytest.raises(OptionError):
        Evolution(tiny_generator, start=code[:3])
    with pytest.raises(OptionError):
        Evolution(tiny_generator, spread=0.0)


def test_a_code_that_was_not_measured_is_neither_kept_nor_a_parent(tiny_generator: Generator) -> None:
    evolution = Evolution(tiny_generator, method="genetic", population=8)
    before = evolution.ask().codes
    evolution.tell([float("nan")] * 6 + [1.0, 2.0])
    after = evolution.ask().codes
    assert torch.equal(after[:2], before[[7, 6]])
    copied = (after[2:, None] == before[None]).any(2)
    assert not copied[:, :6].any()


def test_an_unmeasured_image_neither_attracts_nor_repels(tiny_generator: Generator) -> None:
    def moved(missing: bool) -> Tensor:
        """How far the mean of the search goes along the direction of an image with the lowest score, or none."""
        shifts = []
        for seed in range(40):
            evolution = Evolution(tiny_generator, method="cma", population=12, seed=seed)
            codes = evolution.ask().codes
            scores = codes[:, 0].clone().double()
            scores[0] = float("nan") if missing else -100.0
            evolution.tell(scores)
            mean = torch.from_numpy(evolution._searcher._search.mean).float()  # type: ignore[attr-defined]
            shifts.append((mean[1:] @ codes[0, 1:]) / codes[0, 1:].norm())
        return torch.stack(shifts).mean()

    assert moved(True).abs() < 0.1
