"""Findings read the same wherever they are shown, and say what can be known."""

from __future__ import annotations

import pytest

from usermirrorer.wording import describe_exposure, describe_probe, format_bytes, format_estimate


def estimate(value: float, low: float | None = None, high: float | None = None) -> dict[str, float | int | None]:
    return {"value": value, "low": low, "high": high, "n": 100}


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (estimate(0.5124, 0.4801, 0.5439), False, "0.512 [0.480, 0.544]"),
        (estimate(0.01, -0.012, 0.022), True, "+0.010 [-0.012, +0.022]"),
        (estimate(0.25), False, "0.250"),
        (None, False, "–"),
    ],
)
def test_an_estimate_has_its_interval_if_there_is_one(value: dict | None, signed: bool, text: str) -> None:
    assert format_estimate(value, signed) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
        (269_060_552, "269.1 MB"), (6_200_000_000, "6.2 GB"), (1_234_567_000_000, "1,234.6 GB"),
    ],
)  # fmt: skip
def test_sizes_are_in_powers_of_a_thousand(size: int, text: str) -> None:
    assert format_bytes(size) == text


def test_the_probe_says_whether_it_is_measured_or_follows() -> None:
    measured = {"accuracy": estimate(0.234, 0.207, 0.262), "classifier": "trees", "exact": False, "chance": 0.2}
    assert describe_probe(measured) == "0.234 [0.207, 0.262] (boosted trees), chance 0.200"
    shared = {**measured, "accuracy": estimate(0.2), "exact": True, "time_aware": estimate(0.22, 0.195, 0.247)}
    assert describe_probe(shared) == (
        "0.200 exactly, as people share lists; 0.220 [0.195, 0.247] knowing when each chose; chance 0.200"
    )
    few = {**shared, "time_aware": estimate(0.22)}
    assert "; 0.220 knowing" in describe_probe(few)


def scenes(exposure: str, alike: str = "", **content: object) -> dict[str, object]:
    recipe = {"exposure": exposure, "max_exposure": 5, "alike": alike}
    return {"recipe": recipe, "counts": {}, "lengths": {"2": 4, "5": 1_000}, **content}


def test_groups_are_counted_with_their_spans_and_what_is_left_over() -> None:
    groups = {"number": 1_204, "span_days": {"10 %": 0.0, "50 %": 0.917, "longest": 12.0}}
    counts = {"searched": 6_100, "left_over": 80, "beyond_num": 0}
    for exposure, alike in (("matched", ""), ("hard", "popularity")):
        meaning, number, left, lengths = describe_exposure(scenes(exposure, alike, groups=groups, counts=counts))
        assert "every item is the choice of exactly one" in meaning and alike in meaning
        assert number.startswith("1,204 groups; ") and number.endswith(": 10 %: 0, 50 %: 0.917, longest: 12.")
        assert left == "Left over without a group: 80 of 6,100 choices searched."
        assert lengths == "Scenes by number of options: 4 with 2, 1,000 with 5."


def test_lists_that_stand_alone_say_what_they_are() -> None:
    meaning, lengths = describe_exposure(scenes("logged"))
    assert "more than 5 items keeps the click and 4 of the others" in meaning and lengths.startswith("Scenes by")
    meaning, _ = describe_exposure(scenes("published"))
    assert "for comparison only" in meaning and "gives the choice away" in meaning and "knows the future" in meaning
