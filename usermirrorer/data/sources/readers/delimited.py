"""Delimited files without quoting, read as text: every line is a row, and a malformed one is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.sources.readers.files import decoded
from usermirrorer.errors import UserError, shorten
from usermirrorer.lines import refuse_long_lines


def read_fields(path: Path, separator: str, columns: Sequence[str], *encodings: str) -> pl.DataFrame:
    """All lines of `path` as string columns, plus `line` (1-based). Blank lines are skipped.

    The text is in the first of `encodings` that it is valid in, utf-8 by default. Raises UserError with file:line if a
    line has another number of fields or bytes that are in none.
    """
    content = path.read_bytes()
    refuse_long_lines(path, 1, content)
    return parse_fields(path, 1, content, separator, columns, *encodings)


def parse_fields(
    path: Path, first_line: int, content: bytes, separator: str, columns: Sequence[str], *encodings: str
) -> pl.DataFrame:
    """What `read_fields` returns, for the part of a file that begins at `first_line`."""
    text = decoded(path, first_line, content, *encodings)
    lines = pl.DataFrame({"text": _lines(text.encode())}).with_row_index("line", offset=first_line)
    lines = lines.with_columns(pl.col("text").str.strip_chars_end("\r\n"))
    lines = lines.filter(pl.col("text").str.strip_chars() != "")
    wrong = lines.filter(pl.col("text").str.count_matches(separator, literal=True) != len(columns) - 1)
    if len(wrong):
        number, bad = wrong.row(0)
        raise UserError(
            f"{path}:{number}: expected {len(columns)} fields separated by {separator!r}, got {shorten(bad)!r}; "
            f"repair or delete the line"
        )
    fields = pl.col("text").str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
    return lines.select(pl.col("line"), fields.alias("fields")).unnest("fields")


def _lines(content: bytes) -> pl.Series:
    """The lines of UTF-8 text with their line ends, without a Python object for each."""
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends, [len(content)] if not len(ends) or ends[-1] < len(content) else []])
    buffers = pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(content)
    return pl.Series(pa.LargeStringArray.from_buffers(len(offsets) - 1, *buffers), dtype=pl.String)
