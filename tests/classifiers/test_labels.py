"""Class names: what people type finds the class, or says why not."""

from __future__ import annotations

import pytest

from gen_prior.classifiers.labels import Label, Labels, imagenet
from gen_prior.errors import TargetError, UnknownNameError


def test_the_table_is_whole() -> None:
    labels = imagenet()
    assert len(labels) == 1000
    assert len(set(labels)) == 1000
    assert len({label.wordnet_id for label in labels.entries}) == 1000
    assert [label.index for label in labels.entries] == list(range(1000))


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("goldfish", 1),
        ("n01443537", 1),
        ("Carassius auratus", 1),
        ("golden retriever", 207),
        ("golden_retriever", 207),
        ("Golden-Retriever", 207),
        ("  golden   retriever ", 207),
        ("jack-o'-lantern", 607),
        ("crane bird", 134),
        ("n03126707", 517),
        ("maillot tank suit", 639),
        ("harp", 594),  # also a synonym of harmonica, but a name comes first
        ("missile", 657),
    ],
)
def test_ways_to_write_a_class(typed: str, index: int) -> None:
    assert imagenet().index(typed) == index


def test_every_name_and_wordnet_id_finds_its_class() -> None:
    labels = imagenet()
    for label in labels.entries:
        assert label.wordnet_id is not None
        assert labels.index(label.wordnet_id) == label.index
        if label.name not in ("crane", "maillot"):
            assert labels.index(label.name) == label.index


@pytest.mark.parametrize(
    ("typed", "numbers"), [("crane", (134, 517)), ("maillot", (638, 639)), ("CARDIGAN", (264, 474))]
)
def test_ambiguous_names_list_their_classes(typed: str, numbers: tuple[int, int]) -> None:
    with pytest.raises(TargetError, match="ambiguous") as caught:
        imagenet().index(typed)
    for number in numbers:
        assert f"{number} (" in str(caught.value)
        assert str(imagenet().entries[number].wordnet_id) in str(caught.value)


@pytest.mark.parametrize(("typed", "match"), [("goldfsh", "goldfish"), ("retriver", "retriever"), ("n0144353", "n")])
def test_unknown_names_list_close_matches(typed: str, match: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown class") as caught:
        imagenet().index(typed)
    assert match in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["", "   ", "_"])
def test_nothing_is_no_class(typed: str) -> None:
    with pytest.raises(UnknownNameError):
        Labels([Label(0, "a"), Label(1, "b", "")]).index(typed)


def test_search_finds_parts_synonyms_ids_and_misspellings() -> None:
    labels = imagenet()
    assert 207 in [label.index for label in labels.search("retriever")]
    assert 1 in [label.index for label in labels.search("carassius")]
    assert [label.index for label in labels.search("N01443537")] == [1]
    assert 1 in [label.index for label in labels.search("goldfsh")]
    assert labels.search("crane")[0].name == "crane"
    assert labels.search("zzzzqqqq") == []


def test_plain_names() -> None:
    labels = Labels.plain(["cup", "bee", "cup"])
    assert list(labels) == ["cup", "bee", "cup"]
    assert labels.index("bee") == 1
    with pytest.raises(TargetError, match="0 \\(cup\\), 2 \\(cup\\)"):
        labels.index("cup")


def test_keys_say_the_same_everywhere() -> None:
    assert imagenet().key(1) == "n01443537"
    assert len({imagenet().key(index) for index in range(1000)}) == 1000
    labels = Labels([Label(0, "crane", "n02012849"), Label(1, "crane")])
    assert [labels.key(index) for index in range(2)] == ["n02012849", "crane"]
