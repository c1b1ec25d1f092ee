"""Words of messages: counts, settings that differ, and short numbers."""

from __future__ import annotations

import pytest

from gen_prior.util.words import changed_settings, counted, few, others, percent, short


def test_counts() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert counted(2, "search") == "2 searches"


def test_others_follow_the_number_of_the_noun() -> None:
    assert others(["targets"]) == "other targets"
    assert others(["unit_recipe", "seeds"]) == "another unit recipe, other seeds"
    assert others(["method_names"]) == "other methods"
    assert others(["photograph_sha256"]) == "another photograph"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"), (-0.0, "0.00"), (1234.4, "1234"), (-12.34, "-12.3"), (1.234, "1.23"), (0.999, "1.00"),
        (0.5, "0.50"), (0.0123, "0.012"), (-0.00123, "-0.0012"), (9.999, "10.0"), (2.5e7, "2.5e+07"),
    ],
)  # fmt: skip
def test_short_numbers_keep_two_or_three_digits(value: float, text: str) -> None:
    assert short(value) == text


def test_shares_keep_two_digits() -> None:
    shares = (0, 0.00001, 0.0028, 0.043, 0.41, 0.997, 0.9999, 1, 1.05, -0.2)
    words = ["0%", "<0.01%", "0.28%", "4.3%", "41%", "99.7%", ">99.9%", "100%", "105%", "-20%"]
    assert [percent(share) for share in shares] == words


def test_changed_settings_are_named_within_a_group() -> None:
    before = {"recipe": {"steps": 4, "rate": 1}, "unit_recipe": {"steps": 4}, "start": {"a": 1}, "seed": 0}
    now = {"recipe": {"steps": 5, "rate": 1}, "unit_recipe": {"steps": 5}, "start": None, "seed": 0, "new": 1}
    assert changed_settings(before, now) == ["steps", "start", "new"]
    assert changed_settings(before, before) == []
