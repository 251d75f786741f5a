"""Tables beside the log: dated records about items, and friendships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from usermirrorer.data.log.events import ragged_ranges


@dataclass(frozen=True)
class ItemRecords:
    """Dated records about items, ordered by (item, time): daily statistics, or labels that people gave them."""

    item: np.ndarray
    """int64 `(rows,)`"""
    time: np.ndarray
    """int64 `(rows,)`, UTC milliseconds"""
    columns: Mapping[str, pl.Series]

    @staticmethod
    def of(frame: pl.DataFrame, item_ids: pl.Series) -> ItemRecords:
        """From a table with `item_id` and `timestamp`; rows about unknown items are ignored."""
        known = pl.DataFrame({"item_id": item_ids}).with_row_index("_item")
        frame = frame.join(known, on="item_id", how="inner", maintain_order="left").sort(
            "_item", "timestamp", maintain_order=True
        )
        columns = {name: frame[name] for name in frame.columns if name not in ("_item", "item_id", "timestamp")}
        return ItemRecords(frame["_item"].cast(pl.Int64).to_numpy(), frame["timestamp"].to_numpy(), columns)

    def span(self, item: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each item's rows before each time, as first row and end (exclusive): `(queries,)` both."""
        # (item, time) as one sortable number; times count from the earliest.
        origin = int(self.time.min(initial=0))
        ticks = int(self.time.max(initial=origin)) - origin + 2
        keys = self.item * ticks + (self.time - origin)
        begin = np.searchsorted(keys, item.astype(np.int64) * ticks)
        until = np.searchsorted(keys, item.astype(np.int64) * ticks + np.clip(time - origin, 0, ticks - 1))
        return begin, until

    def latest(self, column: str, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The latest value at or before each time, NaN before the first: float64 `(queries,)`."""
        begin, until = self.span(item, time + 1)
        values = self.columns[column].cast(pl.Float64).to_numpy()
        found = until > begin
        latest = np.full(len(item), np.nan)
        latest[found] = values[until[found] - 1]
        return latest

    def most_frequent(self, column: str, count: int, item: np.ndarray, time: np.ndarray) -> pl.Series:
        """The `count` most frequent texts before each time, joined by ", "; ties alphabetical: `(queries,)`."""
        begin, until = self.span(item, time)
        spans, query = np.unique(np.stack([begin, until]), axis=1, return_inverse=True)
        row, index = ragged_ranges(spans[0], spans[1] - spans[0])
        labels = pl.DataFrame({"span": row, "label": self.columns[column][index]})
        ranked = labels.group_by("span", "label").len().sort(["span", "len", "label"], descending=[False, True, False])
        top = ranked.group_by("span", maintain_order=True).agg(pl.col("label").head(count))
        joined = top.select("span", pl.col("label").list.join(", "))
        wanted = pl.DataFrame({"span": query.ravel()}).with_columns(pl.col("span").cast(pl.Int64))
        return wanted.join(joined, on="span", how="left", maintain_order="left")["label"]


@dataclass(frozen=True)
class Friends:
    """Each user's friends."""

    start: np.ndarray
    """int64 `(users + 1,)`: where each user's friends begin"""
    friend: np.ndarray
    """int64 `(friendships,)`"""

    @staticmethod
    def of(frame: pl.DataFrame, user_ids: pl.Series) -> Friends:
        """From a table of (user_id, friend_id); people missing from the users table are ignored."""
        number = {name: pl.DataFrame({name: user_ids}).with_row_index(f"_{name}") for name in ("user_id", "friend_id")}
        known = frame.unique(["user_id", "friend_id"]).join(number["user_id"], on="user_id")
        known = known.join(number["friend_id"], on="friend_id").sort("_user_id", "_friend_id")
        start = np.zeros(len(user_ids) + 1, dtype=np.int64)
        np.cumsum(np.bincount(known["_user_id"].to_numpy(), minlength=len(user_ids)), out=start[1:])
        return Friends(start, known["_friend_id"].cast(pl.Int64).to_numpy())

    def of_users(self, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All friends of the given users, flattened: the query's row and the friend, `(sum of friends,)` both."""
        row, index = ragged_ranges(self.start[user], np.diff(self.start)[user])
        return row, self.friend[index]
