"""Published settings by name: the recipe, and the generator that it was published with.

Each `source` says what the paper states, and after "Ours" what is ours: where it gives no number, or one that only
suits its own network or pixels in 0 to 255. Our numbers were set on EfficientNet-Lite0.
A new preset needs an entry in `PRESETS` and one in `GENERATORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gen_prior.errors import UnknownNameError
from gen_prior.generators import NAMED, maco
from gen_prior.recipe import Recipe

YOSINSKI = "Yosinski et al. 2015, arXiv 1506.06579, Table 1"
OURS = (
    "the steps of the authors' script. Ours: the rate, by mean |gradient| (theirs, scaled from pixels of "
    "0 to 255, left nearly grey images with EfficientNet-Lite0), and the clip to [0, 1]"
)

# Results record `source`, and are continued only with the same text. In it, "Ours: A for B" is A instead of B.
PRESETS: dict[str, Recipe] = {
    "simonyan2014": Recipe(
        steps=128,
        optimiser="normalised",
        rate=0.02,
        regularisers=(("pixel_l2", {"weight": 10.0}),),
        domain="image",
        source="Simonyan et al. 2014, arXiv 1312.6034: class score minus L2, from the mean image. Ours: weight, rate, "
        "steps and the normalised step (none is published), the clip to [0, 1]",
    ),
    "mahendran2015": Recipe(
        steps=300,
        optimiser="sgd",
        rate=0.02,
        momentum=0.9,
        transforms=(("jitter", {"pixels": 4}),),
        regularisers=(
            ("alpha_norm", {"weight": 2.0, "alpha": 6.0}),
            ("total_variation", {"weight": 30.0, "beta": 2.0}),
        ),
        edits=(("natural_range", {}),),
        domain="image",
        source="Mahendran & Vedaldi 2015, arXiv 1412.0035 and 2016, arXiv 1512.02017: alpha-norm 6, total variation "
        "beta 2, momentum 0.9, jitter, hard natural range. Ours: weights and rate, for means over pixels in [0, 1]",
    ),
    "yosinski2015-1": Recipe(
        steps=500,
        optimiser="normalised",
        rate=0.02,
        final_rate=0.02,
        edits=(("blur", {"every": 4, "deviation": 0.5}), ("clip_small_norm", {"percent": 50.0})),
        domain="image",
        source=f"{YOSINSKI}, row 1: blur 0.5 every 4 steps, norm percentile 50; {OURS}",
    ),
    "yosinski2015-2": Recipe(
        steps=750,
        optimiser="normalised",
        rate=0.06,
        final_rate=0.06,
        edits=(("l2_decay", {"decay": 0.3}), ("clip_small_norm", {"percent": 20.0})),
        domain="image",
        source=f"{YOSINSKI}, row 2: decay 0.3, norm percentile 20; {OURS}",
    ),
    "yosinski2015-3": Recipe(
        steps=1000,
        optimiser="normalised",
        rate=0.02,
        final_rate=0.02,
        edits=(("l2_decay", {"decay": 1e-4}), ("blur", {"every": 4, "deviation": 1.0})),
        domain="image",
        source=f"{YOSINSKI}, row 3 (that of most figures): decay 0.0001, blur 1.0 every 4 steps; {OURS}",
    ),
    "yosinski2015-4": Recipe(
        steps=1000,
        optimiser="normalised",
        rate=0.004,
        final_rate=0.004,
        edits=(("blur", {"every": 4, "deviation": 0.5}), ("clip_small_contribution", {"percent": 90.0})),
        domain="image",
        source=f"{YOSINSKI}, row 4: blur 0.5 every 4 steps, contribution percentile 90; {OURS}",
    ),
    "deepdream2015": Recipe(
        steps=40,
        optimiser="normalised",
        rate=1.5 / 255,
        final_rate=1.5 / 255,
        transforms=(("jitter", {"pixels": 32}),),
        domain="image",
        source="Mordvintsev et al. 2015, Inceptionism and its notebook: step 1.5 of 255 by mean |gradient|, jitter 32, "
        "10 steps in each of 4 octaves. Ours: all 40 at one size; octaves are the business of the dream command",
    ),
    "lucid2017": Recipe(
        steps=512,
        optimiser="adam",
        rate=0.05,
        final_rate=0.05,
        transforms=(
            ("pad", {"pixels": 12, "value": 0.5}),
            ("jitter", {"pixels": 8}),
            ("affine", {"degrees": 10.0, "scale": (0.9, 1.1)}),
            ("jitter", {"pixels": 4}),
        ),
        domain="image",
        source="Olah et al. 2017, Feature Visualization, and the defaults of Lucid: Adam 0.05, 512 steps, pad 12, "
        "jitter 8, scale 0.9 to 1.1, rotation 10, jitter 4. Ours: jitter wraps around, continuous scale and angle",
    ),
    "maco2023": replace(  # the generator's default is half as long, with smaller steps and less noise
        maco.RECIPE,
        steps=256,
        rate=0.3,
        transforms=(maco.WINDOWS, ("noise", {"deviation": 0.1})),
        source="Fel et al. 2023, arXiv 2306.06805, and Horama: phases only, random windows, noise 0.1. Ours: windows "
        "of 0.5 to 0.83 of the side for 0.20 to 0.25 (of images six times as wide), one a step, Adam falling from 0.3 "
        "for NAdam at 1, magnitudes of our own photographs",
    ),
    "dgnam2016": Recipe(
        steps=200,
        optimiser="normalised",
        rate=2.0,
        shrink=0.99,
        domain="code",
        source="Nguyen et al. 2016, arXiv 1605.09304: GoogLeNet setting (rate 8.0 for CaffeNet); rates are in units "
        "of DeePSim's fc6 code, whose bounds are the generator's",
    ),
    "ppgn2017": Recipe(
        steps=200,
        optimiser="normalised",
        rate=1.0,
        final_rate=1.0,
        score="log_probability",
        gradient_edits=(("ppgn", {"prior_step": 1e-5, "gradient_step": 1.0, "noise": 1e-17}),),
        domain="code",
        source="Nguyen et al. 2017, arXiv 1612.00005: e1 1e-5, e2 1, e3 1e-17, rate 1, 200 iterations. Ours: a "
        "Gaussian prior where there is no encoder, the generator's own bounds for [0, 30]",
    ),
    "biggan-am": Recipe(
        steps=200,
        optimiser="adam",
        rate=0.1,
        final_rate=0.1,
        score="log_probability",
        domain="code",
        edits=(("fresh_noise", {"every": 20, "share": 0.5}),),
        source="Li et al. 2020, arXiv 1910.04760: Adam 0.1, the class embedding only, 10 noises of 20 steps, clamped. "
        "Ours: one noise at a time (theirs: a batch of them), truncation 0.5, no diversity term",
    ),
    "reno2024": Recipe(
        steps=50,
        optimiser="sgd",
        rate=5.0,
        final_rate=5.0,
        momentum=0.9,
        gradient_limit=0.1,
        regularisers=(("noise_length", {"weight": 0.01}),),
        keep="best",
        domain="code",
        source="Eyring et al. 2024, ReNO, arXiv 2406.04312: Nesterov rate 5, gradient norm at most 0.1, 50 iterations, "
        "0.01 of the noise's length prior, the best iterate. Ours: a classifier's score for its human preference",
    ),
    "tokenopt2025": Recipe(
        steps=600,
        optimiser="adam",
        rate=0.1,
        final_rate=0.1,
        domain="code",
        source="Lao Beyer et al. 2025, arXiv 2506.08257, and the authors' script: Adam 0.1 on the tokens, 600 steps. "
        "Ours: a classifier's score for their text score, a start from the codes' Gaussian for a photograph's code",
    ),
}

GENERATORS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "simonyan2014": ("pixel-raw", {}),
    "mahendran2015": ("pixel", {}),
    "yosinski2015-1": ("pixel", {}),
    "yosinski2015-2": ("pixel", {}),
    "yosinski2015-3": ("pixel", {}),
    "yosinski2015-4": ("pixel", {}),
    "deepdream2015": ("pixel", {}),
    "lucid2017": ("fourier", {}),
    "maco2023": ("maco", {}),
    "dgnam2016": ("deepsim-fc6", {}),
    "ppgn2017": ("deepsim-fc6", {}),
    "biggan-am": ("biggan-deep-128", {"optimise": "both"}),
    "reno2024": ("one-step:stabilityai/sd-turbo", {}),
    "tokenopt2025": ("titok:ll32", {}),
}
"""Preset -> the generator it is meant for, and the options to load that with. Others of its domain work too."""


def preset(name: str) -> Recipe:
    """The published settings called `name`. Raises `UnknownNameError` with close matches."""
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]


def as_recipe(given: Recipe | str | None) -> Recipe | None:
    """Return `given`, or the published settings of that name. Raises as `preset`."""
    return preset(given) if isinstance(given, str) else given


def preset_generator(name: str) -> str:
    """Name of the generator that preset `name` is meant for. Raises as `preset`."""
    preset(name)
    return GENERATORS[name][0]


def preset_options(name: str, generator: str | None = None) -> dict[str, Any]:
    """Options to load that generator with; for another `generator`, if it is of the same family. Raises as `preset`."""
    own = preset_generator(name)
    fits = generator in (None, own) or (generator in NAMED and NAMED[generator] is NAMED.get(own))
    return dict(GENERATORS[name][1]) if fits else {}


def remark_on(name: str, generator: str) -> str:
    """A remark for the user if preset `name` is used with another generator than it was published for; else ""."""
    own = preset_generator(name)
    return f"{name} was published for {own}; here it is followed with {generator}" if generator != own else ""


def fitting_presets(domain: str) -> list[str]:
    """Names of the presets for generators of `domain`, "image" or "code"."""
    return [name for name, recipe in PRESETS.items() if recipe.domain in (domain, "any")]
