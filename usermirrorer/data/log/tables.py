"""The cleaned log of a domain in memory, and the cut times that every step uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.store import finished_content
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import Friends, ItemRecords
from usermirrorer.data.sources import Domain, load_domain


FIXED_POINT = 2**16
"""Running sums are integers in units of 1 / FIXED_POINT, so a sum over some events depends on those events only."""


@dataclass(frozen=True)
class Cuts:
    """Times (UTC milliseconds) at which the train and the test window begin."""

    train: int
    test: int


@dataclass(frozen=True)
class Tables:
    """The cleaned log of a domain in memory.

    `users` and `items` have one row per id (items: `item_id`, `available_from`, `dated`, `text` and further fields).
    Items are sorted by `available_from`, so later ones change no row number. `event_columns`, such as ratings, has
    one row per event, aligned with `log`.
    """

    domain: Domain
    users: pl.DataFrame
    items: pl.DataFrame
    log: Log
    scene_id: np.ndarray
    """uint64 `(events,)`: the id of the scene that each event would make"""
    event_columns: pl.DataFrame
    impressions: pl.DataFrame | None = None
    friends: Friends | None = None
    item_statistics: ItemRecords | None = None
    item_labels: ItemRecords | None = None
    undated: int = 0
    """Events known only to precede all others; they come first in the log."""

    def with_new_items(self, items: pl.DataFrame) -> Tables:
        """The same log over a catalogue with further items, in the last rows, for rendering them.

        `items` has `item_id`, `available_from`, `dated` and `text`; other columns and the order by `available_from`
        are lost.
        """
        names = ["item_id", "available_from", "dated", "text"]
        extended = pl.concat([self.items.select(names), items.select(names)], how="vertical_relaxed")
        return replace(self, items=extended, log=self.log.with_new_items(len(items)))

    @cached_property
    def available_from(self) -> np.ndarray:
        """When each item came to exist, ascending: int64 `(items,)`."""
        return self.items["available_from"].to_numpy()

    @cached_property
    def released(self) -> np.ndarray:
        """The known release time of each item, the earliest possible time if none is known: int64 `(items,)`."""
        return np.where(self.items["dated"].to_numpy(), self.available_from, np.iinfo(np.int64).min)

    @cached_property
    def running_sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For event columns whose mean is shown: running sums (fixed point) and counts over events, item by item."""
        order = self.log.by_item.events
        sums = {}
        for how in self.domain.as_of.values():
            kind, _, column = how.partition(":")
            if kind == "mean":
                values = self.event_columns[column].cast(pl.Float64).fill_nan(None)[order]
                fixed = (values.fill_null(0.0) * FIXED_POINT).round().cast(pl.Int64).to_numpy()
                known = values.is_not_null().cast(pl.Int64).to_numpy()
                sums[column] = (np.append(0, np.cumsum(fixed)), np.append(0, np.cumsum(known)))
        return sums


def load_cuts(work: Path, name: str) -> Cuts:
    """The cut times that `prepare` fixed. Raises UserError if it has not run."""
    return Cuts(**finished_content(work / "tables" / name, f"prepare {name} --work {work}")["cuts"])


def load_tables(work: Path, name: str) -> Tables:
    """The tables that `prepare` wrote. Raises UserError if it has not run."""
    directory = work / "tables" / name
    content = finished_content(directory, f"prepare {name} --work {work}")
    return read_tables(directory, load_domain(name, work), content["undated"])


def read_tables(directory: Path, domain: Domain, undated: int) -> Tables:
    """The tables in a directory; the first `undated` events have no recorded time."""
    users, items = (pl.read_parquet(directory / f"{table}.parquet") for table in ("users", "items"))
    events = pq.read_table(directory / "interactions.parquet", read_dictionary=["user_id", "item_id"])
    log = Log(
        user=_encoded_rows(events["user_id"], users["user_id"]),
        item=_encoded_rows(events["item_id"], items["item_id"]),
        time=events["timestamp"].to_numpy(),
        users=len(users),
        items=len(items),
    )
    impressions, friends, statistics, labels = (
        pl.read_parquet(path) if (path := directory / f"{table}.parquet").is_file() else None
        for table in ("impressions", "friends", "item_statistics", "item_labels")
    )
    return Tables(
        domain=domain,
        users=users,
        items=items,
        log=log,
        scene_id=events["scene_id"].to_numpy(),
        event_columns=_shrunk(pl.DataFrame(events.drop_columns(["user_id", "item_id", "timestamp", "scene_id"]))),
        impressions=impressions,
        friends=Friends.of(friends, users["user_id"]) if friends is not None else None,
        item_statistics=ItemRecords.of(statistics, items["item_id"]) if statistics is not None else None,
        item_labels=ItemRecords.of(labels, items["item_id"]) if labels is not None else None,
        undated=undated,
    )


def _shrunk(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with integers in the smallest type that holds them."""
    return frame.with_columns(column.shrink_dtype() for column in frame if column.dtype.is_integer())


def rows_of(ids: pa.Array, known: pl.Series) -> np.ndarray:
    """Row of each id in a table: int64 `(ids,)`."""
    return pc.index_in(ids, value_set=known.to_arrow().cast(ids.type)).to_numpy(zero_copy_only=False).astype(np.int64)


def _encoded_rows(ids: pa.ChunkedArray, known: pl.Series) -> np.ndarray:
    """Row of each dictionary-encoded id in a table: int32 `(ids,)`. Each id is looked up once."""
    whole = ids.unify_dictionaries()
    if not whole.num_chunks:
        return np.zeros(0, dtype=np.int32)
    rows = rows_of(whole.chunk(0).dictionary, known).astype(np.int32)
    return np.concatenate([rows[chunk.indices.to_numpy()] for chunk in whole.chunks])
