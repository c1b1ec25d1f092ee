"""An atlas as a dataset for the Hugging Face Hub: Parquet files with the pictures in them, and a card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gen_prior.atlas.reader import Atlas, flat_rows, load_atlas
from gen_prior.errors import MissingExtraError, OptionError, OutputError
from gen_prior.report.model_card import LICENCES
from gen_prior.util.files import as_output_errors, is_file, write_bytes, write_json
from gen_prior.util.folders import check_empty
from gen_prior.util.reading import open_regular, reading
from gen_prior.util.tables import write_csv, write_parquet

NUMBERS: dict[str, tuple[type, str]] = {
    "target": (str, "the neuron, LAYER:UNIT"),
    "layer": (str, "its layer"),
    "unit": (int, "its number in the layer"),
    "name": (str, "class name of a logit"),
    "photographs_best": (float, "highest activation that a photograph reaches, at any position"),
    "photographs_median": (float, "median over photographs of the highest activation at any position"),
    "photographs_active": (float, "share of the photographs with an activation above 0 anywhere"),
    "photographs_dead": (int, "1 if no photograph excites it"),
    "photographs_dense": (int, "1 if nearly all photographs excite it"),
    "generator": (str, "what drew the picture"),
    "evaluations": (int, "evaluations of the classifier for each picture"),
    "seed": (int, "seed of the picture"),
    "activation": (float, "activation that the picture reaches"),
    "status": (str, "ok, or what went wrong"),
    "quantile": (float, "share of the photographs below the activation of the best seed"),
    "ratio": (float, "activation of the best seed divided by that of the best photograph"),
    "path": (float, "path similarity to photographs (Geirhos et al. 2024), 1 is that of photographs"),
    "two_alternatives": (
        float,
        "share of pairs of photographs that a machine tells apart by the pictures; chance is 0.5",
    ),
    "judge_top1": (float, "1 if another network names the class, for logits"),
    "judge_label": (str, "the class that the other network names"),
    "least_activation": (float, "activation of the least exciting picture"),
    "image": (str, "file of the picture in the folder of the atlas"),
    "error": (str, "why the neuron could not be made"),
}
"""Columns of the table of an atlas: name -> type and meaning."""
CARD, MANIFEST = "README.md", "atlas.json"
ROWS_A_FILE = 8192
"""About 100 MB of pictures."""


def export_numbers(folder: str | Path, file: str | Path) -> int:
    """Write the numbers of the atlas in `folder` as `file`, `.csv` or `.parquet`; returns the number of rows.

    A row for each neuron, generator and seed, with the columns `NUMBERS`; a neuron that failed has one row.

    Raises `OptionError` for another ending, `MissingExtraError` for Parquet without pyarrow (extra `tables`),
    `OutputError` where there is no atlas or the file cannot be written.
    """
    writers = {".csv": write_csv, ".parquet": write_parquet}
    path = Path(file)
    if path.suffix not in writers:
        raise OptionError(f"numbers are written as .csv or .parquet, got {path.name!r}", fix="numbers.csv")
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in load_atlas(folder).rows():
            count += 1
            yield row

    writers[path.suffix](path, counted(), {name: kind for name, (kind, _) in NUMBERS.items()})
    return count


def is_atlas(folder: str | Path) -> bool:
    """True if there is an atlas, finished or not, in `folder`."""
    path = Path(folder) / "manifest.json"
    if not is_file(path):
        return False
    try:
        load_atlas(folder)
    except OutputError:
        return False
    return True


def export_atlas(folder: str | Path, out: str | Path) -> Path:
    """Write the atlas in `folder` as a dataset into the new folder `out`, to be pushed to the Hub as it is.

    It holds a card (README.md), Parquet files with a row and a picture for each neuron, generator and seed
    (`data/train-00000-of-00003.parquet`), and the manifest. No photograph, no name of one, and no path of this machine
    is in it.

    Raises `MissingExtraError` without pyarrow (extra `tables`), `OutputError` where there is no finished neuron, or
    `out` is not empty or cannot be written.
    """
    atlas, target = load_atlas(folder), Path(out)
    check_empty(target)
    with as_output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            counted = _write_data(atlas, staged / "data")
            write_json(staged / MANIFEST, _public(atlas.manifest))
            write_bytes(staged / CARD, _card(atlas, counted).encode())
            staged.chmod(0o755)
            if target.exists():
                target.rmdir()
            staged.replace(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return target


def _write_data(atlas: Atlas, folder: Path) -> dict[str, int]:
    """Write the Parquet files, a shard in memory at a time; returns counts of rows, pictures and bytes."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "a dataset for the Hub needs pyarrow, which is not installed", fix="pip install 'gen-prior[tables]'"
        ) from error
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    fields = [(name, types[kind]) for name, (kind, _) in NUMBERS.items() if name != "image"]
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", picture), *fields], {"huggingface": json.dumps(_features())})
    folder.mkdir(parents=True)
    counts = {"rows": 0, "neurons": 0, "bytes": 0}
    written: list[Path] = []
    writer, in_file = None, 0
    for rows in _shards(atlas, counts):
        if writer is None or in_file >= ROWS_A_FILE:
            if writer is not None:
                writer.close()
            written.append(folder / f"{len(written)}.parquet")
            writer, in_file = pyarrow.parquet.ParquetWriter(written[-1], schema, write_page_index=True), 0
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
        in_file += len(rows)
    if writer is None:
        raise OutputError(f"{atlas.folder} holds no finished neuron", fix="run the command that makes the atlas")
    writer.close()
    for number, path in enumerate(written):
        path.rename(folder / f"train-{number:05d}-of-{len(written):05d}.parquet")
    counts["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    return counts


def _shards(atlas: Atlas, counts: dict[str, int]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each finished shard, with pictures in place of their files."""
    for index, neurons in atlas.shards():
        folder, rows = atlas.records.shard_folder(index), []
        for neuron in neurons:
            with reading("atlas", atlas.folder):
                flat = list(flat_rows(neuron, f"shards/{index:05d}"))
            for row in flat:
                file = row.pop("image", None)
                picture = None
                if file is not None:
                    with open_regular(atlas.folder / file, within=folder) as opened:
                        picture = {"bytes": opened.read(), "path": Path(file).name}
                typed = {name: _as(kind, row.get(name)) for name, (kind, _) in NUMBERS.items() if name != "image"}
                rows.append({"image": picture} | typed)
        counts["rows"] += len(rows)
        counts["neurons"] += len(neurons)
        yield rows


def _as(kind: type, value: Any) -> Any:
    return None if value is None else kind(value)


def _features() -> dict[str, Any]:
    """The columns as the library `datasets` reads them from a Parquet file, so that pictures are decoded."""
    kinds = {str: "string", int: "int64", float: "float64"}
    values = {name: {"dtype": kinds[kind], "_type": "Value"} for name, (kind, _) in NUMBERS.items() if name != "image"}
    return {"info": {"features": {"image": {"_type": "Image"}} | values}}


def _public(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the manifest, without names and hashes of photographs and without paths of this machine."""
    names = ("format", "layers", "seeds", "evaluations", "scale", "least", "faithfulness", "versions")
    images = manifest["images"]
    return {name: manifest.get(name) for name in names} | {
        "classifier": _without_paths(manifest["classifier"]),
        "generators": [
            {"name": one["name"], "unit_recipe": one["unit_recipe"], "generator": _without_paths(one["describe"])}
            for one in manifest["generators"]
        ],
        "judge": _without_paths(manifest["judge"]) if manifest["judge"] is not None else None,
        "photographs": images["count"] if images is not None else 0,
    }


def _without_paths(described: Mapping[str, Any]) -> dict[str, Any]:
    """Description of a network, its source shortened where that is a folder."""
    source = str(described.get("source") or "")
    return dict(described) | ({"source": "local-dir"} if source.startswith("local-dir:") else {})


def _card(atlas: Atlas, counts: Mapping[str, int]) -> str:
    """The README of the dataset, with the Hub's header."""
    manifest = atlas.manifest
    classifier, generators = manifest["classifier"], manifest["generators"]
    licences = {one["describe"].get("licence") for one in generators} | {classifier.get("licence")}
    known = {LICENCES.get(one or "", "other") for one in licences if one is not None}
    images = manifest["images"]
    made = f"{counts['neurons']} of {atlas.records.manifest.neurons}"
    header = [
        "---",
        f"license: {known.pop() if len(known) == 1 else 'other'}",
        f"pretty_name: {json.dumps('Atlas of ' + _text(classifier['name']))}",
        "task_categories: [feature-extraction]",
        "tags: [activation-maximization, feature-visualization, interpretability, gen-prior]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - {split: train, path: 'data/train-*.parquet'}",
        "---",
    ]
    text = [
        f"# Atlas of {_text(classifier['name'])}",
        "",
        f"The preferred inputs of {made} neurons of {_text(classifier['name'])}: pictures that were synthesised to "
        "excite them (activation maximisation), with what they reach beside photographs. Made with gen-prior "
        f"{manifest['versions']['gen-prior']}, {manifest['evaluations']} evaluations of the network for each picture.",
        "",
        f"- Layers: {', '.join(_text(one['name']) for one in manifest['layers'])}",
        f"- Generators: {', '.join(_text(one['name']) for one in generators)}",
        f"- Seeds: {', '.join(map(str, manifest['seeds']))}",
        f"- Rows: {counts['rows']}, one for each neuron, generator and seed; {counts['bytes'] / 1e6:.1f} MB",
        f"- Compared with {images['count'] if images is not None else 'no'} photographs. **No photograph is part of "
        "this dataset**, only numbers that were measured on them.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'atlas = load_dataset("ORG/NAME", split="train")',
        'atlas[0]["image"], atlas[0]["target"], atlas[0]["activation"]',
        "```",
        "",
        "## Columns",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        "| image | image | the picture, as the generator drew it |",
        *(f"| {name} | {kind.__name__} | {says} |" for name, (kind, says) in NUMBERS.items() if name != "image"),
        "",
        "Empty values were not measured. `atlas.json` holds the settings.",
        "",
        "## Licences",
        "",
        "The pictures are products of these models, whose terms may apply to them:",
        "",
        *(f"- {line}" for line in dict.fromkeys(map(_licence, [classifier, *(one["describe"] for one in generators)]))),
        "",
    ]
    return "\n".join([*header, "", *text])


def _licence(described: Mapping[str, Any]) -> str:
    return f"{_text(described.get('name'))}: {_text(described.get('licence') or 'licence not known')}"


def _text(value: Any) -> str:
    """Text that Markdown and HTML show as it is."""
    return "".join(f"&#{ord(letter)};" if letter in "<>|[]`*&" else letter for letter in " ".join(str(value).split()))
