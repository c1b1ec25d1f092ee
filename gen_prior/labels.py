"""Class names: number, WordNet id, name and synonyms of each class, looked up as people type them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from gen_prior.errors import TargetError, UnknownNameError, close_matches


@dataclass(frozen=True)
class Label:
    """One class."""

    index: int
    name: str
    wordnet_id: str | None = None
    synonyms: tuple[str, ...] = ()


class Labels(Sequence[str]):
    """The class names of a classifier in order; `labels[1]` is the name of class 1."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self.entries = tuple(labels)
        self._exact: dict[str, list[int]] = {}
        for label in self.entries:
            for key in {_fold(label.name), _fold(label.wordnet_id or "")}:
                if key:
                    self._exact.setdefault(key, []).append(label.index)
        self._synonyms: dict[str, list[int]] = {}
        for label in self.entries:
            for synonym in label.synonyms:
                self._synonyms.setdefault(_fold(synonym), []).append(label.index)

    @classmethod
    def plain(cls, names: Sequence[str]) -> Labels:
        """Labels from bare names."""
        return cls([Label(index, name) for index, name in enumerate(names)])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.entries[index].name

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Number of the class called `value`: its name or WordNet id first, then a synonym.

        Raises `TargetError` where the name is ambiguous, `UnknownNameError` where it is unknown.
        """
        key = _fold(value)
        found = self._exact.get(key) or sorted(set(self._synonyms.get(key, [])))
        if not found:
            names = [label.name for label in self.entries] + list(self._synonyms)
            raise UnknownNameError("class", value, names, fix=f"search the names: gen-prior labels {value!r}")
        if len(found) > 1:
            listed = ", ".join(f"{number} ({self[number]}, {self.entries[number].wordnet_id})" for number in found)
            raise TargetError(f"class {value!r} is ambiguous: {listed}", fix="name one by its number or WordNet id")
        return found[0]

    def search(self, query: str, limit: int = 50) -> list[Label]:
        """Classes whose name, synonyms or WordNet id contain `query`, then those spelled like it."""
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
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


@cache
def imagenet() -> Labels:
    """The 1000 classes of ImageNet-1k (ILSVRC 2012), from the one table that ships with the package."""
    text = resources.files("gen_prior").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
    labels = []
    for index, line in enumerate(text.splitlines()):
        wordnet_id, name, *synonyms = line.split("\t")
        labels.append(Label(index, name, wordnet_id, tuple(synonyms)))
    return Labels(labels)
