"""Raw files → tables: the log of a domain, cleaned once, with the cut times that every later step keeps to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usermirrorer.data.domains import OWN, Domain, RawTables, is_own, load_domain
from usermirrorer.data.domains.places import TABLE as PLACES
from usermirrorer.data.domains.text import one_line
from usermirrorer.data.facts import Friends, ItemFacts
from usermirrorer.data.log import Log
from usermirrorer.data.schema import SEPARATOR, scene_numbers
from usermirrorer.data.store import file_digest, finished_content, open_step, write_bytes, write_parquet
from usermirrorer.data.templates import fill
from usermirrorer.errors import StepFailed


FIT_SHARE, TRAIN_SHARE = 0.2, 0.7
"""Shares of the interactions, by global time, before the train window and inside it; the rest is the test window."""

FIXED_POINT = 2**16
"""Running sums are kept in integers of this fraction, so that a difference does not depend on what lies around it."""


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
    scene_id: np.ndarray
    """uint64 `(events,)`: the id of the scene that each event would make"""
    behaviour: pl.DataFrame
    impressions: pl.DataFrame | None = None
    friends: Friends | None = None
    item_statistics: ItemFacts | None = None
    item_labels: ItemFacts | None = None
    undated: int = 0
    """Events known only to lie before all others: they come first in the log."""

    @cached_property
    def running_sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For behaviour columns whose mean is shown: sums (fixed point) and counts over events item by item."""
        order = self.log.by_item.events
        sums = {}
        for how in self.domain.as_of.values():
            kind, _, column = how.partition(":")
            if kind == "mean":
                values = self.behaviour[column].cast(pl.Float64).fill_nan(None)[order]
                fixed = (values.fill_null(0.0) * FIXED_POINT).round().cast(pl.Int64).to_numpy()
                known = values.is_not_null().cast(pl.Int64).to_numpy()
                sums[column] = (np.append(0, np.cumsum(fixed)), np.append(0, np.cumsum(known)))
        return sums

    def before(self, time: int) -> Tables:
        """The tables as they were at `time`: no event at or after it, no item after the last that was known by then.

        Known is what existed, had an event or stood in a list: some films are rated before their release. A list
        shown at `time` itself stays, without its clicks: it is what a scene of that time is about.
        """
        earlier = self.log.before(time)
        known = max(int((self.items["available_from"] <= time).sum()), int(earlier.item.max(initial=-1)) + 1)
        impressions = self.impressions
        if impressions is not None:
            clicked = pl.when(pl.col("timestamp") < time).then("clicked").otherwise([])
            impressions = impressions.filter(pl.col("timestamp") <= time).with_columns(clicked=clicked)
            listed = self.items["item_id"].is_in(impressions["items"].explode(empty_as_null=False).unique().implode())
            known = max([known, *(listed.arg_true().tail(1) + 1)])
        items = self.items.head(known)
        log = Log(earlier.user, earlier.item, earlier.time, len(self.users), len(items))
        statistics, labels = self.item_statistics, self.item_labels
        return replace(
            self,
            items=items,
            log=log,
            scene_id=self.scene_id[: len(log)],
            behaviour=self.behaviour.head(len(log)),
            impressions=impressions,
            item_statistics=statistics and statistics.take(np.flatnonzero(statistics.time <= time)),
            item_labels=labels and labels.take(np.flatnonzero(labels.time < time)),
            undated=min(self.undated, len(log)),
        )


def prepare(name: str, raw: Path | None, work: Path, seed: int = 0, snapshot: bool = False) -> dict[str, Any]:
    """Write `work/tables/NAME/{users,items,interactions,…}.parquet`; returns the manifest's content.

    `name` is a domain's, or the path of one's own YAML. Impressions, friends, item statistics and item labels are
    written where the domain has them. Exact duplicate events and events of unknown users or items are dropped and
    counted. End-of-crawl values are shown only with `snapshot`. Raises UserError for raw files that are missing or
    malformed, StepFailed where nothing usable is left.
    """
    domain, own = load_domain(name, work), Path(name) if is_own(name) else work / "tables" / name / OWN
    name = domain.name
    recipe: dict[str, Any] = {
        "step": "prepare", "domain": name, "seed": seed, "snapshot": snapshot, "raw": _digests(domain, raw)
    }  # fmt: skip
    if own.is_file():
        recipe["own"] = file_digest(own)
    with open_step(work / "tables" / name, recipe) as step:
        if step.complete:
            return step.content
        if own.is_file():
            write_bytes(step.directory / OWN, own.read_bytes())
        tables = domain.read(raw, seed)
        if not snapshot:
            tables = _without_snapshots(tables, domain)
        frames, dropped, undated = _frames(tables, domain)
        events = frames["interactions"]
        if not len(events):
            raise StepFailed(f"{name}: no usable interaction in {raw}; dropped: {dropped}")
        cuts = cut_times(events["timestamp"].to_numpy()[undated:])
        for table, frame in frames.items():
            write_parquet(frame.to_arrow(), step.directory / f"{table}.parquet")
        hidden = [field for field, kind in domain.fields.items() if kind == "snapshot" and not snapshot]
        step.finish(
            rows={table: len(frame) for table, frame in frames.items()},
            dropped=dropped | {"item_never_available": len(tables.items) - len(frames["items"])},
            undated=undated,
            cuts={"train": cuts.train, "test": cuts.test},
            shown={field: kind for field, kind in domain.fields.items() if field not in hidden},
            hidden=hidden,
            licence=domain.licence,
            publisher=domain.publisher,
        )
        return step.content


