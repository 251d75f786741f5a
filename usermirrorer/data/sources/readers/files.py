"""Raw files: found by name, and read in chunks of bounded memory whose errors name file and line."""

from __future__ import annotations

import gzip
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import polars as pl

from usermirrorer.errors import UserError


ColumnType = pl.DataType | type[pl.DataType]

CHUNK_BYTES = 32 * 2**20
"""Text in memory at a time; a chunk ends at the end of a line."""


def require_files(raw: Path | None, names: Sequence[str], domain: str, publisher: str) -> Path:
    """The directory of raw files, once all of `names` are in it. Raises UserError naming the first that is not."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {', '.join(names)} (from {publisher})")
    missing = [name for name in names if not (raw / name).is_file()]
    if missing:
        raise UserError(f"{raw / missing[0]} is missing: {domain} needs {', '.join(names)} (from {publisher})")
    return raw


def find_file(raw: Path | None, names: Sequence[str], domain: str, publisher: str) -> Path:
    """The first of `names` in the directory of raw files. Raises UserError if none is in it."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {names[0]} (from {publisher})")
    for name in names:
        if (raw / name).is_file():
            return raw / name
    others = f"; {', '.join(names[1:])} will do as well" if names[1:] else ""
    raise UserError(f"{raw / names[0]} is missing: {domain} needs it (from {publisher}){others}")


def read_chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number of the first line (1-based) and content of every chunk, unpacked if the name ends in .gz.

    Raises UserError for broken gzip.
    """
    line = 1
    try:
        with _opened(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                chunk += file.readline()
                yield line, chunk
                line += chunk.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}:{line}: gzip is damaged at about this line ({error}); download it again") from None


def _opened(path: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def joined(chunks: Iterable[pl.DataFrame], schema: Mapping[str, ColumnType]) -> pl.DataFrame:
    """All chunks as one frame of this schema, which is empty without any."""
    return pl.concat([pl.DataFrame(schema=dict(schema)), *chunks])


def decoded(path: Path, first_line: int, content: bytes, encoding: str = "utf-8") -> str:
    """The text of a chunk. Raises UserError with file:line at the first byte that is not `encoding`."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not {encoding} text; save the file as {encoding}") from None


def first_bad(count: int, parses: Callable[[int], bool]) -> int:
    """Position of the row that spoils a chunk of `count` rows: polars refuses a chunk without naming the row.

    `parses(n)` tells whether the first n rows parse; those of the whole chunk do not.
    """
    return bisect_left(range(count - 1), True, key=lambda row: not parses(row + 1))
