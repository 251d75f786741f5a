"""Raw rows that cannot be used are left out, and counted by reason in `dropped`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from usermirrorer.errors import UserError


def drop_unknown(frame: pl.DataFrame, columns: Sequence[str], dropped: dict[str, int], reason: str) -> pl.DataFrame:
    """The rows in which none of `columns` is null."""
    known = frame.drop_nulls(columns)
    dropped[reason] = len(frame) - len(known)
    return known


def keep_first(frame: pl.DataFrame, columns: Sequence[str], dropped: dict[str, int], reason: str) -> pl.DataFrame:
    """The first row with each value of `columns`, in the order of rows."""
    first = frame.unique(columns, keep="first", maintain_order=True)
    dropped[reason] = len(frame) - len(first)
    return first


def users_of(events: pl.DataFrame) -> pl.DataFrame:
    """The users of a log that has no table of them, in the order in which they first occur."""
    return events.select("user_id").unique(maintain_order=True)


def first_reviews(path: Path, chunks: Iterable[pl.DataFrame], dropped: dict[str, int], time: str) -> pl.DataFrame:
    """Each person's first review of an item, in order of `timestamp`; `time` names what the log records, such as day.

    Reviews without an id or a time and repeated ones are counted. Raises UserError for a file without reviews.
    """
    parts = list(chunks)
    if not any(len(part) for part in parts):
        raise UserError(f"{path}: there is no review in this file; download it again")
    reviews = drop_unknown(pl.concat(parts), ["user_id", "item_id"], dropped, "review_without_id")
    reviews = drop_unknown(reviews, ["timestamp"], dropped, f"review_without_{time}")
    reviews = reviews.sort("timestamp", maintain_order=True)
    return keep_first(reviews, ["user_id", "item_id"], dropped, "repeated_review")
