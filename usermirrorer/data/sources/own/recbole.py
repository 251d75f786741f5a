"""RecBole atomic files: `NAME.inter`, `NAME.item` and, if users have columns of their own, `NAME.user`.

Tab-separated text without quoting; the first line gives the name and type of every column, as in
`user_id:token<tab>item_id:token<tab>rating:float<tab>timestamp:float` (RecBole 1.2, "Atomic Files"). Sequences
(`token_seq`, `float_seq`) are shown as written, with single spaces between their parts. An empty field is an unknown
value; an event with an empty time precedes all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import users_of
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.columns import OwnLog, check_numbers, drop_blank_items, event_times, select_columns
from usermirrorer.data.sources.own.values import Kind, as_numbers, as_times
from usermirrorer.data.sources.readers.checks import unique_ids
from usermirrorer.data.sources.readers.delimited import read_fields
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.errors import UserError, shorten


TYPES = ("token", "token_seq", "float", "float_seq")


def read_recbole(raw: Path | None, seed: int, log: OwnLog) -> RawTables:
    """The tables of one set of atomic files. Raises UserError with file:line at the first malformed line."""
    needed = [f"{log.files}.inter", f"{log.files}.item"] + ([f"{log.files}.user"] if log.users else [])
    raw = require_files(raw, needed, log.name, "your own export")
    inter, item, user = (raw / f"{log.files}.{suffix}" for suffix in ("inter", "item", "user"))

    events = _read(inter, {"user_id": "text", "item_id": "text", **log.event_columns, "timestamp": "text"}, log)
    events = _with_ids(events, ("user_id", "item_id"), inter)
    events = event_times(events, inter, log)

    released: dict[str, Kind] = {"available_from": "text"} if _has(item, "available_from", log) else {}
    items = unique_ids(
        _with_ids(_read(item, {"item_id": "text", **log.items, **released}, log), ("item_id",), item), "item_id", item
    )
    if released:
        items = as_times(items, "available_from", item, log.timestamps)
    check_numbers(items, item, log)
    items, dropped = drop_blank_items(items, log)

    if user.is_file():
        users = _with_ids(_read(user, {"user_id": "text", **log.users}, log), ("user_id",), user)
        users = unique_ids(users, "user_id", user).drop("line")
    else:
        users = users_of(events)
    return RawTables(users=users, items=items.drop("line"), interactions=events.drop("line"), dropped=dropped)


def _read(path: Path, wanted: Mapping[str, Kind], log: OwnLog) -> pl.DataFrame:
    """`line` and the wanted columns of one file; columns of type float hold numbers."""
    header = _header(path)
    rows = read_fields(path, "\t", list(header)).filter(pl.col("line") > 1)
    selected = select_columns(rows, wanted, path, log)
    for column, kind in wanted.items():
        if kind == "any" and header[log.in_file(column)] == "float":
            selected = as_numbers(selected, column, path)
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


def _has(path: Path, column: str, log: OwnLog) -> bool:
    """Whether to read an optional column: the file has it, or the YAML renames one to it."""
    return column in log.renamed or column in _header(path)


def _with_ids(frame: pl.DataFrame, columns: tuple[str, ...], path: Path) -> pl.DataFrame:
    """The frame, if no id is empty. Raises UserError with file:line."""
    for column in columns:
        lacking = frame.filter(pl.col(column).is_null())
        if len(lacking):
            raise UserError(f"{path}:{lacking['line'][0]}: {column} is empty; repair or delete the line")
    return frame
