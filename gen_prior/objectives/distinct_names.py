"""Names of targets that differ: latents of two dictionaries of one layer get the names of their dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from gen_prior.objectives.features import Feature, split_feature
from gen_prior.objectives.mixes import Mix
from gen_prior.objectives.targets import Target
from gen_prior.objectives.texts import PREFIX

Named = TypeVar("Named")


def with_distinct_names(targets: Sequence[Named]) -> list[Named]:
    """The same targets, where features of the same layer, kind and number but of another source have it in their name.

    `blocks.6/sae:12` of `runs/a` and of `runs/b` become `blocks.6/sae:a:12` and `blocks.6/sae:b:12`: the source's
    last parts, as many as tell them apart. What is no `Target` or `Mix` stays as it is.
    """
    sources: dict[tuple[str, str], dict[str, None]] = {}
    for target in targets:
        for _, unit in target.terms if isinstance(target, Target | Mix) else ():
            if unit.feature is not None:
                layer, kind, source = _parts(unit.feature)
                sources.setdefault((layer, kind), {})[source] = None
    short = {key: _tails(list(found)) for key, found in sources.items()}

    def renamed(feature: Feature) -> Feature:
        layer, kind, source = _parts(feature)
        tail = short[layer, kind][source]
        return replace(feature, name=f"{layer}/{kind}:{tail}:{feature.written.rpartition(':')[2]}") if tail else feature

    return [_with_features(target, renamed) for target in targets]


def _with_features(target: Named, change: Callable[[Feature], Feature]) -> Named:
    if isinstance(target, Mix):
        return replace(target, terms=tuple((weight, _with_features(unit, change)) for weight, unit in target.terms))
    if isinstance(target, Target) and target.feature is not None:
        return replace(target, feature=change(target.feature))
    return target


def _parts(feature: Feature) -> tuple[str, str, str]:
    """LAYER, KIND and SOURCE of a feature; "" thrice for a text, which has none."""
    if feature.written.startswith(PREFIX):
        return "", "", ""
    return split_feature(feature.written.rpartition(":")[0])


def _tails(sources: list[str]) -> dict[str, str]:
    """{source: its last parts, as many as tell the sources apart}; "" for a single source."""
    if len(sources) < 2:
        return dict.fromkeys(sources, "")
    parts = {source: PurePosixPath(source).parts for source in sources}
    for length in range(1, max(map(len, parts.values())) + 1):
        tails = {source: "/".join(each[-length:]) for source, each in parts.items()}
        if len(set(tails.values())) == len(sources):
            return tails
    return dict(zip(sources, sources, strict=True))
