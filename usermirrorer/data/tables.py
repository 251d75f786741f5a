"""Raw files → tables: the log of a domain, cleaned once, with the cut times that every later step keeps to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usermirrorer.data.domains import Domain, RawTables, load_domain
from usermirrorer.data.domains.places import TABLE as PLACES
from usermirrorer.data.log import Log
from usermirrorer.data.store import file_digest, finished_content, open_step, write_parquet
from usermirrorer.errors import StepFailed


FIT_SHARE, TRAIN_SHARE = 0.2, 0.7
"""Shares of the interactions, by global time, before the train window and inside it; the rest is the test window."""


@dataclass(frozen=True)
class Cuts:
    """Times (UTC milliseconds) at which the train and the test window begin."""

    train: int
    test: int


@dataclass(frozen=True)
class Tables:
    """The cleaned log of a domain in memory.

    `users` and `items` hold one row an id (`item_id`, `available_from`, `text`, further fields). Items stand in the
    order in which they come to exist, so those that exist at a time are a prefix. `behaviour` has one row an event,
    aligned with `log`.
    """

    domain: Domain
    users: pl.DataFrame
    items: pl.DataFrame
    log: Log
    behaviour: pl.DataFrame
    impressions: pl.DataFrame | None = None

    def before(self, time: int) -> Tables:
        """The tables as they were at `time`: no event at or after it, no item after the last that was known by then.

        Known is what existed or had an event: some films are rated before their release. A list shown at `time`
        itself stays, without its clicks: it is what a scene of that time is about.
        """
        earlier = self.log.before(time)
        existing = int((self.items["available_from"] <= time).sum())
        items = self.items.head(max(existing, int(earlier.item.max(initial=-1)) + 1))
        log = Log(earlier.user, earlier.item, earlier.time, len(self.users), len(items))
        impressions = self.impressions
        if impressions is not None:
            clicked = pl.when(pl.col("timestamp") < time).then("clicked").otherwise([])
            impressions = impressions.filter(pl.col("timestamp") <= time).with_columns(clicked=clicked)
        return Tables(self.domain, self.users, items, log, self.behaviour.head(len(log)), impressions)


def prepare(name: str, raw: Path | None, work: Path, seed: int = 0) -> dict[str, Any]:
    """Write `work/tables/NAME/{users,items,interactions,…}.parquet`; returns the manifest's content.

    Impressions, friends and item statistics are written where the domain has them.

    Exact duplicate events and events of unknown users or items are dropped and counted. Raises UserError for raw
    files that are missing or malformed, StepFailed where nothing usable is left.
    """
    domain = load_domain(name)
    recipe = {"step": "prepare", "domain": name, "seed": seed, "raw": _digests(domain, raw)}
    with open_step(work / "tables" / name, recipe) as step:
        if step.complete:
            return step.content
        tables = domain.read(raw, seed)
        events, dropped = _clean(tables, domain.clock_ms)
        if not len(events):
            raise StepFailed(f"{name}: no usable interaction in {raw}; dropped: {dropped}")
        cuts = cut_times(events["timestamp"].to_numpy())
        items = _items(tables.items, events, domain.item)
        frames = {"users": tables.users.sort("user_id"), "items": items, "interactions": events}
        times = pl.col("timestamp") // domain.clock_ms * domain.clock_ms
        if tables.impressions is not None:
            frames["impressions"] = tables.impressions.with_columns(times).sort("timestamp", "impression_id")
        if tables.friends is not None:
            frames["friends"] = tables.friends.sort("user_id", "friend_id")
        if tables.item_statistics is not None:
            frames["item_statistics"] = tables.item_statistics.sort("item_id", "timestamp")
        for table, frame in frames.items():
            write_parquet(frame.to_arrow(), step.directory / f"{table}.parquet")
        step.finish(
            rows={table: len(frame) for table, frame in frames.items()},
            dropped=dropped | {"item_never_available": len(tables.items) - len(items)},
            cuts={"train": cuts.train, "test": cuts.test},
            shown=dict(domain.fields),
            licence=domain.licence,
            publisher=domain.publisher,
        )
        return step.content


def cut_times(times: np.ndarray) -> Cuts:
    """Where the windows begin: `FIT_SHARE` and `FIT_SHARE + TRAIN_SHARE` of the interactions lie before them."""
    at = [min(int(len(times) * share), len(times) - 1) for share in (FIT_SHARE, FIT_SHARE + TRAIN_SHARE)]
    return Cuts(train=int(times[at[0]]), test=int(times[at[1]]))


def load_cuts(work: Path, name: str) -> Cuts:
    return Cuts(**finished_content(work / "tables" / name, f"prepare {name} --work {work}")["cuts"])


def load_tables(work: Path, name: str) -> Tables:
    """The tables that `prepare` wrote. Raises UserError where it has not run."""
    directory = work / "tables" / name
    finished_content(directory, f"prepare {name} --work {work}")
    users, items = (pl.read_parquet(directory / f"{table}.parquet") for table in ("users", "items"))
    events = pq.read_table(directory / "interactions.parquet")
    log = Log(
        user=pc.index_in(events["user_id"], value_set=users["user_id"].to_arrow()).to_numpy().astype(np.int32),
        item=pc.index_in(events["item_id"], value_set=items["item_id"].to_arrow()).to_numpy().astype(np.int32),
        time=events["timestamp"].to_numpy(),
        users=len(users),
        items=len(items),
    )
    impressions = directory / "impressions.parquet"
    return Tables(
        domain=load_domain(name),
        users=users,
        items=items,
        log=log,
        behaviour=pl.DataFrame(events.drop_columns(["user_id", "item_id", "timestamp"])),
        impressions=pl.read_parquet(impressions) if impressions.is_file() else None,
    )


def _clean(tables: RawTables, clock_ms: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events in order of (time, user, item), times floored to the clock, and what was dropped, by reason."""
    events = tables.interactions.with_columns(pl.col("timestamp") // clock_ms * clock_ms)
    dropped = {reason: count for reason, count in tables.dropped.items()}
    for reason, keep in {
        "unknown_user": lambda frame: frame.join(tables.users.select("user_id"), on="user_id", how="semi"),
        "unknown_item": lambda frame: frame.join(tables.items.select("item_id"), on="item_id", how="semi"),
        "duplicate_event": lambda frame: frame.unique(
            ["user_id", "item_id", "timestamp"], keep="first", maintain_order=True
        ),
    }.items():
        kept = keep(events)
        dropped[reason] = len(events) - len(kept)
        events = kept
    return events.sort("timestamp", "user_id", "item_id"), dropped


def _items(items: pl.DataFrame, events: pl.DataFrame, template: str) -> pl.DataFrame:
    """Items with `available_from` (release date or first event) and `text`, in the order of coming to exist."""
    first = events.group_by("item_id").agg(pl.col("timestamp").min().alias("_first"))
    released = pl.col("available_from") if "available_from" in items.columns else pl.lit(None, dtype=pl.Int64)
    dated = items.join(first, on="item_id", how="left", maintain_order="left").with_columns(
        available_from=pl.coalesce(released, pl.col("_first")),
        text=pl.Series([template.format_map(row) for row in items.iter_rows(named=True)], dtype=pl.String),
    )
    return dated.drop("_first").filter(pl.col("available_from").is_not_null()).sort("available_from", "item_id")


def _digests(domain: Domain, raw: Path | None) -> dict[str, str]:
    """Digest of every raw file that is there: another file means another result."""
    names = [*domain.raw_files, PLACES] if domain.raw_files else []
    return {name: file_digest(raw / name) for name in names if raw is not None and (raw / name).is_file()}
