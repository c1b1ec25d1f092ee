#!/usr/bin/env bash
# Write every file of this folder with gen-prior 0.1.0 (commit b8080cb), on one thread of a CPU:
#   OMP_NUM_THREADS=1 ./make.sh EMPTY_FOLDER
# Not run by any test: the point of these files is that 0.1 wrote them.
set -euo pipefail
cd "$1"
C=(--classifier local-dir:classifier --device cpu)
D=(--device cpu --quiet)

python - <<'PY'
"""Two tiny timm classifiers of six classes, 24 pictures of coloured shapes, and two small generators of others."""
import json
from pathlib import Path

import diffusers
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

NAMES = ["ant", "bee", "crane", "cup", "dog", "elk"]
ARGS = {"channels": [8, 8, 2, 12], "layers": [1, 1, 1, 1], "stem_width": 8}
for seed, name in enumerate(("classifier", "judge")):
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet", num_classes=6, **ARGS).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2), (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                nn.init.uniform_(values, low, high)
    nn.init.normal_(network.fc.weight, std=1.0)
    Path(name).mkdir()
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, f"{name}/model.safetensors")
    cfg = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear"}
    config = {"architecture": "test_resnet", "num_classes": 6, "model_args": ARGS, "label_names": NAMES,
              "pretrained_cfg": cfg, "license": "apache-2.0"}
    Path(name, "config.json").write_text(json.dumps(config, indent=1) + "\n")

random = np.random.default_rng(0)
for index in range(24):
    picture = np.full((96, 96, 3), random.integers(0, 256, 3), np.uint8)
    top, left = random.integers(0, 64, 2)
    picture[top : top + 32, left : left + 32] = random.integers(0, 256, 3)
    path = Path("photographs", f"class{index % 4}", f"{index:03d}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)

torch.manual_seed(0)
layers = nn.Sequential(
    nn.ConvTranspose2d(16, 8, 4, bias=False), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False),
    nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False),
)
Path("sources/dcgan").mkdir(parents=True)
torch.save({f"main.{key}": value for key, value in layers.state_dict().items()}, "sources/dcgan/model.pth")
diffusers.AutoencoderTiny(
    encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
    num_decoder_blocks=(1, 1),
).save_pretrained("sources/autoencoder")
PY

# Training. The encoder and the critics have a fixed number of channels, and their random weights would be megabytes.
# So the training begins at the networks of another whose channels are all zero but for a few, which stays so: all steps
# are real, and the zeros compress.
trained=(train-prior "${C[@]}" --images photographs --width 0.05 --batch 4 --set code_channels=2
    --set critic_width=4 --set held_out=2 --set precision=fp32)
gen-prior "${trained[@]}" --out training/random --steps 1 --quiet
python - <<'PY'
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

LIVE = 4
INPUTS = ("encoder.down.", "decoder.entry.", "critic.patch.0.", "critic.whole.0.")  # what they read is outside
OUTPUTS = ("encoder.exit.", "decoder.exit.")
BESIDE = {"encoder.middle.": 64, "encoder.coarse.": 128}  # channels before those of the classifier, which stay

path = "training/random/networks.safetensors"
with safe_open(path, "pt") as file:
    metadata = file.metadata()
tensors = load_file(path)
for name, value in tensors.items():
    if not name.endswith((".weight", ".bias", ".original")):
        continue
    if not name.startswith(OUTPUTS):
        value[LIVE:] = 0
    head = name.startswith("critic.heads.") and name.split(".")[3] == "0"
    if value.ndim > 1 and not name.startswith(INPUTS) and not head:
        value[:, LIVE : BESIDE.get(name.rpartition("weight")[0], value.shape[1])] = 0
Path("training/start").mkdir()
save_file(tensors, "training/start/networks.safetensors", metadata)
PY
rm -r training/random

train() { # NAME COMMAND...: run it into training/NAME, and note it to be resumed
    gen-prior "${@:2}" --out "training/$1" --quiet
    printf '%s' "$1" >> training/commands.txt
    printf ' %q' "${@:2}" >> training/commands.txt
    echo >> training/commands.txt
}
train trained "${trained[@]}" --start-from training/start/networks.safetensors --steps 2
train rehearsed "${trained[@]}" --start-from training/trained/networks.safetensors --set encoder_rate=0 \
    --set rehearsed=0.5 --steps 2
next=("${C[@]}" --images photographs)
flow=(--batch 8 --set features=4 --set width=16 --set depth=2 --set view=32 --set held_out=4 --set precision=fp32
    --steps 1)
train flow flow-prior training/rehearsed "${next[@]}" "${flow[@]}"
gen-prior layout-prior training/flow "${next[@]}" --out training/layouts --layouts 3 --quiet
train calmed calm-prior training/layouts --device cpu --set batch=4 --set precision=fp32 --steps 2
larger=(--batch 4 --set crops=2 --set critic_width=4 --set adversarial_from=1000 --set held_out=4
    --set precision=fp32)
train refined refine-prior training/calmed "${next[@]}" "${larger[@]}" --set refiner=4 --set grain=0.02 --steps 2
train detailed detail-prior training/rehearsed "${next[@]}" "${larger[@]}" --set details=6 --set detail_width=4 \
    --set fit_steps=4 --set fit_batch=4 --set coring=0.3 --steps 2
