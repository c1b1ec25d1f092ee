"""Class name, synonym or WordNet id, as people type them -> class number, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from unicodedata import normalize

from gen_prior.errors import OptionError, TargetError, UnknownNameError, close_matches


@dataclass(frozen=True)
class Label:
    """A class: its number, name, WordNet id and synonyms."""

    index: int
    name: str
    wordnet_id: str | None = None
    synonyms: tuple[str, ...] = ()


class Labels(Sequence[str]):
    """The class names of a classifier; `labels[1]` is the name of class 1."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self.entries = tuple(labels)
        self._exact: dict[str, list[int]] = {}
        self._names: dict[str, list[int]] = {}
        self._synonyms: dict[str, list[int]] = {}
        for label in self.entries:
            self._exact.setdefault(normalize("NFC", label.name), []).append(label.index)
            for key in dict.fromkeys((_fold(label.name), _fold(label.wordnet_id or ""))):
                self._names.setdefault(key, []).append(label.index)
            for key in dict.fromkeys(map(_fold, label.synonyms)):
                self._synonyms.setdefault(key, []).append(label.index)

    @classmethod
    def plain(cls, names: Sequence[str] | Mapping[int, str]) -> Labels:
        """Labels from names alone, in order or as `{number: name}`.

        Raises `OptionError` for numbers with gaps, and for anything else than names.
        """
        try:
            if isinstance(names, str):
                raise TypeError("one text")
            numbered = {int(number): name for number, name in names.items()} if isinstance(names, Mapping) else {}
            names = names if isinstance(names, Mapping) else list(names)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"labels are names in order, or {{number: name}}, got {names!r}", fix='labels=["cat", "dog"], say'
            ) from error
        if isinstance(names, Mapping):
            if sorted(numbered) != list(range(len(numbered))):
                raise OptionError(f"labels by number must be numbered from 0 without gaps, got {sorted(numbered)}")
            names = [numbered[number] for number in range(len(numbered))]
        return cls([Label(index, str(name)) for index, name in enumerate(names)])

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and normalize("NFC", value) in self._exact

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.entries[index].name

    def key(self, index: int) -> str:
        """WordNet id of class `index`, else its name: the same for all classifiers."""
        return self.entries[index].wordnet_id or self.entries[index].name

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Number of the class whose name or WordNet id, else a synonym, is `value`; case, `_` and `-` do not matter,
        but for names that differ in nothing else. The one name that is `value` exactly wins over those of another case.

        A name that starts another class's name and is its synonym is ambiguous ("crane": a machine, or the crane
        bird). Raises `TargetError` for an ambiguous name, `UnknownNameError` for an unknown one.
        """
        key = _fold(value)
        names, synonyms = self._names.get(key, []) if key else [], self._synonyms.get(key, [])
        longer = [number for number in synonyms if _fold(self[number]).startswith(f"{key} ")]
        exact = [number for number in names if self[number].lower() == value.lower()]
        one = self._exact.get(normalize("NFC", value), [])
        exact = one if len(one) == 1 else exact
        found = sorted({*(exact or names), *longer}) if names else synonyms
        if not found:
            raise self.unknown(value, f"gen-prior labels {value!r}")
        if len(found) > 1:
            listed = ", ".join(self._describe(number) for number in found)
            raise TargetError(f"class {value!r} is ambiguous: {listed}", fix="name one by its number or WordNet id")
        return found[0]

    def unknown(self, value: str, search: str) -> UnknownNameError:
        """The error for a name that no class has; `search` is the command or call that searches the names."""
        known = [name for label in self.entries for name in (label.name, *label.synonyms)]
        return UnknownNameError("class", value, known, fix=f"search the names: {search}")

    def knows(self, value: str) -> bool:
        """True if `value` is the name, WordNet id or a synonym of one or more classes."""
        key = _fold(value)
        return bool(key) and (key in self._names or key in self._synonyms)

    def _describe(self, number: int) -> str:
        label = self.entries[number]
        return f"{number} ({label.name}{', ' + label.wordnet_id if label.wordnet_id else ''})"

    def search(self, query: str, limit: int = 50) -> list[Label]:
        """At most `limit` classes with `query` in a name or as WordNet id, else those spelled like it."""
        key = _fold(query)
        inside = [
            label
            for label in self.entries
            if key in _fold(label.name) or key == label.wordnet_id or any(key in _fold(s) for s in label.synonyms)
        ]
        if inside:
            return sorted(inside, key=lambda label: (_fold(label.name) != key, label.index))[:limit]
        names = {_fold(label.name): label for label in self.entries}
        return [names[match] for match in close_matches(key, names, limit)]


def _fold(name: str) -> str:
    return " ".join(normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())


@cache
def imagenet() -> Labels:
    """The 1000 classes of ImageNet-1k (ILSVRC 2012)."""
    text = resources.files("gen_prior.classifiers").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    labels = []
    for index, line in enumerate(text.splitlines()):
        wordnet_id, name, *synonyms = line.split("\t")
        labels.append(Label(index, name, wordnet_id, tuple(synonyms)))
    return Labels(labels)
