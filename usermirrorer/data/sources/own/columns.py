"""The columns of your own files as the columns of a domain: which are used, and how their values are parsed.

The rule for times: text is `2024-01-31`, `2024-01-31 18:05:00` or ISO 8601 with an offset, and UTC without one.
Numbers are seconds since 1970 if the whole column is within 1e8 to 1e11 (1973 to 5138), milliseconds if it is within
1e11 to 1e14; for any others the YAML must name the unit (`timestamps: s` or `timestamps: ms`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from usermirrorer.data.sources.readers.files import shorten
from usermirrorer.data.sources.readers.lines import refuse
from usermirrorer.data.sources.readers.text import day_ms, stripped
from usermirrorer.errors import UserError


Kind = Literal["any", "number", "text", "flag"]
"""What a column must hold: whatever the file has, numbers (shown, compared, averaged), words, or yes/no."""

Unit = Literal["", "s", "ms"]

SECONDS_FROM, MILLISECONDS_FROM, LATEST = 1e8, 1e11, 1e14
YES, NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0", "")

_TIME = r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(?:([Zz])|([+-])(\d\d):?(\d\d))?)?$"


@dataclass(frozen=True)
class OwnLog:
    """The columns that a domain uses, under its own names: column -> what it must hold."""

    name: str
    files: str
    """Beginning of the files' names."""
    items: Mapping[str, Kind]
    users: Mapping[str, Kind] = field(default_factory=dict)
    event_columns: Mapping[str, Kind] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name in the domain -> name in the file, if they differ."""
    timestamps: Unit = ""
    impressions: bool = False

    def in_file(self, column: str) -> str:
        return self.renamed.get(column, column)


def select_columns(frame: pl.DataFrame, wanted: Mapping[str, Kind], path: Path, log: OwnLog) -> pl.DataFrame:
    """`line` and the wanted columns under the domain's names, of a frame with `line` and the file's columns.

    Raises UserError for a column that the file does not have, and with file:line for a value of another kind.
    """
    for column in wanted:
        if log.in_file(column) not in frame.columns:
            raise UserError(_missing(column, [name for name in frame.columns if name != "line"], path, log))
    selected = frame.select("line", *(pl.col(log.in_file(column)).alias(column) for column in wanted))
    for column, kind in wanted.items():
        selected = selected.with_columns(_normalised(selected[column], column, path))
        if kind == "number":
            selected = as_numbers(selected, column, path)
        elif kind == "flag":
            selected = _as_flags(selected, column, path)
        elif kind == "text":
            selected = selected.with_columns(pl.col(column).cast(pl.String))
    return selected


def as_times(frame: pl.DataFrame, column: str, path: Path, unit: Unit) -> pl.DataFrame:
    """A column of times as UTC milliseconds (Int64), by the rule above; empty is null.

    Raises UserError with file:line at the first value that is not a time, and for numbers whose unit is not clear.
    """
    text = frame.select("line", stripped(pl.col(column).cast(pl.String)))
    number = pl.col(column).cast(pl.Float64, strict=False)
    parsed = text.with_columns(_number=number, _date=_from_text(pl.col(column)))
    numbers = parsed.filter(pl.col("_number").is_finite())
    if len(numbers) and not unit:
        unit = _unit_of(numbers, column, path)
    scaled = pl.col("_number") * (1000 if unit == "s" else 1)
    inside = scaled.is_finite() & (scaled.abs() < LATEST * 10)
    number_ms = pl.when(inside).then(scaled).round().cast(pl.Int64)
    parsed = parsed.with_columns(_ms=pl.coalesce(pl.col("_date"), number_ms))
    remedy = "write 2024-01-31 18:05:00 (UTC), ISO 8601 with an offset, or seconds or milliseconds since 1970"
    refuse(parsed, pl.col("_ms").is_null() & pl.col(column).is_not_null(), column, "a time", path, remedy)
    return frame.with_columns(parsed["_ms"].alias(column))


def event_times(events: pl.DataFrame, path: Path, log: OwnLog) -> pl.DataFrame:
    """The events, times parsed. Raises UserError as `as_times` does, and if no event has a time."""
    events = as_times(events, "timestamp", path, log.timestamps)
    if events["timestamp"].is_null().all():
        raise UserError(f"{path}: no event has a {log.in_file('timestamp')}; export the times, which scenes need")
    return events


def as_numbers(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """A column as numbers: Int64 if all are whole, so that they are shown without decimals; empty is null.

    Raises UserError with file:line at the first value that is not a number.
    """
    values = pl.col(column).cast(pl.Int64) if frame[column].dtype == pl.Boolean else pl.col(column)
    parsed = frame.select("line", stripped(values.cast(pl.String)))
    parsed = parsed.with_columns(_number=pl.col(column).cast(pl.Float64, strict=False))
    wrong = pl.col(column).is_not_null() & ~pl.col("_number").is_finite().fill_null(False)
    refuse(parsed, wrong, column, "a number", path, "repair or empty it")
    return frame.with_columns(_whole(parsed["_number"]).alias(column))


def drop_blank_items(items: pl.DataFrame, log: OwnLog) -> tuple[pl.DataFrame, dict[str, int]]:
    """The items with at least one known value to show, and the number of those dropped."""
    if not log.items:
        return items, {}
    kept = items.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in log.items))
    return kept, {"item_with_nothing_to_show": len(items) - len(kept)}


def check_numbers(items: pl.DataFrame, path: Path, log: OwnLog) -> None:
    """Raises UserError if items show numbers that are not declared, which the exposure probe would miss."""
    for column in [name for name, kind in log.items.items() if kind == "any"]:
        values = items[column].drop_nulls()
        number = values.dtype.is_numeric()
        if values.dtype == pl.String:
            # A leading zero makes a code, not a number.
            number = bool(values.str.contains(r"^-?(0|[1-9]\d*)(\.\d+)?$").all())
        if len(values) and number:
            raise UserError(
                f"{path}: {log.in_file(column)} holds numbers and items show it; add `numbers: [{column}]` so that "
                f"the exposure probe uses it too"
            )


def _missing(column: str, present: Sequence[str], path: Path, log: OwnLog) -> str:
    near = difflib.get_close_matches(log.in_file(column), present, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(present) or 'none'}"
    return f"{path}: {log.name} uses a column {log.in_file(column)!r}, which is missing; {hint}"


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
    return _whole(values) if values.dtype.is_numeric() else values


def _whole(numbers: pl.Series) -> pl.Series:
    if numbers.dtype.is_float() and bool(((numbers == numbers.round()) & (numbers.abs() < 2**53)).all()):
        return numbers.cast(pl.Int64)
    return numbers


def _as_flags(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    text = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase()
    parsed = frame.with_columns(_flag=pl.when(text.is_in(YES)).then(True).when(text.is_in(NO)).then(False))
    wrong = pl.col("_flag").is_null() & pl.col(column).is_not_null()
    refuse(parsed, wrong, column, "true or false", path, "write one of these")
    return frame.with_columns(parsed["_flag"].alias(column))


def _unit_of(numbers: pl.DataFrame, column: str, path: Path) -> Unit:
    seconds = pl.col("_number").is_between(SECONDS_FROM, MILLISECONDS_FROM, closed="left")
    if numbers.select(seconds.all()).item():
        return "s"
    if numbers.select(pl.col("_number").is_between(MILLISECONDS_FROM, LATEST).all()).item():
        return "ms"
    line, value = numbers.filter(~seconds).select("line", column).row(0)
    raise UserError(
        f"{path}:{line}: {column} {shorten(value)!r}: these numbers could be seconds or milliseconds since 1970; "
        f"write `timestamps: s` or `timestamps: ms` in the YAML, or write dates"
    )


def _from_text(text: pl.Expr) -> pl.Expr:
    """UTC milliseconds of a date or an ISO 8601 time, by arithmetic: neither locale nor local time zone matter."""
    parts = text.str.extract_groups(_TIME)

    def part(number: int) -> pl.Expr:
        return parts.struct.field(str(number))

    hour, minute, second = (part(n).cast(pl.Int64).fill_null(0) for n in (2, 3, 4))
    fraction = part(5).str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64).fill_null(0)
    offset = (part(8).cast(pl.Int64) * 60 + part(9).cast(pl.Int64)) * pl.when(part(7) == "-").then(-1).otherwise(1)
    clock = ((hour * 60 + minute - offset.fill_null(0)) * 60 + second) * 1000 + fraction
    possible = (hour < 24) & (minute < 60) & (second < 60) & (part(9).cast(pl.Int64).fill_null(0) < 60)
    return pl.when(possible).then(day_ms(part(1)) + clock)
