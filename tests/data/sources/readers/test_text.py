"""Text expressions against plain Python on the same strings."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.sources.readers.text import first_words, one_line


def select(expression, values: list[str | None]) -> list[str | None]:
    return pl.DataFrame({"text": pl.Series(values, dtype=pl.String)}).select(expression)["text"].to_list()


@given(st.lists(st.none() | st.text(alphabet="ab \t\n…é", max_size=30)), st.integers(1, 5))
def test_words_are_those_of_python(values: list[str | None], count: int) -> None:
    expected = []
    for value in values:
        words = (value or "").split()
        expected.append(" ".join(words[:count]) + (" …" if len(words) > count else "") if words else None)
    assert select(first_words(pl.col("text"), count), values) == expected


def test_one_line() -> None:
    assert select(one_line(pl.col("text")), [" a \r\n b\t", "", "  ", None]) == ["a b", None, None, None]
