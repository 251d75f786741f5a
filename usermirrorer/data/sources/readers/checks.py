"""Checks of the values in a raw file: the first bad one is named by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from usermirrorer.errors import UserError, shorten


REPAIR = "repair or delete the line"


def refuse(
    frame: pl.DataFrame, wrong: pl.Expr | pl.Series, column: str, expected: str, path: Path, remedy: str = REPAIR
) -> None:
    """Raises UserError with file:line at the first row where `wrong` holds: its `column` is not what is expected."""
    found = frame.filter(wrong)
    if len(found):
        number, bad = found.select("line", column).row(0)
        raise UserError(f"{path}:{number}: {column} {shorten(str(bad))!r} is not {expected}; {remedy}")


def require(frame: pl.DataFrame, column: str, path: Path, problem: str) -> None:
    """Raises UserError with file:line and the problem at the first row where `column` is null."""
    lacking = frame.filter(pl.col(column).is_null())
    if len(lacking):
        raise UserError(f"{path}:{lacking['line'][0]}: {problem}; {REPAIR}")


def as_integers(frame: pl.DataFrame, column: str, path: Path, low: int, high: int) -> pl.DataFrame:
    """Cast a column of `read_fields` to Int64. Raises UserError with file:line at the first value out of range."""
    numbers = frame[column].str.strip_chars().cast(pl.Int64, strict=False)
    inside = numbers.is_between(low, high).fill_null(False)
    refuse(frame, ~inside, column, f"a whole number from {low} to {high}", path)
    return frame.with_columns(numbers)


def one_of(frame: pl.DataFrame, column: str, path: Path, known: Sequence[str]) -> pl.DataFrame:
    """The frame, if a column holds nothing but `known`. Raises UserError with file:line."""
    refuse(frame, ~pl.col(column).is_in(list(known)), column, f"one of {', '.join(known)}", path)
    return frame


def unique_ids(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """The frame, if no id occurs twice. Raises UserError with file:line at the first that does."""
    refuse(frame, ~pl.col(column).is_first_distinct(), column, "unique", path, "delete one of the lines")
    return frame
