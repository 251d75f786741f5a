"""Values in your own files: times, numbers, yes and no.

The rule for times: text is `2024-01-31`, `2024-01-31 18:05:00` or ISO 8601 with an offset, and UTC without one.
Numbers are seconds since 1970 if the whole column is within 1e8 to 1e11 (1973 to 5138), milliseconds if it is within
1e11 to 1e14; for any others the YAML must name the unit (`timestamps: s` or `timestamps: ms`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from usermirrorer.data.sources.readers.checks import refuse
from usermirrorer.data.sources.readers.text import day_ms, stripped
from usermirrorer.errors import UserError, shorten


Kind = Literal["any", "number", "text", "flag"]
"""What a column must hold: whatever the file has, numbers (shown, compared, averaged), words, or yes/no."""

Unit = Literal["", "s", "ms"]
"""Of times written as numbers; empty to infer it from the column."""

SECONDS_FROM, MILLISECONDS_FROM, LATEST = 1e8, 1e11, 1e14

_FLAGS = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0", ""), False)
_TIME = (
    r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(?:([Zz]|UTC)|([+-])(\d\d):?(\d\d))?)?$"
)


def as_times(frame: pl.DataFrame, column: str, path: Path, unit: Unit) -> pl.DataFrame:
    """A column of times as UTC milliseconds (Int64), by the rule above; empty is null.

    Raises UserError with file:line at the first value that is not a time, and for numbers whose unit is not clear.
    """
    text = frame.select("line", stripped(pl.col(column).cast(pl.String)))
    parsed = text.with_columns(_number=pl.col(column).cast(pl.Float64, strict=False))
    numbers = parsed.filter(pl.col("_number").is_finite())
    if len(numbers) and not unit:
        unit = _unit_of(numbers, column, path)
    scaled = pl.col("_number") * (1000 if unit == "s" else 1)
    inside = scaled.is_finite() & (scaled.abs() < LATEST * 10)
    number_ms = pl.when(inside).then(scaled).round().cast(pl.Int64)
    times = parsed.select(pl.coalesce(_from_text(pl.col(column)), number_ms).alias(column)).to_series()
    remedy = "write 2024-01-31 18:05:00 (UTC), ISO 8601 with an offset, or seconds or milliseconds since 1970"
    refuse(text, times.is_null() & pl.col(column).is_not_null(), column, "a time", path, remedy)
    return frame.with_columns(times)


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

    numbers = (part(number).cast(pl.Int64).fill_null(0) for number in (2, 3, 4, 8, 9))
    hour, minute, second, offset_hours, offset_minutes = numbers
    fraction = part(5).str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64).fill_null(0)
    offset = (offset_hours * 60 + offset_minutes) * pl.when(part(7) == "-").then(-1).otherwise(1)
    clock = ((hour * 60 + minute - offset) * 60 + second) * 1000 + fraction
    possible = (hour < 24) & (minute < 60) & (second < 60) & (offset_minutes < 60)
    return pl.when(possible).then(day_ms(part(1)) + clock)


def as_numbers(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """A column as numbers: Int64 if all are whole, so that they are shown without decimals; empty is null.

    Raises UserError with file:line at the first value that is not a number.
    """
    values = pl.col(column).cast(pl.Int64) if frame[column].dtype == pl.Boolean else pl.col(column)
    text = frame.select("line", stripped(values.cast(pl.String)))
    numbers = text[column].cast(pl.Float64, strict=False)
    wrong = pl.col(column).is_not_null() & ~numbers.is_finite().fill_null(False)
    refuse(text, wrong, column, "a number", path, "repair or empty it")
    return frame.with_columns(as_whole(numbers))


def as_whole(numbers: pl.Series) -> pl.Series:
    """Floats as Int64 if all of them are whole; other series as they are."""
    if numbers.dtype.is_float() and bool(((numbers == numbers.round()) & (numbers.abs() < 2**53)).all()):
        return numbers.cast(pl.Int64)
    return numbers


def as_flags(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """A column of yes/no as booleans; null stays. Raises UserError with file:line at the first other value."""
    text = frame[column].cast(pl.String).str.strip_chars().str.to_lowercase()
    flags = text.replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)
    refuse(frame, flags.is_null() & text.is_not_null(), column, "true or false", path, "write one of these")
    return frame.with_columns(flags)
