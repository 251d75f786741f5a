"""Comma-separated files with a header, read as typed columns in chunks of bounded memory."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.json_lines import ColumnType, read_chunks
from usermirrorer.data.sources.readers.lines import shorten
from usermirrorer.errors import UserError


def read_columns(
    path: Path, schema: Mapping[str, ColumnType], optional: Collection[str] = ()
) -> Iterator[pl.DataFrame]:
    """The columns of `schema` and `line` (1-based) from a file whose rows are lines, one frame a chunk.

    Blank lines are passed over.
    Fields may be quoted but hold no line breaks. An empty field is null, and allowed in columns of `optional` only.
    Raises UserError with file:line for a header that lacks a column, and for a row that has too many fields, lacks a
    value, or has one of another type.
    """
    header: bytes | None = None
    for first_line, chunk in read_chunks(path):
        if header is None:
            header, _, chunk = chunk.partition(b"\n")
            _check_header(path, header, schema)
            first_line += 1
        lines = chunk.split(b"\n")
        filled = [number for number, line in enumerate(lines) if line.strip()]
        whole = len(filled) >= len(lines) - 1 and (not filled or filled[-1] == len(filled) - 1)
        rows = chunk if whole else b"\n".join(lines[number] for number in filled)
        frame = _parsed(header, rows, schema, optional, len(filled))
        if frame is None:
            raise _bad_row(path, first_line, header, lines, schema, optional)
        yield frame.with_columns(line=pl.Series(filled, dtype=pl.Int64) + first_line)
    if header is None:
        _check_header(path, b"", schema)


def _check_header(path: Path, header: bytes, schema: Mapping[str, ColumnType]) -> None:
    names = [name.strip('"') for name in header.decode("utf-8-sig", "replace").strip().split(",")]
    missing = [name for name in schema if name not in names]
    if missing or len(set(names)) != len(names):
        fault = f"lacks {missing[0]}" if missing else "names a column twice"
        raise UserError(
            f"{path}:1: the header {shorten(','.join(names))!r} {fault}; take the file as its publisher distributes it"
        )


def _parsed(
    header: bytes, rows: bytes, schema: Mapping[str, ColumnType], optional: Collection[str], count: int
) -> pl.DataFrame | None:
    """`count` rows as a frame, or None where they are not rows of this schema: the parser does not say which."""
    if not count:
        return pl.DataFrame(schema=dict(schema))
    text = io.BytesIO(b"\n".join((header.strip(), rows)))
    try:
        # All columns are parsed, as only then the parser refuses rows that have too many.
        frame = pl.read_csv(text, schema_overrides=dict(schema), infer_schema=False).select(schema.keys())
    except pl.exceptions.PolarsError:
        return None
    lacking = any(frame[name].null_count() for name in schema if name not in optional)
    return frame if len(frame) == count and not lacking else None


def _bad_row(
    path: Path,
    first_line: int,
    header: bytes,
    lines: list[bytes],
    schema: Mapping[str, ColumnType],
    optional: Collection[str],
) -> UserError:
    """The error of the first bad row, found by bisection."""
    filled = [number for number, line in enumerate(lines) if line.strip()]
    low, high = 0, len(filled) - 1
    while low < high:
        middle = (low + high) // 2
        part = [lines[number] for number in filled[low : middle + 1]]
        if _parsed(header, b"\n".join(part), schema, optional, len(part)) is None:
            high = middle
        else:
            low = middle + 1
    shown = shorten(lines[filled[low]].decode("utf-8", "replace").strip())
    expected = ", ".join(f"{name} ({'text' if dtype == pl.String else 'number'})" for name, dtype in schema.items())
    return UserError(
        f"{path}:{first_line + filled[low]}: {shown!r} is not a row with {expected} under the header; "
        f"repair or delete the line"
    )
