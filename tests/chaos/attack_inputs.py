"""What an attacker passes: hostile values of each kind, the files that they name, and valid commands to spoil."""

from __future__ import annotations

import os
import random
from pathlib import Path

import torch

from gen_prior.util.image_io import write_png

NAMES = [
    "", " ", "\0", "..", "../../x", "/", "~", "a" * 300, "a/" * 2000, "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "a\nb", "a\rb",
    "<script>alert(1)</script>", "[red]x[/red]", "[/]", "{x}", "%s%n", "'; --", "\u202etxt.exe", "\u0665",
    "\ud7ff", "é" * 90,
    "-", "--", "--help=x", "*", "**", "?", "@", ":", "::", ":0", "conv2:", "conv2:-1", "conv2:99999",
    "conv2:" + "9" * 5000,
    "conv2:0-", "conv2:3@9,9", "conv2/sae:inputs:0", "conv2/direction:inputs/fifo:0",
    "conv2/direction:/dev/zero:0", "text:x",
    "bee+cup+", "0*bee", "nan*bee", "1e400*bee", "bee-bee", "(" * 3000, "-bee", "local-dir:", "local-dir:inputs/fifo",
    "local-dir:inputs/model", "local-dir:/dev", "hf-hub:", "hf-hub:../..", "hf-hub:a/b@../../c",
    "hf-hub:a/b@" + "0" * 40,
    "os:system", "no.such.module:build", "json:loads", "preset:x", "none", "auto", "null", "true", "[]", "tiny",
]  # fmt: skip
NUMBERS = [
    "-1", "0", "1", "2", "-0", "1e9", "9" * 30, "9" * 5000, "nan", "inf", "-inf", "1e-400", "1e999", "0x10",
    "1_0", "٣", "2.5", "",
    "1,2", "None", str(2**31), str(2**63), str(2**64),
]  # fmt: skip
FILES = [
    "inputs", "inputs/fifo", "inputs/zero", "inputs/plain.txt", "inputs/huge", "inputs/secret-link",
    "inputs/dangling", "inputs/loop",
    "inputs/empty", "inputs/photo.png", "inputs/cut.png", "inputs/bomb.png", "inputs/page.safetensors",
    "inputs/claims.safetensors",
    "inputs/cut.safetensors", "inputs/canary.pt", "inputs/table.csv", "inputs/recipe.toml", "inputs/deep.json",
    "inputs/model",
    "inputs/\x1b[31mred.png", "inputs/a\nb.png", "inputs/<b>.png", os.fsdecode(b"inputs/\xff.png"),
    "inputs/missing", "/dev/zero",
    "/dev/full", "/dev/tty", "/proc/self/mem", *NAMES[:16],
]  # fmt: skip
OUTS = [
    "inputs/plain.txt",
    "inputs/fifo",
    "inputs/zero",
    "inputs/dangling",
    "inputs/loop",
    "/dev/full",
    "/proc",
    *NAMES[:3],
    *NAMES[7:18],
]
SETTINGS = [
    "", "=", "a", "a=", "=1", "image_size=-1", "image_size=1e9", "image_size=99999999",
    'image_size="x"', "image_size=[1]",
    "image_size=" + "[" * 5000, "steps=" + "9" * 5000, "rate=NaN", "__class__=1", "self=1", "name=x", "\x1b[31m=1",
]  # fmt: skip
KINDS = {
    "--out": OUTS, "-o": OUTS, "--set": SETTINGS, "--image-size": NUMBERS, "--seeds": NUMBERS,
    "--seed": NUMBERS, "--steps": NUMBERS,
    "--rate": NUMBERS, "--candidates": NUMBERS, "--trials": NUMBERS, "--batch": NUMBERS, "--octaves": NUMBERS,
    "--frames": NUMBERS,
    "--zoom": NUMBERS, "--rotate": NUMBERS, "--strength": NUMBERS, "--fps": NUMBERS, "--nearness": NUMBERS,
    "--spread": NUMBERS,
    "--population": NUMBERS, "--evaluations": NUMBERS, "--dims": NUMBERS, "--sigmas": NUMBERS, "--per-class": NUMBERS,
    "--shard-size": NUMBERS, "--workers": NUMBERS, "--grid": NUMBERS, "--positions": NUMBERS, "--points": NUMBERS,
    "--style-weight": NUMBERS, "--input-size": NUMBERS, "--mean": NUMBERS, "--std": NUMBERS,
    "--width": NUMBERS, "--size": NUMBERS,
    "--samples": FILES, "--images": FILES, "--natural": FILES, "--guide": FILES, "--style": FILES, "--reference": FILES,
    "--tell": FILES, "--comparison": FILES, "--status": FILES, "--verify": FILES, "--export": FILES, "--pages": FILES,
    "--retry-failed": FILES, "--worker": FILES, "--labels": FILES, "--recipe": FILES, "--large": FILES,
    "--start": FILES,
    "--activation-atlas": NAMES, "--through": NAMES,
}  # fmt: skip
"""Option -> what an attacker passes to it; to all others, `NAMES` and `NUMBERS`."""
TINY, ONE = ["-c", "tiny"], ["--steps", "1", "-q"]
VALID: dict[str, list[str]] = {
    "synth": ["bee", *TINY, "-g", "tiny", "--seeds", "1", *ONE],
    "compare": ["bee", *TINY, "-m", "tiny", "--judge", "none", "--seeds", "1", *ONE],
    "dream": ["inputs/photo.png", *TINY, "--layer", "conv2", "--octaves", "1", *ONE],
    "accentuate": ["inputs/photo.png", "bee", *TINY, "--through", "tiny", *ONE],
    "morph": ["bee", "cup", *TINY, "-g", "tiny", "--frames", "2", *ONE],
    "invert": ["inputs/photo.png", *TINY, "--layer", "conv2", "-g", "tiny", *ONE],
    "evolve": ["bee", *TINY, "-g", "tiny", "--evaluations", "4", "--population", "4", "-q"],
    "dataset": ["tiny", "--per-class", "1", "--classes", "bee", "-g", "tiny", *ONE],
    "atlas": ["tiny", "--layers", "conv2", "--units", "0-1", "-g", "tiny", "--workers", "1", "--judge", "none", *ONE],
    "models": ["tiny"],
    "pull": ["efficientnet-lite0"],
    "calibrate": ["tiny", "inputs/photos"],
    "export": ["tiny", "exported"],
    "doctor": ["tiny"],
    "layers": ["tiny"],
    "labels": ["bee", *TINY],
    "natural": ["tiny", "--images", "inputs/photos", "--layers", "conv2", "-q"],
    "benchmark": ["tiny", "-g", "tiny", "--judge", "none", "--units", "0", "--classes", "1", "--seeds", "1", *ONE],
    "replay": ["inputs/result", "-q"],
    "train-prior": ["--images", "inputs/photos", *TINY, "--plan", "-q"],
}
"""Command -> words that are valid, cheap, and to be spoiled."""


