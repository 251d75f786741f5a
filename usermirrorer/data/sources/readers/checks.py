"""Checks of values that a reader returned: a bad one is named by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from usermirrorer.errors import UserError, shorten


def refuse(
    frame: pl.DataFrame,
    wrong: pl.Expr,
    column: str,
    expected: str,
    path: Path,
    remedy: str = "repair or delete the line",
) -> None:
    """Raises UserError with file:line at the first row where `wrong` holds: its `column` is not what is expected."""
    found = frame.filter(wrong)
    if len(found):
        number, bad = found.select("line", column).row(0)
        raise UserError(f"{path}:{number}: {column} {shorten(str(bad))!r} is not {expected}; {remedy}")


def as_integers(frame: pl.DataFrame, column: str, path: Path, low: int, high: int) -> pl.DataFrame:
    """Cast a column of `read_fields` to Int64. Raises UserError with file:line at the first value out of range."""
    cast = frame.with_columns(_number=pl.col(column).str.strip_chars().cast(pl.Int64, strict=False))
    inside = pl.col("_number").is_between(low, high).fill_null(False)
    refuse(cast, ~inside, column, f"a whole number from {low} to {high}", path)
    return cast.drop(column).rename({"_number": column})


def one_of(frame: pl.DataFrame, column: str, path: Path, known: Sequence[str]) -> pl.DataFrame:
    """The frame, if a column holds nothing but `known`. Raises UserError with file:line."""
    refuse(frame, ~pl.col(column).is_in(list(known)), column, f"one of {', '.join(known)}", path)
    return frame


def unique_ids(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """The frame, if no id occurs twice. Raises UserError with file:line at the first that does."""
    refuse(frame, ~pl.col(column).is_first_distinct(), column, "unique", path, "delete one of the lines")
    return frame
