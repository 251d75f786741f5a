"""Reading of delimited raw files whose every line counts: a malformed one is named by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.errors import UserError


def require_files(raw: Path | None, names: Sequence[str], domain: str, publisher: str) -> Path:
    """The directory of raw files, after checking that all of `names` are there. Raises UserError."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {', '.join(names)} (from {publisher})")
    missing = [name for name in names if not (raw / name).is_file()]
    if missing:
        raise UserError(f"{raw / missing[0]} is missing: {domain} needs {', '.join(names)} (from {publisher})")
    return raw


def read_fields(path: Path, separator: str, columns: Sequence[str], encoding: str = "utf-8") -> pl.DataFrame:
    """All lines of `path` as string columns, plus `line` (1-based). Blank lines are passed over.

    Raises UserError with file:line where a line has another number of fields or bytes that are not `encoding`.
    """
    return parse_fields(path, 1, path.read_bytes(), separator, columns, encoding)


def parse_fields(
    path: Path, first_line: int, content: bytes, separator: str, columns: Sequence[str], encoding: str = "utf-8"
) -> pl.DataFrame:
    """What `read_fields` returns, of the part of a file that begins at `first_line`."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + first_line
        raise UserError(f"{path}:{line}: not {encoding} text; save the file as {encoding}") from None
    lines = pl.DataFrame({"text": _lines(text.encode())}).with_row_index("line", offset=first_line)
    lines = lines.with_columns(pl.col("text").str.strip_chars_end("\r\n"))
    lines = lines.filter(pl.col("text").str.strip_chars() != "")
    wrong = lines.filter(pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1)
    if len(wrong):
        number, bad = wrong.row(0)
        raise UserError(
            f"{path}:{number}: {len(columns)} fields parted by {separator!r} expected, got {shorten(bad)!r}; "
            f"repair or delete the line"
        )
    fields = pl.col("text").str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
    return lines.select(pl.col("line"), fields.alias("fields")).unnest("fields")


def _lines(content: bytes) -> pl.Series:
    """The lines of UTF-8 text, each with what ends it, without an object for each."""
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends, [len(content)] if not len(ends) or ends[-1] < len(content) else []])
    buffers = pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(content)
    return pl.Series(pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers), dtype=pl.String)


def as_integers(frame: pl.DataFrame, column: str, path: Path, low: int, high: int) -> pl.DataFrame:
    """Cast a column of `read_fields` to Int64. Raises UserError with file:line at the first value out of range."""
    cast = frame.with_columns(pl.col(column).str.strip_chars().cast(pl.Int64, strict=False).alias("_number"))
    wrong = cast.filter(pl.col("_number").is_null() | (pl.col("_number") < low) | (pl.col("_number") > high))
    if len(wrong):
        number, bad = wrong.select("line", column).row(0)
        raise UserError(
            f"{path}:{number}: {column} {shorten(bad)!r} is not a whole number from {low} to {high}; "
            f"repair or delete the line"
        )
    return cast.drop(column).rename({"_number": column})


def one_of(frame: pl.DataFrame, column: str, path: Path, known: Sequence[str]) -> pl.DataFrame:
    """The frame, after checking that a column holds nothing but `known`. Raises UserError with file:line."""
    wrong = frame.filter(~pl.col(column).is_in(list(known)))
    if len(wrong):
        number, bad = wrong.select("line", column).row(0)
        raise UserError(
            f"{path}:{number}: {column} {shorten(bad)!r} is not one of {', '.join(known)}; repair or delete the line"
        )
    return frame


def refuse(frame: pl.DataFrame, wrong: pl.Expr, column: str, expected: str, path: Path) -> None:
    """Raises UserError with file:line at the first row where `wrong` holds: its column is not what is expected."""
    found = frame.filter(wrong)
    if len(found):
        number, bad = found.select("line", column).row(0)
        raise UserError(
            f"{path}:{number}: {column} {shorten(str(bad))!r} is not {expected}; repair or delete the line"
        )


def unique_ids(frame: pl.DataFrame, column: str, path: Path) -> pl.DataFrame:
    """The frame, after checking that no id stands twice. Raises UserError with file:line."""
    twice = frame.filter(pl.col(column).is_duplicated() & ~pl.col(column).is_first_distinct())
    if len(twice):
        number, bad = twice.select("line", column).row(0)
        raise UserError(f"{path}:{number}: {column} {shorten(bad)!r} stands twice; delete one of the lines")
    return frame


def shorten(text: str, width: int = 60) -> str:
    """At most `width` characters, for error messages."""
    return text if len(text) <= width else text[: width - 1] + "…"