def write_inputs(folder: Path) -> None:
    """Write the files that `FILES` names into `folder`."""
    photo = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    for name in (
        "photo.png",
        "photos/a.png",
        "photos/b.png",
        "\x1b[31mred.png",
        "a\nb.png",
        "<b>.png",
        os.fsdecode(b"\xff.png"),
    ):
        write_png(folder / name, photo)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "secret-link").symlink_to(folder.parent / "secret.txt")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "dangling").symlink_to(folder / "nowhere" / "at-all")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "fifo")
    (folder / "plain.txt").write_text("plain")
    (folder / "empty").write_bytes(b"")
    with (folder / "huge").open("wb") as file:
        file.truncate(2**42)  # sparse
    whole = (folder / "photo.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:])
    (folder / "page.safetensors").write_bytes(b"<html>log in</html>")
    (folder / "claims.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    header = b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}'
    (folder / "cut.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    canary = f"cos\nsystem\n(S'touch {folder / 'canary'}'\ntR."
    (folder / "canary.pt").write_bytes(canary.encode())
    (folder / "table.csv").write_text("image,score\n=1+1,9e999\n")
    (folder / "recipe.toml").write_text("decoder = 3\n")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"architecture": "os.system", "_class_name": "AutoencoderKL"}')
    (folder / "model" / "model.safetensors").write_bytes(header)


def spoiled(source: random.Random, command: str, options: list[str]) -> list[str]:
    """The words of a valid command, of which one or two are replaced, taken away or preceded by a hostile option."""
    words = list(VALID[command])
    for _ in range(source.choice([1, 1, 2])):
        place = source.randrange(len(words) + 1)
        kind = source.random()
        if kind < 0.55 and options:
            option = source.choice(options)
            words[:0] = (
                [option] if source.random() < 0.1 else [option, source.choice(KINDS.get(option, NAMES + NUMBERS))]
            )
        elif kind < 0.9 and place < len(words):
            before = words[place - 1] if place else ""
            pool = KINDS.get(before, FILES if words[place].startswith("inputs/") else NAMES)
            words[place] = source.choice(pool)
        elif place < len(words):
            del words[place]
    return [command, *words]
