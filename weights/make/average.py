"""Average the weights of a prior and of one that went on from it.

    python weights/make/average.py FIRST SECOND --share 0.3 --out OUT

Weights of `generator.safetensors` become (1 - share) * FIRST + share * SECOND. Integer tensors (class exemplars),
`networks.safetensors` and the metadata, to which a record of the averaging is added, are SECOND's. Weights between
those of a network and of its own further training draw better than either (Wortsman et al. 2022, "Model soups",
arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gen_prior.generators.dgn.generator import FILE
from gen_prior.hub.tensors import file_sha256, read_file_metadata, read_tensors, save_safetensors
from gen_prior.training.prior_file import NETWORKS_FILE, next_number


def main() -> None:
    """Average and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.3, help="weight of SECOND, 0 to 1")
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=TEXT", help="further metadata")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = [folder / FILE for folder in (options.first, options.second)]
    first, second = (read_tensors(file) for file in files)
    if {key: value.shape for key, value in first.items()} != {key: value.shape for key, value in second.items()}:
        parser.error(f"{options.first} and {options.second} hold networks of different shapes")
    averaged = {
        key: first[key].float().lerp(value.float(), options.share).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in second.items()
    }
    of = {"share": options.share, "sha256": [file_sha256(file) for file in files]}
    metadata = read_file_metadata(files[1])
    metadata[f"averaging{next_number(metadata, 'averaging')}"] = json.dumps(of)
    metadata |= dict(text.split("=", 1) for text in options.metadata)
    options.out.mkdir(parents=True, exist_ok=True)
    save_safetensors(options.out / FILE, averaged, metadata)
    if (networks := options.second / NETWORKS_FILE).exists():
        (options.out / NETWORKS_FILE).write_bytes(networks.read_bytes())


if __name__ == "__main__":
    main()
