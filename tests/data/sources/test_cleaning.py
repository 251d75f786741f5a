"""Rows left out of reviews are counted by reason, in the order in which they are left out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from usermirrorer.data.sources.cleaning import first_reviews
from usermirrorer.errors import UserError


def chunk(*rows: tuple[str | None, str | None, int | None, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={
        "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "review": pl.String,
    }, orient="row")  # fmt: skip


def test_each_person_keeps_the_first_review_of_an_item() -> None:
    chunks = [
        chunk(("u", "i", 5, "later"), (None, "i", 1, "nobody"), ("u", None, None, "nothing"), ("u", "j", 3, "other")),
        chunk(("u", "i", 2, "first"), ("v", "i", None, "undated"), ("v", "j", 3, "as written"), ("v", "j", 3, "tie")),
    ]
    dropped: dict[str, int] = {}
    reviews = first_reviews(Path("reviews"), iter(chunks), dropped, "day")
    assert reviews["review"].to_list() == ["first", "other", "as written"]
    assert list(dropped.items()) == [("review_without_id", 2), ("review_without_day", 1), ("repeated_review", 2)]


def test_a_file_without_reviews_is_named() -> None:
    with pytest.raises(UserError, match="reviews.gz: there is no review"):
        first_reviews(Path("reviews.gz"), [], {}, "time")
