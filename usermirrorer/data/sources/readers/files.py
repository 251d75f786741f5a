"""Raw files: found by name, and read in chunks of bounded memory whose errors name file and line."""

from __future__ import annotations

import gzip
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import polars as pl

from usermirrorer.errors import UserError
from usermirrorer.lines import LONGEST_LINE, damaged_gzip, open_plain, refuse_long_lines


T = TypeVar("T")
ColumnType = pl.DataType | type[pl.DataType]

CHUNK_BYTES = 32 * 2**20
"""Text in memory at a time; a chunk ends at the end of a line."""


def require_files(raw: Path | None, names: Sequence[str], domain: str, publisher: str) -> Path:
    """The directory of raw files, if all of `names` are in it. Raises UserError naming the first that is missing."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {', '.join(names)} (from {publisher})")
    missing = [name for name in names if not (raw / name).is_file()]
    if missing:
        raise UserError(f"{raw / missing[0]} is missing: {domain} needs {', '.join(names)} (from {publisher})")
    return raw


def find_file(raw: Path | None, names: Sequence[str], domain: str, publisher: str, instead: str = "") -> Path:
    """The first of `names` in the directory of raw files. Raises UserError if none is in it; `instead` ends it."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {names[0]} (from {publisher})")
    for name in names:
        if (raw / name).is_file():
            return raw / name
    others = f"; {', '.join(names[1:])} will do as well" if names[1:] else ""
    otherwise = f"; {instead}" if instead else ""
    raise UserError(f"{raw / names[0]} is missing: {domain} needs it (from {publisher}){others}{otherwise}")


def read_chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number of the first line (1-based) and content of every chunk, unpacked if the name ends in .gz.

    An empty file is one empty chunk. Raises UserError with file:line for damaged gzip and a line that is too long.
    """
    line = 1
    try:
        with open_plain(path) as file:
            chunk = file.read(CHUNK_BYTES)
            while True:
                chunk += file.readline(LONGEST_LINE + 1)
                refuse_long_lines(path, line, chunk)
                yield line, chunk
                line += chunk.count(b"\n")
                if not (chunk := file.read(CHUNK_BYTES)):
                    return
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged_gzip(path, line, error) from None


def filled_lines(first_line: int, chunk: bytes) -> tuple[pl.Series, list[bytes]]:
    """Numbers (Int64) and content of the lines of a chunk that are not blank."""
    lines = chunk.split(b"\n")
    # JSON and CSV know no other blanks; `strip()` would also take a vertical tab or a form feed for one.
    filled = [row for row, line in enumerate(lines) if line.strip(b" \t\r")]
    return pl.Series("line", filled, dtype=pl.Int64) + first_line, [lines[row] for row in filled]


def decoded(path: Path, first_line: int, content: bytes, *encodings: str) -> str:
    """The text of a chunk in the first of `encodings` (utf-8 if none is given) that it is valid in.

    Raises UserError with file:line at the first byte that is not of the last.
    """
    *tried, last = encodings or ("utf-8",)
    for encoding in tried:
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    try:
        return content.decode(last)
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not {last} text; save the file as {last}") from None


def first_bad(rows: Sequence[T], parse: Callable[[Sequence[T]], object]) -> int:
    """Position of the row that spoils a chunk, since polars refuses a chunk without naming the row.

    `parse` returns None for rows that do not parse, so None for all of them.
    """
    return bisect_left(range(len(rows) - 1), True, key=lambda row: parse(rows[: row + 1]) is None)
