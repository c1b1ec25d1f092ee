"""`Recipe`: the settings of an optimisation. Those of published methods are in `gen_prior.optimise.presets`."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gen_prior.errors import OptionError, UnknownNameError

Specs = tuple[tuple[str, Mapping[str, Any]], ...]
"""Transforms, regularisers or edits by name with their options: `(("jitter", {"pixels": 8}),)`."""

OPTIMISER_NAMES = ("adam", "sgd", "normalised")
"""Keys of `gen_prior.optimise.update_rules.OPTIMISERS`."""

MOST = {"steps": 10**9, "candidates": 10**6, "trials": 10**6}
"""Largest values of the numbers of passes: more never end."""

TRIAL_SHARE = 8
"""A trial takes `steps // TRIAL_SHARE` steps."""

RENAMED = {"shell": "norm_sphere"}
"""Names of transforms, regularisers and edits in version 0.1 -> now."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """Settings of one optimisation of a code, which minimises the loss `-score + penalty`; they serialise to JSON.

    Attributes:
        steps: updates, each with one forward and one backward pass of the classifier per item.
        optimiser: "adam", "sgd" or "normalised" (gradient divided by the item's mean |gradient|, Nguyen et al. 2016).
        rate: learning rate of the first update; it falls linearly, to reach `final_rate` after the last one.
        momentum: Nesterov momentum of "sgd", first beta of "adam", in [0, 1).
        gradient_limit: largest norm of an item's gradient, to which longer ones are clipped ("sgd" only).
        score: "activation" (the raw unit, before any softmax), "log_probability" (of class targets; hidden units fall
            back to the activation), or "capped" (climb to the activation of the best photograph and stay there, after
            arXiv 2605.17504; needs natural statistics of the unit).
        prior_weight: weight of the code prior's penalty in the loss.
        shrink: factor on the code after every step and its clipping (0.99 in Nguyen et al. 2016).
        project: True to clip codes to the prior's bounds after every step.
        sigmas: where given, also clip codes to this many standard deviations from the prior's mean.
        code_noise: std, in units of the prior's std, of fresh Gaussian noise on the code in every forward pass.
        transforms: applied in order between the image and the classifier, with random draws per item and step.
        regularisers: penalties on the image or code, each with a "weight".
        edits: changes to the code after every update (blur, clipping of small norms, noise).
        gradient_edits: changes to the gradient before every update (smoothing, noise).
        keep: which iterate to return, the "last" one or the "best" by score.
        scale: what the image of a hidden unit fills: "unit", the part of the input that the unit sees most of
            (`optimise.unit_scale`), "image", the whole input, or a square of so many pixels where the unit looks.
            Classes are always drawn over the whole input.
        unit_start: True to start where the generator starts hidden units, which may be other codes than for classes.
        candidates: random restarts: codes to score first, one forward pass each, of which the best start the
            optimisation. 1 starts at the seed's own code.
        trials: successive halving: so many of the best candidates are optimised for an eighth of `steps` each, and
            the optimisation goes on from the best of them. 1 starts at the best candidate. Where all candidates are
            tried, none is scored before.
        domain: kind of generator that the recipe suits: "image" (the code parametrises the image directly: pixels,
            Fourier coefficients), "code" (latent code of a learnt network), or "any".
        source: the paper or measurement that the settings come from.

    Raises:
        OptionError: a setting out of range.
    """

    steps: int = 128
    optimiser: str = "adam"
    rate: float = 0.1
    final_rate: float = 0.0
    momentum: float = 0.9
    gradient_limit: float | None = None
    score: str = "activation"
    prior_weight: float = 0.0
    shrink: float = 1.0
    project: bool = True
    sigmas: float | None = None
    code_noise: float = 0.0
    transforms: Specs = ()
    regularisers: Specs = ()
    edits: Specs = ()
    gradient_edits: Specs = ()
    keep: str = "last"
    scale: str | int = "unit"
    unit_start: bool = False
    candidates: int = 1
    trials: int = 1
    domain: str = "any"
    source: str = ""

    def __post_init__(self) -> None:
        choices = {
            "optimiser": OPTIMISER_NAMES,
            "score": ("activation", "log_probability", "capped"),
            "keep": ("last", "best"),
            "domain": ("image", "code", "any"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        check_scale(self.scale)
        for name in ("steps", "candidates", "trials"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a whole number, at least 1, got {value!r}")
            if value > MOST[name]:
                raise OptionError(f"{name} must be at most {MOST[name]}, got {value}")
        for name in ("rate", "final_rate", "momentum", "prior_weight", "shrink", "sigmas", "code_noise"):
            value = getattr(self, name)
            if value is None and name == "sigmas":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise OptionError(f"{name} must be a finite number, not negative, got {value!r}")
        if self.rate == 0:
            raise OptionError("rate must be positive, got 0")
        if self.momentum >= 1:
            raise OptionError(f"momentum must be below 1, got {self.momentum}")

    def __repr__(self) -> str:
        """One line that gives the recipe back: the steps, and what differs from the defaults."""
        changed = [one for one in fields(self) if one.name == "steps" or getattr(self, one.name) != one.default]
        return f"Recipe({', '.join(f'{one.name}={getattr(self, one.name)!r}' for one in changed)})"

    def with_options(self, **options: Any) -> Recipe:
        """Return a copy with some settings replaced; with at least as many candidates as trials.

        Raises `UnknownNameError` for a name that is no setting, `OptionError` for a value out of range.
        """
        known = {field.name for field in fields(self)}
        for name in options:
            if name not in known:
                raise UnknownNameError("recipe setting", name, sorted(known))
        if isinstance(trials := options.get("trials"), int) and "candidates" not in options:
            options["candidates"] = max(self.candidates, trials)
        return replace(self, **options)

    @property
    def ranks_starts(self) -> bool:
        """True if candidates are scored first: there are several, and not all of them are tried."""
        return self.candidates > (self.trials if self.trial_steps else 1)

    @property
    def trial_steps(self) -> int:
        """Steps of each trial; 0 without trials, or with too few steps."""
        return self.steps // TRIAL_SHARE if min(self.trials, self.candidates) > 1 else 0

    @property
    def all_trial_steps(self) -> int:
        """Steps of all trials together."""
        return min(self.trials, self.candidates) * self.trial_steps

    @property
    def evaluations(self) -> int:
        """Forward passes of the classifier per image: one for each scored candidate, step of a trial, and step."""
        return (self.candidates if self.ranks_starts else 0) + self.all_trial_steps + self.steps

    @property
    def looks(self) -> bool:
        """Name of `ranks_starts` in version 0.1."""
        warnings.warn("Recipe.looks is called Recipe.ranks_starts since 0.2", DeprecationWarning, stacklevel=2)
        return self.ranks_starts

    @property
    def tried_steps(self) -> int:
        """Name of `all_trial_steps` in version 0.1."""
        warnings.warn("Recipe.tried_steps is called Recipe.all_trial_steps since 0.2", DeprecationWarning, stacklevel=2)
        return self.all_trial_steps

    def within(self, evaluations: int) -> Recipe:
        """Return a copy with as many steps as fit into `evaluations`, of which at most a quarter scores candidates.

        Raises `OptionError` for fewer than one evaluation, or more than 10^9.
        """
        if type(evaluations) is not int or not 1 <= evaluations <= MOST["steps"]:
            raise OptionError(f"evaluations must be a whole number from 1 to {MOST['steps']}, got {evaluations!r}")
        candidates = max(1, min(self.candidates, evaluations // 4))
        steps = bisect_right(
            range(1, evaluations + 1),
            evaluations,
            key=lambda steps: replace(self, candidates=candidates, steps=steps).evaluations,
        )
        return replace(self, candidates=candidates, steps=steps)

    def from_given_start(self) -> Recipe:
        """Return a copy of as many evaluations with one candidate: for a start that the caller gives."""
        return replace(self, candidates=1, trials=1, steps=self.evaluations)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` described, here or in an earlier version. Raises as the class does."""
        specs = {
            name: tuple((RENAMED.get(kind, kind), dict(options)) for kind, options in values[name])
            for name in ("transforms", "regularisers", "edits", "gradient_edits")
            if name in values
        }
        return cls(**{**values, **specs})


def schedule(recipe: Recipe, step: int) -> float:
    """Learning rate of update `step` (0-based): linear from `rate` towards `final_rate`."""
    return recipe.rate + (recipe.final_rate - recipe.rate) * step / recipe.steps


def check_scale(scale: str | int) -> None:
    """Raise `OptionError` unless `scale` is "unit", "image" or a side in pixels."""
    if not (scale in ("unit", "image") or (isinstance(scale, int) and not isinstance(scale, bool) and scale >= 1)):
        raise OptionError(f'scale must be "unit", "image" or a side in pixels, got {scale!r}')