def _frames(tables: RawTables, domain: Domain) -> tuple[dict[str, pl.DataFrame], dict[str, int], int]:
    """The tables as they are written, what was dropped by reason, and how many events are undated."""
    tick = domain.clock_ms
    times = pl.col("timestamp") // tick * tick
    events, dropped = _clean(tables, tick)
    undated = int(events["_undated"].sum())
    frames = {
        "users": _one_line(tables.users.sort("user_id")),
        "items": _items(_one_line(tables.items), events, domain.item),
        "interactions": _with_scene_ids(_one_line(events.drop("_undated")), domain.name),
    }
    if tables.impressions is not None:
        clicked = tables.impressions.with_columns(times, item_id=pl.col("clicked").list.first())
        clicked = _with_scene_ids(clicked.sort("timestamp", "impression_id"), domain.name)
        frames["impressions"] = clicked.drop("item_id")
    if tables.friends is not None:
        frames["friends"] = tables.friends.sort("user_id", "friend_id")
    if tables.item_statistics is not None:
        frames["item_statistics"] = tables.item_statistics.sort("item_id", "timestamp")
    if tables.item_labels is not None:
        frames["item_labels"] = tables.item_labels.with_columns(times).sort("item_id", "timestamp", "label")
    return frames, dropped, undated


def cut_times(times: np.ndarray) -> Cuts:
    """Where the windows begin: `FIT_SHARE` and `FIT_SHARE + TRAIN_SHARE` of the interactions lie before them."""
    at = [min(int(len(times) * share), len(times) - 1) for share in (FIT_SHARE, FIT_SHARE + TRAIN_SHARE)]
    return Cuts(train=int(times[at[0]]), test=int(times[at[1]]))


def load_cuts(work: Path, name: str) -> Cuts:
    return Cuts(**finished_content(work / "tables" / name, f"prepare {name} --work {work}")["cuts"])


def load_tables(work: Path, name: str) -> Tables:
    """The tables that `prepare` wrote. Raises UserError where it has not run."""
    directory = work / "tables" / name
    content = finished_content(directory, f"prepare {name} --work {work}")
    users, items = (pl.read_parquet(directory / f"{table}.parquet") for table in ("users", "items"))
    events = pq.read_table(directory / "interactions.parquet", read_dictionary=["user_id", "item_id"])
    log = Log(
        user=_rows_of(events["user_id"], users["user_id"]),
        item=_rows_of(events["item_id"], items["item_id"]),
        time=events["timestamp"].to_numpy(),
        users=len(users),
        items=len(items),
    )
    optional = {
        table: pl.read_parquet(path)
        for table in ("impressions", "friends", "item_statistics", "item_labels")
        if (path := directory / f"{table}.parquet").is_file()
    }
    friends, statistics, labels = (optional.get(name) for name in ("friends", "item_statistics", "item_labels"))
    return Tables(
        domain=load_domain(name, work),
        users=users,
        items=items,
        log=log,
        scene_id=events["scene_id"].to_numpy(),
        behaviour=_small(pl.DataFrame(events.drop_columns(["user_id", "item_id", "timestamp", "scene_id"]))),
        impressions=optional.get("impressions"),
        friends=Friends.of(friends, users["user_id"]) if friends is not None else None,
        item_statistics=ItemFacts.of(statistics, items["item_id"]) if statistics is not None else None,
        item_labels=ItemFacts.of(labels, items["item_id"]) if labels is not None else None,
        undated=content["undated"],
    )


