"""RecBole atomic files: `NAME.inter`, `NAME.item` and, if users have columns of their own, `NAME.user`.

Tab-separated text without quoting; the first line gives the name and type of every column, as in
`user_id:token<tab>item_id:token<tab>rating:float<tab>timestamp:float` (RecBole 1.2, "Atomic Files"). Sequences
(`token_seq`, `float_seq`) are shown as written, with single spaces between their parts. An empty field is an unknown
value; an event with an empty time precedes all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import users_of
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.columns import OwnLog, clean_items, event_times, select_columns
from usermirrorer.data.sources.own.values import Kind, as_numbers
from usermirrorer.data.sources.readers.checks import require, unique_ids
from usermirrorer.data.sources.readers.delimited import read_fields
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.errors import UserError, shorten


TYPES = ("token", "token_seq", "float", "float_seq")


def read_recbole(raw: Path | None, seed: int, log: OwnLog) -> RawTables:
    """The tables of one set of atomic files. Raises UserError with file:line at the first malformed line."""
    suffixes = ["inter", "item"] + ["user"] * bool(log.users)
    raw = require_files(raw, [f"{log.files}.{suffix}" for suffix in suffixes], log.name, "your own export")
    inter, item, user = (raw / f"{log.files}.{suffix}" for suffix in ("inter", "item", "user"))
    events = _read(inter, ("user_id", "item_id"), {**log.event_columns, "timestamp": "text"}, log)
    events = event_times(events, inter, log)
    items, dropped = clean_items(_read(item, ("item_id",), log.items, log, ("available_from",)), item, log)
    if user.is_file():
        users = unique_ids(_read(user, ("user_id",), log.users, log), "user_id", user).drop("line")
    else:
        users = users_of(events)
    return RawTables(
        users=users,
        items=items.drop("line"),
        interactions=events.drop("line"),
        dropped=dropped,
        files={"users": user.name, "items": item.name, "interactions": inter.name},
    )


def _read(
    path: Path, ids: Sequence[str], wanted: Mapping[str, Kind], log: OwnLog, optional: Sequence[str] = ()
) -> pl.DataFrame:
    """`line`, the ids, which every row must have, and other columns of one file; those of type float hold numbers."""
    header = _header(path)
    rows = read_fields(path, "\t", list(header)).filter(pl.col("line") > 1)
    selected = select_columns(rows, {**dict.fromkeys(ids, "text"), **wanted}, path, log, optional)
    for column, kind in wanted.items():
        if kind == "any" and header[log.in_file(column)] == "float":
            selected = as_numbers(selected, column, path)
    for column in ids:
        require(selected, column, path, f"{column} is empty")
    return selected


def _header(path: Path) -> dict[str, str]:
    """Name -> type of every column. Raises UserError if the first line is not such a header."""
    with path.open("rb") as file:
        first = file.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
    columns: dict[str, str] = {}
    for column in first.split("\t"):
        name, _, kind = column.rpartition(":")
        if not name or kind not in TYPES or name in columns or name == "line":
            raise UserError(
                f"{path}:1: {shorten(column)!r} does not name a column; the first line must hold distinct names with "
                f"types, separated by tabs, such as user_id:token item_id:token timestamp:float "
                f"(types: {', '.join(TYPES)}; `line` is reserved)"
            )
        columns[name] = kind
    return columns
