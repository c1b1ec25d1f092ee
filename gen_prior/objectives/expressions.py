"""Text -> targets: ranges and patterns (`layer3:0-63`, `blocks.*:3`), signs and sums (`-goldfish`, `a+0.5*b`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from gen_prior.classifiers import as_classifier
from gen_prior.classifiers.base import Classifier
from gen_prior.classifiers.outputs import LOGITS
from gen_prior.errors import TargetError, UnknownNameError
from gen_prior.objectives.features import split_feature
from gen_prior.objectives.mixes import AnyTarget, Mix
from gen_prior.objectives.targets import Target, check_digits, parse_target, unit_count
from gen_prior.objectives.texts import PREFIX

MOST = 1000
"""Most targets that one expression may name."""
FACTOR = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*\*\s*(?=\S)", re.IGNORECASE)
UNITS = re.compile(r"\*|\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*")
POSITION = re.compile(r"(.*?)(@[\w\s,=]*)?", re.DOTALL)
TERM_INSIDE = re.compile(r":[\d\s,*-]*\d\s*(@[\w\s,=]*)?[+-]")
"""A SOURCE with a term in it, as in `sae:FOLDER:3@mean-conv2`: the sign ends the term."""
SIGN_OR_QUOTED = re.compile(r'"[^"]*"|([+-])')


def parse_targets(
    texts: str | int | Target | Mix | Iterable[str | int | Target | Mix], classifier: Classifier | str
) -> list[Target | Mix]:
    """Find all targets that expressions name in `classifier`, in their order.

    Besides what `parse_target` takes, an expression may be

    - a range, `layer3:*`, `layer3:0-63` or `layer3:1,5,9@mean`, or a pattern of layers, `blocks.*:3`, where `*` stands
      for anything but a dot and `**` for anything: one target for each unit;
    - a unit to respond least, `-layer3:7` or `-goldfish`;
    - a text, `text:"a photo of a fox"`, of a model with a text tower; its quotes may be left out;
    - a mix of units with weights, `goldfish+monarch`, `0.7*goldfish-tabby`, `layer3:7-0.5*layer3:9`.

    The exact name of a class is always that class. Text that can be read in two ways is refused.

    Raises:
        TargetError: a unit out of range, a pattern that no layer matches, more than 1000 targets, or two readings.
        UnknownNameError: an unknown class or layer, with close matches.
    """
    classifier = as_classifier(classifier)
    listed = [texts] if isinstance(texts, str | int | Target | Mix) else list(texts)
    return [target for text in listed for target in _expanded(text, classifier)]


def single_target(text: str | int | Target | Mix, classifier: Classifier) -> AnyTarget:
    """Find the one unit or mix that an expression names. Raises as `parse_targets`, and for several targets."""
    found = _expanded(text, classifier)
    if len(found) != 1:
        raise TargetError(
            f"{str(text)!r} names {len(found)} targets, one is needed", fix=f"name one, such as {found[0]}"
        )
    return found[0]


def _expanded(given: str | int | Target | Mix, classifier: Classifier) -> list[AnyTarget]:
    if isinstance(given, Mix):
        return [Mix(tuple((weight, parse_target(target, classifier)) for weight, target in given.terms))]
    text = str(given).strip()
    check_digits(text)
    if isinstance(given, int | Target) or not text or re.fullmatch(r"\d+", text) or _is_exact_name(text, classifier):
        return [parse_target(given, classifier)]
    terms = _terms(text, classifier)
    if len(terms) == 1:
        weight, units = terms[0][0], _units(terms[0][1], classifier)
        return [unit if weight == 1 else Mix(((weight, unit),)) for unit in units]
    parsed = []
    for weight, term in terms:
        units = _units(term, classifier)
        if len(units) != 1:
            raise TargetError(f"{text!r}: a term of a mix is one unit, but {term!r} names {len(units)}")
        parsed.append((weight, units[0]))
    if repeated := [str(unit) for number, (_, unit) in enumerate(parsed) if unit in [u for _, u in parsed[:number]]]:
        raise TargetError(f"{text!r} names {repeated[0]} twice", fix="give it one weight, such as 2*goldfish")
    return [Mix(tuple(parsed))]


def _terms(text: str, classifier: Classifier) -> list[tuple[float, str]]:
    """(weight, term) pairs of an expression. Raises where it has no reading or more than one."""
    found = _readings(text, classifier)
    if len(found) > 1:
        shown = " or as ".join(" and ".join(repr(sign + term) for sign, term in reading) for reading in found[:2])
        raise TargetError(f"{text!r} can be read as {shown}", fix="name classes by number: logits:1+logits:281")
    if not found:
        raise _why_unreadable(text, classifier)
    return [_weighed(sign, term, classifier) for sign, term in found[0]]


def _readings(text: str, classifier: Classifier) -> list[list[tuple[str, str]]]:
    """Every way to cut `text` at its signs into (sign, `[NUMBER*]TERM`) pieces that each name something."""
    cuts = [match.start() for match in SIGN_OR_QUOTED.finditer(text) if match[1]]

    @cache
    def after(start: int, sign: str) -> list[list[tuple[str, str]]]:
        """The readings of `text[start:]`, a term that had `sign` before it and those that follow."""
        found = []
        for end in (*cuts, len(text)):
            piece = text[start:end].strip()
            if end > start and _names_something(piece, classifier):
                rest = [[]] if end == len(text) else after(end + 1, text[end])
                found += [[(sign, piece), *tail] for tail in rest]
        return found

    return after(0, "") + (after(1, text[0]) if text[0] in "+-" else [])


def _names_something(piece: str, classifier: Classifier) -> bool:
    """True if `[NUMBER*]TERM` names a class, or a layer with units. A number alone does not."""
    if _is_exact_name(piece, classifier):
        return True
    piece = FACTOR.sub("", piece, count=1)
    if not piece or piece[0] in "+-" or piece[-1] in "+-":
        return False
    if piece.startswith(PREFIX):
        return re.fullmatch(r'"[^"]*"|[^"]*', piece.removeprefix(PREFIX).strip()) is not None
    layer, colon, units, _ = _parts(piece)
    if TERM_INSIDE.search(split_feature(layer)[2]):
        return False
    if classifier.labels is not None and classifier.labels.knows(units if layer == LOGITS else piece):
        return True
    return bool(colon and UNITS.fullmatch(units) and matching_layers(layer, classifier))


def _weighed(sign: str, term: str, classifier: Classifier) -> tuple[float, str]:
    """The weight of a term, and the term without its factor."""
    factor = None if _is_exact_name(term, classifier) else FACTOR.match(term)
    weight = float(factor[1]) if factor else 1.0
    if not 1e-6 <= weight <= 1e6:
        raise TargetError(f"{term!r}: a weight must lie between 1e-6 and 1e6")
    return -weight if sign == "-" else weight, term[factor.end() :] if factor else term


def _why_unreadable(text: str, classifier: Classifier) -> Exception:
    """The error of an expression that names nothing: that of its first unknown term if others are known."""
    signs = [match.start() for match in SIGN_OR_QUOTED.finditer(text) if match[1]]
    pieces = [
        text[start:end].strip() for start, end in zip([0, *(s + 1 for s in signs)], [*signs, len(text)], strict=True)
    ]
    pieces = [piece for piece in pieces if piece]
    unknown = [piece for piece in pieces if not _names_something(piece, classifier)]
    if unknown and all(piece.isdecimal() for piece in unknown):
        return TargetError(
            f"{text!r}: a number alone cannot have a sign or be summed", fix=f"write logits:{unknown[0]} for the class"
        )
    if not pieces:
        return TargetError(f"{text!r} is a sign without a target", fix="name a class (goldfish) or a unit (LAYER:UNIT)")
    blamed = unknown[0] if 0 < len(unknown) < len(pieces) or len(pieces) == len(unknown) == 1 else text
    try:
        _units(FACTOR.sub("", blamed, count=1), classifier)
    except (TargetError, UnknownNameError) as error:
        return error
    return TargetError(f"{text!r} is no target", fix="name a class (goldfish), a unit (LAYER:UNIT) or a sum of them")


def _units(term: str, classifier: Classifier) -> list[Target]:
    """The units that one term names: one, or all of a range or pattern."""
    layer, colon, units, position = _parts(term)
    is_range = colon and UNITS.fullmatch(units) and not term.startswith(PREFIX)
    if not is_range or _is_exact_name(term, classifier):
        return [parse_target(term, classifier)]
    layers = matching_layers(layer, classifier)
    if not layers and re.search(r"[*?]", layer):
        raise TargetError(
            f"{term!r}: no layer of {classifier.name} matches {layer!r}",
            fix=classifier.how_to_list,
        )
    numbers = [(name, _numbers(units, name, term, classifier)) for name in layers or [layer]]
    count = sum(len(each) for _, each in numbers)
    if count > MOST:
        raise TargetError(
            f"{term!r} names {count} targets, at most {MOST} are allowed", fix="name a range, such as LAYER:0-63"
        )
    return [parse_target(f"{name}:{unit}{position}", classifier) for name, each in numbers for unit in each]


def _parts(term: str) -> tuple[str, str, str, str]:
    """`LAYER:UNITS@POSITION` -> LAYER, ":", UNITS, "@POSITION"; parts that are absent are ""."""
    path, position = POSITION.fullmatch(term).groups()  # type: ignore[union-attr]
    layer, colon, units = (part.strip() for part in path.rpartition(":"))
    return layer, colon, units, position or ""


def matching_layers(pattern: str, classifier: Classifier) -> list[str]:
    """The layer of that name, else all that match the pattern: `*` and `?` stand for no dot, `**` for anything."""
    pattern, kind, source = split_feature(pattern)
    if kind:
        return [f"{name}/{kind}:{source}" for name in matching_layers(pattern, classifier)]
    if pattern in classifier.layers() or not re.search(r"[*?]", pattern):
        return [pattern] if pattern in classifier.layers() else []
    parts = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    regex = "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern))
    layers = classifier.layers() if "#" in pattern else classifier.main_layers()
    return [name for name in layers if re.fullmatch(regex, name)]


def _numbers(units: str, layer: str, term: str, classifier: Classifier) -> list[int]:
    """The numbers of `*`, `3`, `0-63` or `1,5,9`, in their order, each once."""
    if units == "*":
        return list(range(unit_count(layer, classifier)))
    found: list[int] = []
    for part in units.split(","):
        first, _, last = (number.strip() for number in part.partition("-"))
        low, high = int(first), int(last or first)
        if high < low:
            raise TargetError(f"{term!r}: the range {part.strip()} runs backwards", fix=f"write {high}-{low}")
        if high - low < MOST:
            found += range(low, high + 1)
        else:
            raise TargetError(f"{term!r} names {high - low + 1} targets, at most {MOST} are allowed")
    return list(dict.fromkeys(found))


def _is_exact_name(text: str, classifier: Classifier) -> bool:
    return classifier.labels is not None and text in classifier.labels
