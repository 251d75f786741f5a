"""The columns of your own files that a domain uses, under the domain's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.own.values import Kind, Unit, as_flags, as_numbers, as_times, as_whole
from usermirrorer.data.sources.readers.checks import unique_ids
from usermirrorer.errors import UserError, closest


@dataclass(frozen=True)
class OwnLog:
    """The columns that a domain uses, under its own names: column -> what it must hold."""

    name: str
    files: str
    """Beginning of the files' names, where they have fixed ends."""
    items: Mapping[str, Kind]
    users: Mapping[str, Kind] = field(default_factory=dict)
    event_columns: Mapping[str, Kind] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name in the domain -> name in the file, if they differ; `items.NAME` counts for the table of items alone."""
    timestamps: Unit = ""
    impressions: bool = False
    tables: Mapping[str, str] = field(default_factory=dict)
    """Table (events, items, users) -> its file, where the files' names are yours."""

    def in_file(self, column: str) -> str:
        return self.renamed.get(column, column)

    def of(self, table: str) -> OwnLog:
        """The log with the names that count for one of its tables."""
        common = {name: column for name, column in self.renamed.items() if "." not in name}
        alone = {name.removeprefix(f"{table}."): column for name, column in self.renamed.items()}
        return replace(self, renamed=common | {name: column for name, column in alone.items() if "." not in name})


def select_columns(
    frame: pl.DataFrame, wanted: Mapping[str, Kind], path: Path, log: OwnLog, optional: Sequence[str] = ()
) -> pl.DataFrame:
    """`line` and the wanted columns under the domain's names, of a frame with `line` and the file's columns.

    `optional` columns are added as text if the file has them or the YAML renames one to them. Raises UserError for a
    column that the file does not have, and with file:line for a value of another kind.
    """
    found = [column for column in optional if column in log.renamed or column in frame.columns]
    wanted = {**wanted, **dict.fromkeys(found, "text")}
    for name in map(log.in_file, wanted):
        if name not in frame.columns:
            present = [other for other in frame.columns if other != "line"]
            hint = closest(name, present, f"it has {', '.join(present) or 'none'}")
            raise UserError(f"{path}: {log.name} uses a column {name!r}, which is missing; {hint}")
    selected = frame.select("line", *(pl.col(log.in_file(column)).alias(column) for column in wanted))
    for column, kind in wanted.items():
        selected = selected.with_columns(_normalised(selected[column], column, path))
        if kind == "number":
            selected = as_numbers(selected, column, path)
        elif kind == "flag":
            selected = as_flags(selected, column, path)
        elif kind == "text":
            selected = selected.with_columns(pl.col(column).cast(pl.String))
    return selected


def event_times(events: pl.DataFrame, path: Path, log: OwnLog) -> pl.DataFrame:
    """The events, times parsed. Raises UserError as `as_times` does, and if no event has a time."""
    events = as_times(events, "timestamp", path, log.timestamps)
    if events["timestamp"].is_null().all():
        raise UserError(f"{path}: no event has a {log.in_file('timestamp')}; export the times, which scenes need")
    return events


def clean_items(items: pl.DataFrame, path: Path, log: OwnLog) -> tuple[pl.DataFrame, dict[str, int]]:
    """The items with at least one known value to show, release times parsed, and the number of those dropped.

    Raises UserError if an id occurs twice, as `as_times` does, and if items show numbers that are not declared, which
    the exposure probe would miss.
    """
    items = unique_ids(items, "item_id", path)
    if "available_from" in items.columns:
        items = as_times(items, "available_from", path, log.timestamps)
    for column in [name for name, kind in log.items.items() if kind == "any"]:
        values = items[column].drop_nulls()
        # A leading zero makes a code, not a number.
        if len(values) and (
            values.dtype.is_numeric()
            or (values.dtype == pl.String and values.str.contains(r"^-?(0|[1-9]\d*)(\.\d+)?$").all())
        ):
            raise UserError(
                f"{path}: {log.in_file(column)} holds numbers and items show it; add `numbers: [{column}]` so that "
                f"the exposure probe uses it too"
            )
    if not log.items:
        return items, {}
    kept = items.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in log.items))
    return kept, {"item_with_nothing_to_show": len(items) - len(kept)}


def _normalised(values: pl.Series, column: str, path: Path) -> pl.Series:
    """Lists as text joined by commas, empty text as null, columns of whole numbers as integers."""
    if isinstance(values.dtype, pl.List) and not values.dtype.inner.is_nested():
        values = values.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    elif values.dtype.is_nested():
        raise UserError(
            f"{path}: {column} holds objects, which no prompt can show; write it as text or a list of texts"
        )
    if values.dtype == pl.Null:
        return values.cast(pl.String)
    if values.dtype == pl.String:
        return values.zip_with(values.str.strip_chars() != "", pl.Series([None], dtype=pl.String))
    return as_whole(values) if values.dtype.is_numeric() else values
