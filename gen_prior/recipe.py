"""How a code is optimised: named, serialisable settings. The published ones are in `gen_prior.optimise.presets`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gen_prior.errors import OptionError, UnknownNameError

Specs = tuple[tuple[str, Mapping[str, Any]], ...]
"""Transforms or regularisers by name with their arguments: `(("jitter", {"pixels": 8}),)`."""

TRIAL_SHARE = 8
"""A trial takes one step for so many of the optimisation after it."""


@dataclass(frozen=True)
class Recipe:
    """Settings of one synthesis. The update rule reads the gradient of `-score + penalty`.

    Attributes:
        steps: updates, each one forward and one backward pass of the classifier per item.
        optimiser: "adam", "sgd" or "normalised" (step divided by the item's mean |gradient|, Nguyen 2016).
        rate: step size at the start; it falls linearly towards `final_rate`, which would be reached after the last
            update.
        gradient_limit: largest norm of an item's gradient, longer ones are shortened to it ("sgd" only).
        score: "activation" (the raw unit, before any softmax) or "log_probability" (class targets only).
        prior_weight: weight of the code prior's penalty in the loss.
        shrink: factor on the code after every step and its clipping (0.99 in Nguyen 2016).
        project: clip codes to the prior's bounds after every step.
        sigmas: also clip to this many deviations from the prior's mean.
        code_noise: deviation, in the prior's deviations, of fresh noise on the code in every forward pass.
        transforms: applied in order between the image and the classifier, drawn per item and step.
        regularisers: penalties of the image or code, each with a "weight".
        edits: changes made to the code after every step (blur, clipping of small norms, noise).
        gradient_edits: changes made to the gradient before the update (smoothing, noise).
        keep: "last" iterate, or the "best" seen.
        candidates: starts that are looked at first, one forward pass each; the best are gone on with. 1 begins at the
            seed's own code.
        trials: so many of the best starts are optimised for an eighth of `steps` each, and the optimisation begins at
            what the best of them became. 1 begins at the best start itself. Where as many as `candidates`, nothing is
            looked at before.
        domain: "image", "code" or "any": what kind of generator the recipe is meant for.
        source: the paper or measurement the settings come from.
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
    candidates: int = 1
    trials: int = 1
    domain: str = "any"
    source: str = ""

    def __post_init__(self) -> None:
        choices = {
            "optimiser": ("adam", "sgd", "normalised"),
            "score": ("activation", "log_probability"),
            "keep": ("last", "best"),
            "domain": ("image", "code", "any"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("steps", "candidates", "trials"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a whole number, at least 1, got {value!r}")
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

    def with_options(self, **options: Any) -> Recipe:
        """A copy with some settings replaced; more trials alone mean as many candidates.

        Raises `UnknownNameError` for a name that is no setting.
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
        """Whether starts are looked at: where there are several, and not all of them are tried."""
        return self.candidates > (self.trials if self.trial_steps else 1)

    @property
    def trial_steps(self) -> int:
        """Of each trial; 0 where there are none, or too few steps."""
        return self.steps // TRIAL_SHARE if min(self.trials, self.candidates) > 1 else 0

    @property
    def all_trial_steps(self) -> int:
        """Of all trials together."""
        return min(self.trials, self.candidates) * self.trial_steps

    @property
    def evaluations(self) -> int:
        """Of the classifier for an image: at each start that is looked at, each step of a trial, and each step."""
        return (self.candidates if self.ranks_starts else 0) + self.all_trial_steps + self.steps

    def within(self, evaluations: int) -> Recipe:
        """A copy with as many steps as that number of evaluations allows.

        At most a quarter goes to looking at starts.
        """
        candidates = max(1, min(self.candidates, evaluations // 4))
        steps = next(
            steps
            for steps in range(evaluations, 0, -1)
            if replace(self, candidates=candidates, steps=steps).evaluations <= evaluations
        )
        return replace(self, candidates=candidates, steps=steps)

    def from_given_start(self) -> Recipe:
        """A copy of as many evaluations that looks at no starts."""
        return replace(self, candidates=1, trials=1, steps=self.evaluations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads back, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` described."""
        specs = {
            name: tuple((kind, dict(options)) for kind, options in values[name])
            for name in ("transforms", "regularisers", "edits", "gradient_edits")
            if name in values
        }
        return cls(**{**values, **specs})


def schedule(recipe: Recipe, step: int) -> float:
    """Step size of update `step` (0-based): linear from `rate` towards `final_rate`."""
    return recipe.rate + (recipe.final_rate - recipe.rate) * step / recipe.steps
