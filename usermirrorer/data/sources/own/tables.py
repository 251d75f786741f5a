"""A log in tables of your own: one of events, and if there are any, one of items and one of users.

Without a table of items, or of users, what is shown of them is taken from the events: each column's first known value
in order of time, which holds nothing from later. An event without its user or its item is left out and counted.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.columns import OwnLog, clean_items, event_times, select_columns
from usermirrorer.data.sources.own.table_files import read_table
from usermirrorer.data.sources.own.values import Kind
from usermirrorer.data.sources.readers.checks import unique_ids
from usermirrorer.data.sources.readers.files import require_files


def read_own_tables(raw: Path | None, seed: int, log: OwnLog) -> RawTables:
    """The log's tables. Raises UserError with file:line at the first value that can't be used."""
    raw = require_files(raw, list(log.tables.values()), log.name, "your own export")
    dropped: dict[str, int] = {}
    path = raw / log.tables["events"]
    rows = read_table(path)
    wanted: dict[str, Kind] = {"user_id": "text", "item_id": "text", "timestamp": "text"}
    events = select_columns(rows, wanted | dict(log.event_columns), path, log.of("events"))
    for kind in ("user", "item"):
        events = drop_unknown(events, [f"{kind}_id"], dropped, f"event_without_{kind}")
    events = event_times(events, path, log.of("events"))
    items, nothing = clean_items(
        _objects("item", raw, log, rows, events, dropped), raw / _file(log, "items"), log.of("items")
    )
    users = unique_ids(_objects("user", raw, log, rows, events, dropped), "user_id", raw / _file(log, "users"))
    return RawTables(
        users=users.drop("line"),
        items=items.drop("line"),
        interactions=events.drop("line"),
        dropped=dropped | nothing,
        files={"users": _file(log, "users"), "items": _file(log, "items"), "interactions": path.name},
    )


def _file(log: OwnLog, table: str) -> str:
    """The file of a table; without one of its own, that of the events."""
    return log.tables.get(table, log.tables["events"])


def _objects(
    kind: str, raw: Path, log: OwnLog, rows: pl.DataFrame, events: pl.DataFrame, dropped: dict[str, int]
) -> pl.DataFrame:
    """The items or users, with `line`: from their own table, else from the `rows` of the events."""
    key, table = f"{kind}_id", f"{kind}s"
    wanted: dict[str, Kind] = {key: "text", **(log.items if kind == "item" else log.users)}
    path = raw / _file(log, table)
    if table in log.tables:
        optional = ("available_from",) if kind == "item" else ()
        found = select_columns(read_table(path), wanted, path, log.of(table), optional)
        return drop_unknown(found, [key], dropped, f"{kind}_without_id")
    shown = select_columns(rows, wanted, path, log.of("events"))
    # Undated events come before all others.
    ordered = shown.join(events.select("line", "timestamp"), on="line").sort("timestamp", "line", nulls_last=False)
    first_known = (pl.col(name).drop_nulls().first() for name in wanted if name != key)
    return ordered.group_by(key, maintain_order=True).agg(pl.col("line").first(), *first_known)
