"""Comma-separated files (RFC 4180) whose quoted fields may hold line breaks, read as text in chunks."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.json_lines import read_chunks
from usermirrorer.data.sources.readers.lines import shorten
from usermirrorer.errors import UserError


LONGEST_RECORD = 2**20
"""Bytes; a record that goes on longer lacks its closing quote."""


def read_records(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Some columns of a file with a header, as text, one frame a chunk (a file without records gives none).

    Other columns are not kept; an empty field is null. Raises UserError with file:line for a header that lacks a
    column, bytes that are not UTF-8, a record with more fields than the header, and a quote that is never closed; a
    record with fewer fields ends in nulls.
    """
    names: list[str] | None = None
    for first_line, chunk in _whole_records(path):
        try:
            text = chunk.decode("utf-8-sig" if names is None else "utf-8")
        except UnicodeDecodeError as error:
            line = first_line + chunk.count(b"\n", 0, error.start)
            raise UserError(f"{path}:{line}: not utf-8 text; repair or delete the line") from None
        if names is None:
            names, skipped = _header(path, text, columns)
            text, first_line = text[skipped:], first_line + 1
        if text.strip():
            yield _parsed(path, first_line, text, names).select(columns)
    if names is None:
        raise UserError(f"{path}:1: the file is empty; download it again")


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


def _header(path: Path, text: str, columns: Sequence[str]) -> tuple[list[str], int]:
    """Names of the columns, and the length of their line."""
    line, _, _ = text.partition("\n")
    try:
        names = next(csv.reader([line.strip()]), [])
    except csv.Error:  # a carriage return, or more text than a header has
        names = []
    if line.count('"') % 2:  # the record goes on below: what follows the line is no whole records
        names = []
    missing = [name for name in columns if name not in names]
    if missing or len(set(names)) != len(names):
        fault = f"has no column {missing[0]!r}" if missing else "names a column twice"
        raise UserError(f"{path}:1: the header {shorten(line)!r} {fault}; take the file as its publisher offers it")
    return names, len(line) + 1


def _parsed(path: Path, first_line: int, text: str, names: Sequence[str]) -> pl.DataFrame:
    """All columns of whole records, without those of blank lines."""
    frame = _frame(text, names)
    if frame is None:
        raise _bad_record(path, first_line, text, names)
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _frame(text: str, names: Sequence[str]) -> pl.DataFrame | None:
    """All columns, or nothing where some record is damaged: the parser does not say which."""
    try:
        return pl.read_csv(io.BytesIO(text.encode()), has_header=False, schema={name: pl.String for name in names})
    except pl.exceptions.PolarsError:
        return None


def _bad_record(path: Path, first_line: int, text: str, names: Sequence[str]) -> UserError:
    """The error of the first damaged record, found by bisection."""
    lines = re.split(r"(?<=\n)", text)
    quotes = itertools.accumulate(line.count('"') for line in lines)
    ends = [0, *(number for number, count in enumerate(quotes, 1) if count % 2 == 0)]
    low, high = 1, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if _frame("".join(lines[: ends[middle]]), names) is None:
            high = middle
        else:
            low = middle + 1
    shown = shorten("".join(lines[ends[low - 1] : ends[low]]).strip().partition("\n")[0])
    return UserError(
        f"{path}:{first_line + ends[low - 1]}: {shown!r} has more than {len(names)} fields, or quotes that are not "
        f"doubled; repair or delete the record"
    )
