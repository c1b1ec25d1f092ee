"""Checks before a replay: the network takes the same input, and objectives of the user's own are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gen_prior.classifiers.base import Classifier
from gen_prior.errors import OptionError
from gen_prior.util.words import few

SAME = 1e-6
"""Largest difference of a mean or a standard deviation that counts as none, as after printing."""


def is_own(target: Mapping[str, Any]) -> bool:
    """True for a recorded target that is a function which no file holds, of the user's own or of photographs."""
    return target.get("target") is None and target.get("origin") is None


def check_objectives(targets: Sequence[Mapping[str, Any]], given: int) -> None:
    """Raise `OptionError` unless as many objectives are `given` as `targets` cannot be made from the file."""
    lacking = [target for target in targets if is_own(target)]
    if len(lacking) == given:
        return
    held = [target for target in lacking if target.get("holds")]
    counts = {
        "are functions of your own": len(lacking) - len(held),
        f"are compared with {held[0]['holds'] if held else ''}": len(held),
    }
    reason = " and ".join(f"{count} of {len(targets)} targets {what}" for what, count in counts.items() if count)
    raise OptionError(
        (reason or f"0 of {len(targets)} targets are functions of your own")
        + ", which no file holds"
        + (f" ({few([str(target['name']) for target in lacking])})" if lacking else "")
        + (f", got {given} objectives" if given else ""),
        fix="from Python, make the same objectives again and call load_result(DIR).replay(objective=[...]), with one "
        "for each of these",
    )


def check_input(settings: Mapping[str, Any], classifier: Classifier) -> None:
    """Raise `OptionError` where `classifier` sees images otherwise than the network of a result with `settings`.

    Results of earlier versions hold no mean and std, which are not compared then.
    """
    here, then = list(classifier.input_size), settings["classifier"].get("input_size")
    if then is not None and here != list(then):
        raise OptionError(
            f"this result was made at input size {'x'.join(map(str, then))}, "
            f"and {classifier.name} has {'x'.join(map(str, here))}",
            fix="give the classifier the same input size: --input-size, or gp.Classifier(..., input_size=...)",
        )
    now = classifier.normalisation
    for name, values in dict(settings.get("normalisation") or {}).items():
        before, after = list(map(float, values)), now[name]
        if len(before) != len(after) or any(abs(a - b) > SAME for a, b in zip(before, after, strict=True)):
            written = ",".join(f"{value:.6g}" for value in before)
            raise OptionError(
                f"this result was made with {name} {written}, and {classifier.name} has "
                + ",".join(f"{value:.6g}" for value in after),
                fix=f"give the classifier the same: --{name} {written}, or gp.Classifier(..., {name}=({written}))",
            )


__all__ = ["check_input", "check_objectives", "is_own"]