def _small(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with whole numbers in as few bytes as they need."""
    return frame.with_columns(column.shrink_dtype() for column in frame if column.dtype.is_integer())


def row_of(ids: pa.Array, known: pl.Series) -> np.ndarray:
    """Row of each id in a table: int64 `(ids,)`."""
    return pc.index_in(ids, value_set=known.to_arrow().cast(ids.type)).to_numpy(zero_copy_only=False).astype(np.int64)


def _rows_of(ids: pa.ChunkedArray, known: pl.Series) -> np.ndarray:
    """Row of each dictionary-encoded id in a table: int32 `(ids,)`. Each id is looked up once."""
    whole = ids.unify_dictionaries()
    if not whole.num_chunks:
        return np.zeros(0, dtype=np.int32)
    rows = row_of(whole.chunk(0).dictionary, known).astype(np.int32)
    return np.concatenate([rows[chunk.indices.to_numpy()] for chunk in whole.chunks])


def _clean(tables: RawTables, clock_ms: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events in order of (time, user, item), times floored to the clock, and what was dropped, by reason."""
    events = _dated(tables.interactions, clock_ms)
    dropped = {reason: count for reason, count in tables.dropped.items()}
    for reason, known in (("unknown_user", tables.users.select("user_id")), ("unknown_item", tables.items)):
        kept = events.join(known, on=f"{reason.removeprefix('unknown_')}_id", how="semi", maintain_order="left")
        dropped[reason] = len(events) - len(kept)
        events = kept
    # The first of equal events stays: the order of rows is kept within them.
    event = ["timestamp", "user_id", "item_id"]
    events = events.sort(event, maintain_order=True)
    kept = events.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in event))
    return kept, dropped | {"duplicate_event": len(events) - len(kept)}


def _dated(events: pl.DataFrame, clock_ms: int) -> pl.DataFrame:
    """Times floored to the clock; undated events one tick apart before the first dated one, in the order of rows."""
    undated = pl.col("timestamp").is_null()
    events = events.with_columns(_undated=undated)
    first = events["timestamp"].min()
    if events["_undated"].any():
        left = pl.int_range(pl.len(), 0, -1).over("user_id")
        early = events.filter(undated).with_columns(timestamp=pl.lit(first, dtype=pl.Int64) - left * clock_ms)
        events = pl.concat([early, events.filter(~undated)])
    return events.with_columns(pl.col("timestamp") // clock_ms * clock_ms)


def _without_snapshots(tables: RawTables, domain: Domain) -> RawTables:
    """The tables with end-of-crawl values emptied."""
    hidden = [name for name, kind in domain.fields.items() if kind == "snapshot"]
    users, items, interactions = (
        frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name) for name in hidden if name in frame)
        for frame in (tables.users, tables.items, tables.interactions)
    )
    return replace(tables, users=users, items=items, interactions=interactions)


def _with_scene_ids(events: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """Events with the id, as a number, of the scene that each would make."""
    impression = pl.col("impression_id") if "impression_id" in events.columns else pl.lit("")
    parts = [
        pl.lit(dataset),
        "user_id",
        pl.col("item_id").fill_null(""),
        pl.col("timestamp").cast(pl.String),
        impression,
    ]
    names = events.select(pl.concat_str(parts, separator=SEPARATOR).cast(pl.Binary)).to_series()
    return events.with_columns(scene_id=pl.Series(scene_numbers(names.to_list()), dtype=pl.UInt64))


def _one_line(frame: pl.DataFrame) -> pl.DataFrame:
    """All texts but ids with white space collapsed: an entry is a line."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String and not name.endswith("_id")]
    return frame.with_columns(one_line(pl.col(name)).alias(name) for name in texts)


def _items(items: pl.DataFrame, events: pl.DataFrame, template: str) -> pl.DataFrame:
    """Items with `available_from` (release date or first event) and `text`, in the order of coming to exist."""
    first = events.group_by("item_id").agg(pl.col("timestamp").min().alias("_first"))
    released = pl.col("available_from") if "available_from" in items.columns else pl.lit(None, dtype=pl.Int64)
    dated = items.join(first, on="item_id", how="left", maintain_order="left").with_columns(
        # Nobody can have been shown an item before its first event: without a date it exists from then on, not at it.
        available_from=pl.coalesce(released, pl.col("_first") + 1),
        text=fill(template, items.to_dict(), len(items)),
    )
    return dated.drop("_first").filter(pl.col("available_from").is_not_null()).sort("available_from", "item_id")


def _digests(domain: Domain, raw: Path | None) -> dict[str, str]:
    """Digest of every raw file that is there: another file means another result."""
    if raw is None or not domain.raw_files:
        return {}
    names = {name: raw / name for name in (*domain.raw_files, PLACES) if "*" not in name}
    for pattern in domain.raw_files.keys() - names.keys():
        names |= {str(path.relative_to(raw)): path for path in raw.glob(pattern)}
    return {name: file_digest(path) for name, path in sorted(names.items()) if path.is_file()}
