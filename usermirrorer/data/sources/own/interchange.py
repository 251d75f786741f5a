"""Interchange files, the published unified format: one JSON object a line, read and written.

`NAME_item_feature.jsonl` {item_id, item_description, item_features}, `NAME_interaction.jsonl` {user_id, item_id,
timestamp, behavior_features}, and optionally `NAME_user_feature.jsonl` {user_id, user_description, user_features} and
`NAME_impression.jsonl` {impression_id, user_id, timestamp, items[], clicked[]}. A description holds what a prompt may
show, features hold values for machines (`available_from`); a name in both means the description. Ids are strings:
"0012" stays, the number 12 becomes "12".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import polars as pl

from usermirrorer.data.sources.cleaning import users_of
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.columns import OwnLog, clean_items, event_times, select_columns
from usermirrorer.data.sources.own.values import Kind, as_times
from usermirrorer.data.sources.readers.checks import unique_ids
from usermirrorer.data.sources.readers.files import ColumnType, require_files
from usermirrorer.data.sources.readers.json_lines import read_json_lines
from usermirrorer.errors import UserError, shorten


def read_interchange(raw: Path | None, seed: int, log: OwnLog) -> RawTables:
    """The tables of one set of files. Raises UserError with file:line at the first malformed line."""
    paths = interchange_paths(raw or Path(), log.files)
    needed = ["item", "interaction"] + ["user"] * bool(log.users) + ["impression"] * log.impressions
    require_files(raw, [paths[table].name for table in needed], log.name, "your own export")

    path = paths["interaction"]
    events = _objects(path, {"user_id": pl.String, "item_id": pl.String}, {"timestamp": pl.String})
    events = _with_values(path, event_times(events, path, log), ("behavior_features",), log.event_columns, log)

    path = paths["item"]
    items, parts = _objects(path, {"item_id": pl.String}), ("item_description", "item_features")
    items, dropped = clean_items(_with_values(path, items, parts, log.items, log, ("available_from",)), path, log)

    path = paths["user"]
    if path.is_file():
        users = unique_ids(_objects(path, {"user_id": pl.String}), "user_id", path)
        users = _with_values(path, users, ("user_description", "user_features"), log.users, log)
    else:
        users = users_of(events)
    return RawTables(
        users=users.select("user_id", *log.users),
        items=items.drop("line"),
        interactions=events.drop("line"),
        impressions=_impressions(paths["impression"], log) if log.impressions else None,
        dropped=dropped,
        files={"users": paths["user"].name, "items": paths["item"].name, "interactions": paths["interaction"].name},
    )


def write_interchange(tables: RawTables, directory: Path, name: str) -> None:
    """Write users, items, interactions and impressions as interchange files, for `read_interchange`."""
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
    event_columns = [column for column in tables.interactions.columns if column not in ids]
    events = tables.interactions.with_columns(_time_text("timestamp"))
    _write(paths["interaction"], events, ids, {"behavior_features": event_columns})
    if tables.impressions is not None:
        columns = ("impression_id", "user_id", "timestamp", "items", "clicked")
        _write(paths["impression"], tables.impressions.with_columns(_time_text("timestamp")), columns, {})


def interchange_paths(directory: Path, name: str) -> dict[str, Path]:
    """Table -> file."""
    files = {"user": "user_feature", "item": "item_feature", "interaction": "interaction", "impression": "impression"}
    return {table: directory / f"{name}_{file}.jsonl" for table, file in files.items()}


def _objects(path: Path, ids: Mapping[str, ColumnType], more: Mapping[str, ColumnType] | None = None) -> pl.DataFrame:
    """`line`, the ids, which every object must have, and `more` columns. Raises UserError with file:line."""
    objects = pl.concat(read_json_lines(path, {**ids, **(more or {})}, required=tuple(ids)))
    if objects.is_empty():
        raise UserError(f"{path}: no object in this file; export the log again")
    return objects


def _impressions(path: Path, log: OwnLog) -> pl.DataFrame:
    needed: dict[str, ColumnType] = {
        **dict.fromkeys(("impression_id", "user_id", "timestamp"), pl.String),
        **dict.fromkeys(("items", "clicked"), pl.List(pl.String)),
    }
    return as_times(_objects(path, needed), "timestamp", path, log.timestamps).select(*needed)


def _with_values(
    path: Path,
    objects: pl.DataFrame,
    parts: tuple[str, ...],
    wanted: Mapping[str, Kind],
    log: OwnLog,
    optional: Sequence[str] = (),
) -> pl.DataFrame:
    """The objects with the wanted values of their parts as columns."""
    if not wanted and not optional:
        return objects
    selected = select_columns(_values(path, objects, parts), wanted, path, log, optional)
    return objects.hstack(selected.drop("line"))


def _values(path: Path, objects: pl.DataFrame, parts: tuple[str, ...]) -> pl.DataFrame:
    """`line` and all values of the parts as columns, typed by the whole file; of equal names the first part wins."""
    ids: dict[str, ColumnType] = {column: pl.String for column in ("user_id", "item_id") if column in objects.columns}
    try:
        frame = pl.read_ndjson(path, infer_schema_length=None, schema_overrides=ids)
    except pl.exceptions.PolarsError as error:
        reason = _type_conflict(path, parts) or f"{path}: these objects do not form a table ({error}); export again"
        raise UserError(reason) from None
    columns = {"line": objects["line"]}
    for part in parts:
        values = frame[part] if part in frame else pl.Series(dtype=pl.Null)
        if isinstance(values.dtype, pl.Struct):
            for field in values.dtype.fields:
                columns.setdefault(field.name, values.struct.field(field.name))
        elif values.dtype != pl.Null:
            raise UserError(_type_conflict(path, parts) or f"{path}: {part} is not an object; write it in braces")
    return pl.DataFrame(columns)


def _type_conflict(path: Path, parts: tuple[str, ...]) -> str:
    """The error of the first line with a value of another type than on earlier lines; empty without such a line."""
    seen: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        try:
            row: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            continue
        for part in parts:
            if not isinstance(row.get(part), (dict, NoneType)):
                return f"{path}:{number}: {part} {shorten(str(row[part]))!r} is not an object; write it in braces"
        for name, value in [*row.items(), *(entry for part in parts for entry in (row.get(part) or {}).items())]:
            kind = _JSON_TYPES[type(value)]
            if kind != "nothing" and seen.setdefault(name, kind) != kind:
                return f"{path}:{number}: {name} is {kind} here but {seen[name]} on an earlier line; use one type"
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
    """`2024-01-31 18:05:00`, with milliseconds if there are any."""
    time = pl.from_epoch(pl.col(column), time_unit="ms")
    return time.dt.strftime("%Y-%m-%d %H:%M:%S%.3f").str.strip_suffix(".000").alias(column)
