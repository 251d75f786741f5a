"""Interchange files, the published unified format: one JSON object a line, read and written.

`NAME_item_feature.jsonl` {item_id, item_description, item_features}, `NAME_interaction.jsonl` {user_id, item_id,
timestamp, behavior_features}, and where there is something to say `NAME_user_feature.jsonl` {user_id,
user_description, user_features} and `NAME_impression.jsonl` {impression_id, user_id, timestamp, items[], clicked[]}.
A description holds what a prompt may show, features hold values for machines (`available_from`); a name that stands
in both means the description. Ids are strings: "0012" stays, the number 12 becomes "12".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import polars as pl

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.columns import Kind, OwnLog, as_times, check_numbers, event_times, pick, showable
from usermirrorer.data.sources.readers.json_lines import ColumnType, read_json_lines
from usermirrorer.data.sources.readers.lines import require_files, shorten, unique_ids
from usermirrorer.errors import UserError


def read_interchange(raw: Path | None, seed: int, log: OwnLog) -> RawTables:
    """The tables of one set of files. Raises UserError with file:line at the first malformed line."""
    paths = interchange_paths(Path(), log.files)
    needed = ["item", "interaction"] + ["user"] * bool(log.users) + ["impression"] * log.impressions
    raw = require_files(raw, [paths[table].name for table in needed], log.name, "your own export")
    paths = interchange_paths(raw, log.files)

    path = paths["interaction"]
    events = _objects(path, {"user_id": pl.String, "item_id": pl.String}, {"timestamp": pl.String})
    events = event_times(events, path, log)
    values = _values(path, events, ("behavior_features",)) if log.behaviour else events
    events = events.hstack(pick(values, log.behaviour, path, log).drop("line"))

    path = paths["item"]
    items = unique_ids(_objects(path, {"item_id": pl.String}), "item_id", path)
    values = _values(path, items, ("item_description", "item_features"))
    wanted: dict[str, Kind] = dict(log.items)
    if log.in_file("available_from") in values.columns or "available_from" in log.renamed:
        wanted["available_from"] = "text"
    items = items.hstack(pick(values, wanted, path, log).drop("line"))
    if "available_from" in wanted:
        items = as_times(items, "available_from", path, log.timestamps)
    check_numbers(items, path, log)
    items, dropped = showable(items, log)

    path = paths["user"]
    if path.is_file():
        users = unique_ids(_objects(path, {"user_id": pl.String}), "user_id", path)
        values = _values(path, users, ("user_description", "user_features")) if log.users else users
        users = users.hstack(pick(values, log.users, path, log).drop("line"))
    else:
        users = events.select("user_id").unique(maintain_order=True)
    return RawTables(
        users=users.select("user_id", *log.users),
        items=items.drop("line"),
        interactions=events.drop("line"),
        impressions=_impressions(paths["impression"], log) if log.impressions else None,
        dropped=dropped,
    )


def write_interchange(tables: RawTables, directory: Path, name: str) -> None:
    """Write users, items, interactions and impressions as interchange files, which `read_interchange` reads back."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = interchange_paths(directory, name)
    for table, frame in (("user", tables.users), ("item", tables.items)):
        features = [column for column in frame.columns if column == "available_from"]
        shown = [column for column in frame.columns if column not in (f"{table}_id", *features)]
        _write(
            paths[table],
            frame.with_columns(_time_text(column) for column in features),
            (f"{table}_id",),
            {f"{table}_description": shown, f"{table}_features": features},
        )
    ids = ("user_id", "item_id", "timestamp")
    behaviour = [column for column in tables.interactions.columns if column not in ids]
    events = tables.interactions.with_columns(_time_text("timestamp"))
    _write(paths["interaction"], events, ids, {"behavior_features": behaviour})
    if tables.impressions is not None:
        columns = ("impression_id", "user_id", "timestamp", "items", "clicked")
        _write(paths["impression"], tables.impressions.with_columns(_time_text("timestamp")), columns, {})


def interchange_paths(directory: Path, name: str) -> dict[str, Path]:
    """Table -> file."""
    files = {"user": "user_feature", "item": "item_feature", "interaction": "interaction", "impression": "impression"}
    return {table: directory / f"{name}_{file}.jsonl" for table, file in files.items()}


def _objects(path: Path, ids: Mapping[str, ColumnType], more: Mapping[str, ColumnType] | None = None) -> pl.DataFrame:
    """Ids, which every object has, and further columns, with `line`. Raises UserError with file:line."""
    chunks = list(read_json_lines(path, {**ids, **(more or {})}, required=tuple(ids)))
    if not chunks:
        raise UserError(f"{path}: there is no object in this file; export the log again")
    return pl.concat(chunks)


def _impressions(path: Path, log: OwnLog) -> pl.DataFrame:
    needed: dict[str, ColumnType] = {
        **dict.fromkeys(("impression_id", "user_id", "timestamp"), pl.String),
        **dict.fromkeys(("items", "clicked"), pl.List(pl.String)),
    }
    return as_times(_objects(path, needed), "timestamp", path, log.timestamps).select(*needed)


def _values(path: Path, objects: pl.DataFrame, parts: tuple[str, ...]) -> pl.DataFrame:
    """All values of the parts as columns of the types that the whole file shows, with `line`; the first part wins."""
    ids: dict[str, ColumnType] = {column: pl.String for column in ("user_id", "item_id") if column in objects.columns}
    try:
        frame = pl.read_ndjson(path, infer_schema_length=None, schema_overrides=ids)
    except pl.exceptions.PolarsError as error:
        raise UserError(_clash(path, parts) or f"{path}: no table can be made of these objects ({error})") from None
    columns = {"line": objects["line"]}
    for part in parts:
        values = frame[part] if part in frame else pl.Series(dtype=pl.Null)
        if isinstance(values.dtype, pl.Struct):
            for field in values.dtype.fields:
                columns.setdefault(field.name, values.struct.field(field.name))
        elif values.dtype != pl.Null:
            raise UserError(_clash(path, parts) or f"{path}: {part} must be an object")
    return pl.DataFrame(columns)


def _clash(path: Path, parts: tuple[str, ...]) -> str:
    """The first line whose values are of another type than those before it, as a sentence; empty if there is none."""
    seen: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        try:
            row: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            continue
        for part in parts:
            if not isinstance(row.get(part), (dict, NoneType)):
                return f"{path}:{number}: {part} {shorten(str(row[part]))!r} is not an object in braces"
        for name, value in [*row.items(), *(entry for part in parts for entry in (row.get(part) or {}).items())]:
            kind = _JSON_TYPES[type(value)]
            if kind != "nothing" and seen.setdefault(name, kind) != kind:
                return f"{path}:{number}: {name} is {kind} here and {seen[name]} on an earlier line; write one type"
    return ""


_JSON_TYPES = {
    bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object",
    NoneType: "nothing",
}  # fmt: skip


def _write(path: Path, frame: pl.DataFrame, columns: Sequence[str], parts: Mapping[str, Sequence[str]]) -> None:
    objects = [
        frame.select(pl.struct(names).alias(part)).to_series()
        if names
        else pl.Series(part, [{}] * len(frame), dtype=pl.Struct([]))
        for part, names in parts.items()
    ]
    frame.select(columns).hstack(objects).write_ndjson(path)


def _time_text(column: str) -> pl.Expr:
    """`2024-01-31 18:05:00`, with milliseconds where there are any."""
    time = pl.from_epoch(pl.col(column), time_unit="ms")
    return time.dt.strftime("%Y-%m-%d %H:%M:%S%.3f").str.strip_suffix(".000").alias(column)
