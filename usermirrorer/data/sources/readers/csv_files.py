"""Comma-separated files with a header, plain or gzip, read in chunks.

`read_columns` is for large tables of numbers, one row per line; `read_records` is for text, with line breaks allowed
in quoted fields (RFC 4180), and with other separators.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.files import ColumnType, decoded, filled_lines, first_bad, read_chunks
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
    names, chunks = _below_header(path, read_chunks(path), tuple(schema))
    parse = partial(_typed, names=names, schema=schema, optional=optional)
    for first_line, chunk in chunks:
        numbers, rows = filled_lines(first_line, chunk)
        frame = parse(rows)
        if frame is None:
            bad = first_bad(rows, parse)
            expected = ", ".join(
                f"{name} ({'text' if kind == pl.String else 'number'})" for name, kind in schema.items()
            )
            raise UserError(
                f"{path}:{numbers[bad]}: {shorten(rows[bad].decode('utf-8', 'replace').strip())!r} is not a row with "
                f"{expected} under the header; repair or delete the line"
            )
        yield frame.with_columns(numbers)


def read_records(path: Path, columns: Sequence[str] = (), separator: str = ",") -> Iterator[pl.DataFrame]:
    """`line` (1-based) and some columns as text, all of them if none is named: one frame a chunk, at least one.

    An empty field is null, and so are the fields that a short record lacks. Raises UserError with file:line for a
    header that lacks a column, bytes that are not UTF-8, a record with more fields than the header, and a quote that
    is never closed.
    """
    names, chunks = _below_header(path, _whole_records(path), columns, separator)
    if "line" in names and not columns:
        raise UserError(f"{path}:1: the header names a column 'line', which is reserved; rename it")
    schema = dict.fromkeys(names, pl.String)
    for first_line, chunk in chunks:
        text = decoded(path, first_line, chunk)
        frame = _parsed(chunk, schema, separator)
        if frame is None:
            raise _bad_record(path, first_line, text, schema, separator)
        lines = _first_lines(frame, first_line, chunk)
        filled = frame.select(~pl.all_horizontal(pl.all().is_null())).to_series()
        yield frame.select(lines, *(columns or names)).filter(filled)


def _first_lines(frame: pl.DataFrame, first_line: int, chunk: bytes) -> pl.Series:
    """The line on which each record begins, `(records,)`: line breaks in its fields are lines too."""
    begins = pl.int_range(first_line, first_line + len(frame), eager=True).alias("line")
    if len(frame) == chunk.count(b"\n") + (not chunk.endswith(b"\n")):
        return begins
    breaks = frame.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).fill_null(0))).to_series()
    return (begins + breaks.cum_sum() - breaks).alias("line")


def _below_header(
    path: Path, chunks: Iterator[tuple[int, bytes]], wanted: Sequence[str], separator: str = ","
) -> tuple[list[str], Iterator[tuple[int, bytes]]]:
    """Names of all columns, and the chunks below the header.

    Raises UserError if the file is empty, a wanted column is missing, or a name occurs twice.
    """
    _, first = next(chunks, (1, b""))
    if not first:
        raise UserError(f"{path}:1: the file is empty; download or export it again")
    header, _, rest = first.partition(b"\n")
    line = decoded(path, 1, header, "utf-8-sig").strip()
    try:
        names = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a carriage return, or more text than a header has
        names = []
    if line.count('"') % 2:  # the header would continue below this line
        names = []
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(
            f"{path}:1: the header {shorten(line)!r} has no column {missing[0]!r}; take the file as published"
        )
    if not names:
        raise UserError(f"{path}:1: {shorten(line)!r} is not a header; write the columns' names in the first line")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"{path}:1: the header names {shorten(name)!r} twice; rename or delete one of the columns")
    return names, itertools.chain([(2, rest)], chunks)


def _parsed(content: bytes, schema: Mapping[str, ColumnType], separator: str = ",") -> pl.DataFrame | None:
    """All columns, or None if some record is damaged: the parser does not say which."""
    if not content.strip():
        return pl.DataFrame(schema=dict(schema))
    try:
        return pl.read_csv(io.BytesIO(content), has_header=False, schema=dict(schema), separator=separator)
    except (pl.exceptions.PolarsError, OSError):  # it unpacks what begins like gzip
        return None


def _typed(
    rows: Sequence[bytes], names: Sequence[str], schema: Mapping[str, ColumnType], optional: Collection[str]
) -> pl.DataFrame | None:
    """The columns of `schema`, or None unless each line is one row with values of these types."""
    # The parser refuses a row with too many fields only if it parses all columns.
    frame = _parsed(b"\n".join(rows), {name: schema.get(name, pl.String) for name in names})
    if frame is None or len(frame) != len(rows):
        return None
    lacking = any(frame[name].null_count() for name in schema if name not in optional)
    return None if lacking else frame.select(schema.keys())


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


def _bad_record(path: Path, first_line: int, text: str, schema: Mapping[str, ColumnType], separator: str) -> UserError:
    lines = re.split(r"(?<=\n)", text)
    quotes = itertools.accumulate(line.count('"') for line in lines)
    ends = [0, *(number for number, count in enumerate(quotes, 1) if count % 2 == 0)]
    records = ["".join(lines[begin:end]) for begin, end in itertools.pairwise(ends)]
    bad = first_bad(records, lambda some: _parsed("".join(some).encode(), schema, separator))
    shown = shorten(records[bad].strip().partition("\n")[0])
    return UserError(
        f"{path}:{first_line + ends[bad]}: {shown!r} has more than {len(schema)} fields, or quotes that are not "
        f"doubled; repair or delete the record"
    )
