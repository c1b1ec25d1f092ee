"""An atlas as numbers and as a dataset: read back by other libraries, and free of photographs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from PIL import Image

from gen_prior.atlas import hub_export
from gen_prior.atlas.atlas import make_atlas
from gen_prior.atlas.hub_export import NUMBERS, export_atlas, export_numbers, is_atlas
from gen_prior.atlas.reader import Atlas, load_atlas
from gen_prior.classifiers import Classifier
from gen_prior.errors import OptionError, OutputError
from gen_prior.generators import Generator
from gen_prior.util.image_io import write_png


@pytest.fixture
def atlas(tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> Atlas:
    """Five neurons, two seeds, compared with photographs of telling names."""
    source = torch.Generator().manual_seed(0)
    for number in range(6):
        write_png(tmp_path / "photographs" / f"secret{number}.png", torch.rand(3, 40, 40, generator=source))
    return make_atlas(
        tiny_classifier, ["conv2", "logits"], out=tmp_path / "atlas", generators=tiny_generator, evaluations=2, seeds=2,
        units={"conv2": "0-2", "logits": "1,4"}, shard_size=2, images=tmp_path / "photographs",
    )  # fmt: skip


def test_numbers_have_a_documented_column_for_everything_in_the_table(atlas: Atlas, tmp_path: Path) -> None:
    rows = atlas.table()
    assert {name for row in rows for name in row} <= set(NUMBERS)
    assert export_numbers(atlas.folder, tmp_path / "numbers.csv") == 10
    with (tmp_path / "numbers.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [one["target"] for one in read] == [row["target"] for row in rows]
    assert [float(one["activation"]) for one in read] == [row["activation"] for row in rows]
    export_numbers(atlas.folder, tmp_path / "numbers.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "numbers.parquet").to_pylist()
    for one, row in zip(table, rows, strict=True):
        assert (one["target"], one["seed"], one["activation"]) == (row["target"], row["seed"], row["activation"])
        assert (atlas.folder / one["image"]).is_file()
    with pytest.raises(OptionError, match=r"as .csv or .parquet"):
        export_numbers(atlas.folder, tmp_path / "numbers.xlsx")


def test_a_dataset_holds_every_picture_and_no_photograph(
    atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_export, "ROWS_A_FILE", 6)
    out = export_atlas(atlas.folder, tmp_path / "hub")
    names = sorted(path.name for path in (out / "data").iterdir())
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    rows = pyarrow.parquet.read_table(out / "data").to_pylist()
    assert [row["target"] for row in rows] == [row["target"] for row in atlas.table()]
    for row in rows:
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        stored = atlas.image(row["target"], seed=row["seed"]).convert("RGB")
        assert picture.tobytes() == stored.tobytes()
    schema = pyarrow.parquet.read_schema(out / "data" / names[0])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert list(features) == schema.names
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"secret" not in content
    assert str(tmp_path).encode() not in content
    with pytest.raises(OutputError, match="is not empty"):
        export_atlas(atlas.folder, out)


def test_the_card_has_the_header_of_the_hub(atlas: Atlas, tmp_path: Path) -> None:
    card = (export_atlas(atlas.folder, tmp_path / "hub") / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert "path: 'data/train-*.parquet'" in header
    assert "license: " in header
    assert "5 of 5 neurons of tiny" in text
    assert "6 photographs. **No photograph is part" in text
    for name, (_, says) in NUMBERS.items():
        assert name == "image" or f"| {name} | " in text
        assert name == "image" or says in text


def test_hostile_names_are_text(tiny_classifier: Classifier, tiny_generator: Generator, tmp_path: Path) -> None:
    hostile = Classifier(tiny_classifier.network, input_size=32, name="<script>\n---\nlicense: mit", fold=False)
    made = make_atlas(hostile, "conv2", out=tmp_path / "atlas", generators=tiny_generator, evaluations=2, units="0-0")
    card = (export_atlas(made.folder, tmp_path / "hub") / "README.md").read_text()
    assert "<script>" not in card
    assert card.count("\n---\n") == 1


def test_what_is_an_atlas(atlas: Atlas, tmp_path: Path) -> None:
    assert is_atlas(atlas.folder)
    assert not is_atlas(tmp_path)
    assert not is_atlas("dgn-lite0")
    (tmp_path / "manifest.json").write_text("{}")
    assert not is_atlas(tmp_path)


def test_an_atlas_without_a_finished_neuron(atlas: Atlas, tmp_path: Path) -> None:
    for record in (atlas.folder / "records").iterdir():
        record.unlink()
    assert export_numbers(atlas.folder, tmp_path / "numbers.csv") == 0
    with pytest.raises(OutputError, match="no finished neuron"):
        export_atlas(load_atlas(atlas.folder).folder, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_the_documentation_lists_the_columns() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "atlas.md").read_text()
    for name, (_, says) in NUMBERS.items():
        assert f"| `{name}` | {says} |" in page
