"""Comma-separated files with a header, plain or gzip, read in chunks: typed columns, or records of text.

`read_columns` is for large tables of numbers: every row is a line. `read_records` is for text: quoted fields may hold
line breaks (RFC 4180).
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.files import ColumnType, decoded, first_bad, read_chunks
from usermirrorer.errors import UserError, shorten


LONGEST_RECORD = 2**20
"""Bytes; a longer record lacks its closing quote."""


def read_columns(
    path: Path, schema: Mapping[str, ColumnType], optional: Collection[str] = ()
) -> Iterator[pl.DataFrame]:
    """The columns of `schema` and `line` (1-based), one frame a chunk, at least one.

    Blank lines are skipped. Fields may be quoted but hold no line breaks. An empty field is null, and allowed only in
    columns of `optional`. Raises UserError with file:line for a header that lacks a column, and for a row that has
    too many fields, lacks a value, or has one of another type.
    """
    names: list[str] | None = None
    for first_line, chunk in read_chunks(path):
        if names is None:
            header, _, chunk = chunk.partition(b"\n")
            names, first_line = _header(path, header.decode("utf-8-sig", "replace"), tuple(schema)), first_line + 1
        lines = chunk.split(b"\n")
        filled = [number for number, line in enumerate(lines) if line.strip()]
        frame = _typed([lines[number] for number in filled], names, schema, optional)
        if frame is None:
            raise _bad_row(path, first_line, [(number, lines[number]) for number in filled], names, schema, optional)
        yield frame.with_columns(line=pl.Series(filled, dtype=pl.Int64) + first_line)
    if names is None:
        raise UserError(f"{path}:1: the file is empty; download it again")


def read_records(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Some columns as text, one frame a chunk, none without records.

    An empty field is null, and so are the fields that a short record lacks. Raises UserError with file:line for a
    header that lacks a column, bytes that are not UTF-8, a record with more fields than the header, and a quote that
    is never closed.
    """
    names: list[str] | None = None
    for first_line, chunk in _whole_records(path):
        text = decoded(path, first_line, chunk, "utf-8-sig" if names is None else "utf-8")
        if names is None:
            header, _, text = text.partition("\n")
            names, first_line = _header(path, header, columns), first_line + 1
        if not text.strip():
            continue
        frame = _parsed(text.encode(), dict.fromkeys(names, pl.String))
        if frame is None:
            raise _bad_record(path, first_line, text, names)
        yield frame.filter(~pl.all_horizontal(pl.all().is_null())).select(columns)
    if names is None:
        raise UserError(f"{path}:1: the file is empty; download it again")


def _header(path: Path, line: str, wanted: Sequence[str]) -> list[str]:
    """Names of all columns. Raises UserError if a wanted one is missing or one occurs twice."""
    try:
        names = next(csv.reader([line.strip()]), [])
    except csv.Error:  # a carriage return, or more text than a header has
        names = []
    if line.count('"') % 2:  # the header would go on below this line
        names = []
    missing = [name for name in wanted if name not in names]
    if missing or len(set(names)) != len(names):
        problem = f"has no column {missing[0]!r}" if missing else "names a column twice"
        raise UserError(f"{path}:1: the header {shorten(line.strip())!r} {problem}; take the file as published")
    return names


def _parsed(content: bytes, schema: Mapping[str, ColumnType]) -> pl.DataFrame | None:
    """All columns, or None if some record is damaged: the parser does not say which."""
    try:
        return pl.read_csv(io.BytesIO(content), has_header=False, schema=dict(schema))
    except pl.exceptions.PolarsError:
        return None


def _typed(
    rows: Sequence[bytes], names: Sequence[str], schema: Mapping[str, ColumnType], optional: Collection[str]
) -> pl.DataFrame | None:
    """The columns of `schema`, or None unless each line is one row with values of these types."""
    if not rows:
        return pl.DataFrame(schema=dict(schema))
    # The parser refuses a row with too many fields only if it parses all columns.
    frame = _parsed(b"\n".join(rows), {name: schema.get(name, pl.String) for name in names})
    if frame is None or len(frame) != len(rows):
        return None
    lacking = any(frame[name].null_count() for name in schema if name not in optional)
    return None if lacking else frame.select(schema.keys())


def _bad_row(
    path: Path,
    first_line: int,
    rows: Sequence[tuple[int, bytes]],
    names: Sequence[str],
    schema: Mapping[str, ColumnType],
    optional: Collection[str],
) -> UserError:
    lines = [line for _, line in rows]
    number, bad = rows[first_bad(len(rows), lambda n: _typed(lines[:n], names, schema, optional) is not None)]
    expected = ", ".join(f"{name} ({'text' if dtype == pl.String else 'number'})" for name, dtype in schema.items())
    return UserError(
        f"{path}:{first_line + number}: {shorten(bad.decode('utf-8', 'replace').strip())!r} is not a row with "
        f"{expected} under the header; repair or delete the line"
    )


def _whole_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Chunks that end where a record does: at a line break with an even number of quotes before it."""
    begin, rest = 1, b""
    for _, chunk in read_chunks(path):
        rest += chunk
        end, odd = len(rest), rest.count(b'"') % 2
        while odd and end > 0:
            line = rest.rfind(b"\n", 0, end - 1) + 1
            odd ^= rest.count(b'"', line, end) % 2
            end = line
        if end:
            yield begin, rest[:end]
            begin, rest = begin + rest.count(b"\n", 0, end), rest[end:]
        if len(rest) > LONGEST_RECORD:
            break
    if rest:
        raise UserError(f"{path}:{begin}: a quote that opens in this record is never closed; repair the file")


def _bad_record(path: Path, first_line: int, text: str, names: Sequence[str]) -> UserError:
    schema = dict.fromkeys(names, pl.String)
    lines = re.split(r"(?<=\n)", text)
    quotes = itertools.accumulate(line.count('"') for line in lines)
    ends = [0, *(number for number, count in enumerate(quotes, 1) if count % 2 == 0)]
    bad = first_bad(len(ends) - 1, lambda n: _parsed("".join(lines[: ends[n]]).encode(), schema) is not None)
    shown = shorten("".join(lines[ends[bad] : ends[bad + 1]]).strip().partition("\n")[0])
    return UserError(
        f"{path}:{first_line + ends[bad]}: {shown!r} has more than {len(names)} fields, or quotes that are not "
        f"doubled; repair or delete the record"
    )
