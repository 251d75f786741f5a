"""Templates filled column by column, against Python's own formatting row by row."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.sources.templates import field_names, fill, fill_lines, placeholders, required_names


NAMES = st.lists(st.none() | st.text("ab{}<", max_size=4), min_size=1, max_size=6)


@given(NAMES)
def test_rows_are_formatted_as_python_formats_them(names: list[str | None]) -> None:
    stars = np.array([k / 3 if k % 2 else np.nan for k in range(len(names))])
    filled = fill(
        "it is {name}< at {stars:.1f}/5><, {name}>",
        {"name": pl.Series(names, dtype=pl.String), "stars": stars},
        len(names),
    )
    expected = [
        f"it is {'unknown' if name is None else name}"
        + ("" if np.isnan(star) else f" at {star:.1f}/5")
        + ("" if name is None else f", {name}")
        for name, star in zip(names, stars.tolist(), strict=True)
    ]
    assert filled.to_list() == expected


def test_one_value_for_all_rows_and_no_values_at_all() -> None:
    assert fill("{event} {n:,}", {"event": "bought", "n": np.array([1200, 3])}, 2).to_list() == [
        "bought 1,200",
        "bought 3",
    ]
    assert fill("{event}", {"event": "bought"}, 2).to_list() == ["bought", "bought"]
    assert fill("", {}, 2).to_list() == ["", ""]
    assert fill("{x}", {"x": pl.Series([], dtype=pl.String)}, 0).to_list() == []


def test_a_count_brings_its_noun() -> None:
    columns = {"n": pl.Series([1, 0, 2, 1200, None]), "h": np.array([1.0, 0.5, 1.5, np.nan, 1.0])}
    assert fill("{n:,|review|reviews}<, {h:g|hour|hours}>", columns, 5).to_list() == [
        "1 review, 1 hour", "0 reviews, 0.5 hours", "2 reviews, 1.5 hours", "1,200 reviews", "unknown, 1 hour",
    ]  # fmt: skip
    assert fill("{h:,.0f|play|plays}", {"h": np.array([1.0, 2.0])}, 2).to_list() == ["1 play", "2 plays"]
    assert placeholders("{n:,|box|boxes}") == [("n", ",|box|boxes")]


def test_lines_with_unknown_values_are_left_out() -> None:
    columns = {"age": pl.Series([3, None]), "town": pl.Series(["Bern", "Ulm"])}
    assert fill_lines("Age: {age}\nTown: {town}", columns, 2).to_list() == ["Age: 3\nTown: Bern", "Town: Ulm"]
    assert fill_lines("", columns, 2).to_list() == ["", ""]


def test_names_of_fields() -> None:
    assert field_names("<[{new}] >{item}: {price:.2f}") == {"new", "item", "price"}
    assert required_names("<[{new}] >{item}: {price:.2f}") == {"item", "price"}
    assert placeholders("<[{new}] >{item}: {price:.2f}") == [("new", ""), ("item", ""), ("price", ".2f")]