gen-prior flow-prior training/detailed "${next[@]}" "${flow[@]}" --out training/before --quiet
gen-prior layout-prior training/before "${next[@]}" --out training/whole --layouts 3 --quiet
rm -r training/*/sheet*.png training/before training/whole/cache

# Results: through a prior with a flow (starts looked at and tried, edit "shell") and one with details, and in pixels.
gen-prior synth bee -g local-dir:training/flow "${C[@]}" -q --seeds 1 --steps 16 --candidates 4 --trials 2 \
    --out results/flow
gen-prior synth layer2:0@mean -g local-dir:training/whole "${C[@]}" -q --seed 1 --steps 4 --out results/whole
gen-prior synth dog -g pixel "${C[@]}" -q --seeds 1 --preset mahendran2015 --steps 6 --set image_size=16 \
    --out results/mahendran2015
gen-prior synth cup -g pixel "${C[@]}" -q --seeds 1 --preset yosinski2015-3 --steps 8 --set image_size=16 \
    --out results/yosinski2015-3
gen-prior synth ant -g fourier "${C[@]}" -q --seeds 1 --steps 6 --set image_size=16 --out results/fourier
gen-prior synth elk -g maco "${C[@]}" -q --seeds 1 --steps 6 --set image_size=16 --out results/maco
python - <<'PY'
import contextlib
from pathlib import Path

import gen_prior as gp

classifier = gp.load_classifier("local-dir:classifier", device="cpu")
pixels = gp.load_generator("pixel", device="cpu", image_size=16)

def stop(item, items, step, steps, activations):
    if item:
        raise KeyboardInterrupt

with contextlib.suppress(KeyboardInterrupt):  # as Ctrl-C leaves it: one item finished, the other not
    gp.synthesize(classifier, "bee", pixels, seeds=2, steps=4, batch=1, out="results/stopped", progress=stop)
gp.compare(classifier, "bee", ["local-dir:training/layouts", pixels], judge="local-dir:judge", seeds=1, evaluations=8,
           out="comparison")
Path("comparison/contact-sheet.png").unlink()
PY

gen-prior dataset local-dir:classifier --per-class 1 --classes ant --classes elk --judge local-dir:judge \
    --filter top5 --shard-size 2 -g local-dir:training/layouts --steps 4 "${D[@]}" --out dataset

# Evolutions: by a unit, of the embedded prior; and by hand, of which a generation waits for its scores.
gen-prior evolve goldfish --evaluations 8 --population 4 --numbers 6 -c efficientnet-lite0 "${D[@]}" --out evolved/by-unit
gen-prior evolve --ask --method genetic --population 4 -g local-dir:training/layouts "${D[@]}" --out evolved/by-hand
printf '0.1\n0.4\n0.2\n0.3\n' > scores.txt
gen-prior evolve --tell scores.txt -g local-dir:training/layouts "${D[@]}" --out evolved/by-hand
gen-prior evolve --ask -g local-dir:training/layouts "${D[@]}" --out evolved/by-hand
rm scores.txt evolved/*/best.png

gen-prior calibrate local-dir:sources/autoencoder photographs --covariance --set image_size=8 "${D[@]}"
gen-prior export local-dir:training/whole exported/prior --samples 1 -q
gen-prior export local-dir:sources/dcgan exported/dcgan --samples 1 -q
gen-prior export local-dir:sources/autoencoder exported/autoencoder --samples 1 --set image_size=8 -q
gen-prior invert photographs/class0/000.png --layer layer1 --layer logits -g local-dir:training/layouts \
    -g local-dir:training/trained --style layer1 --steps 6 "${C[@]}" -q --out inverted

python - <<'PY'
"""What 0.1 makes of these files, to be compared: `expected.json`, and codes of the embedded prior."""
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import gen_prior as gp
from gen_prior.cli import app

CPU = next(line.partition(": ")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
           if line.startswith("model name"))
expected = {"torch": torch.__version__, "cpu": [CPU, torch.backends.cpu.get_cpu_capability()]}


def digest(tensors):
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


def thumbnail(image):
    return torch.nn.functional.adaptive_avg_pool2d(image, 4)


def drawn(generator, classes=("bee",)):
    codes = [generator.initial_code(0), *(generator.initial_code(seed, name) for name in classes for seed in (0, 9))]
    with torch.no_grad():
        return torch.stack(codes), generator(torch.stack(codes))


expected["results"] = {
    path.name: {name: digest({name: getattr(gp.load_result(path), name)}) for name in
                ("images", "codes", "activations", "start_activations", "history")}
    for path in sorted(Path("results").iterdir())
}
expected["recipes"] = {name: recipe.to_dict() for name, recipe in sorted(gp.PRESETS.items())}
expected["priors"] = {}
for path in [*sorted(Path("training").glob("*/generator.safetensors")), *sorted(Path("exported").glob("*/README.md"))]:
    name = path.parent.as_posix()
    codes, images = drawn(gp.load_generator(f"local-dir:{name}", device="cpu",
                                            **({"image_size": 8} if "auto" in name else {})))
    expected["priors"][name] = {"code": codes[1].flatten()[:40].tolist(), "image": thumbnail(images)[1].tolist(),
                                "side": images.shape[-1]}
codes, images = drawn(gp.load_generator("dgn-lite0", device="cpu"), ("n01443537", "n02279972"))
save_file({"codes": codes, "images": thumbnail(images)}, "embedded.safetensors")

expected["resumed"] = {}
for line in Path("training/commands.txt").read_text().splitlines():
    name, *command = line.split()
    shutil.copytree(f"training/{name}", f"resumed/{name}")
    done = CliRunner().invoke(app, [*command, "--steps", "3", "--resume", "--out", f"resumed/{name}", "--quiet"])
    assert done.exit_code == 0, done.output
    expected["resumed"][name] = digest(load_file(f"resumed/{name}/generator.safetensors"))
shutil.rmtree("resumed")
Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")
PY
XZ_OPT=-9e tar -cJf written.tar.xz --owner=0 --group=0 --sort=name --remove-files \
    training exported classifier comparison dataset evolved inverted judge photographs results sources embedded.safetensors
