"""Reading of files with one JSON object a line, plain or gzip, in chunks of bounded memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import polars as pl

from usermirrorer.data.sources.readers.lines import shorten
from usermirrorer.errors import UserError


ColumnType = pl.DataType | type[pl.DataType]

CHUNK_BYTES = 32 * 2**20
"""Text that is in memory at a time; a chunk ends with a line."""


def find_file(raw: Path | None, names: Sequence[str], domain: str, publisher: str) -> Path:
    """The first of `names` that is in the directory of raw files. Raises UserError where none is."""
    if raw is None:
        raise UserError(f"{domain} needs its raw files: add --raw DIR with {names[0]} (from {publisher})")
    for name in names:
        if (raw / name).is_file():
            return raw / name
    others = f"; {', '.join(names[1:])} will do as well" if names[1:] else ""
    raise UserError(f"{raw / names[0]} is missing: {domain} needs it (from {publisher}){others}")


def read_json_lines(
    path: Path, schema: Mapping[str, ColumnType], required: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """The objects of `path` (gzip where the name ends in .gz) as frames of the columns of `schema` plus `line`
    (1-based): one frame a chunk, none where there is no object. Blank lines are passed over.

    Absent keys are null, other keys are not read. Numbers may be written as strings and the other way round; an empty
    string where a number or a boolean is asked for is null. Raises UserError with file:line at the first line that is
    not a JSON object, lacks one of `required` (null counts as lacking) or holds a value of another type.
    """
    for first_line, chunk in read_chunks(path):
        frame = parse_chunk(path, first_line, chunk, schema, required)
        if len(frame):
            yield frame


def read_chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number of the first line (1-based) and text of every chunk of whole lines. Raises UserError for broken gzip."""
    line = 1
    try:
        with _opened(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                chunk += file.readline()
                yield line, chunk
                line += chunk.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}:{line}: not whole gzip from about here on ({error}); download it again") from None


def parse_chunk(
    path: Path,
    first_line: int,
    chunk: bytes,
    schema: Mapping[str, ColumnType],
    required: Sequence[str],
) -> pl.DataFrame:
    """The objects of one chunk as a frame, as `read_json_lines` says."""
    # Scalars are read as text first: the parser itself takes no number that is written as a string.
    as_written = {name: dtype if dtype.is_nested() else pl.String for name, dtype in schema.items()}
    frame = _parsed(chunk, as_written)
    count = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    if frame is not None and len(frame) == count:
        numbers = pl.Series(range(first_line, first_line + count), dtype=pl.Int64)
    else:
        lines = chunk.split(b"\n")
        filled = [number for number, line in enumerate(lines) if line.strip()]
        if frame is None or len(frame) != len(filled):
            bad = _first_bad([lines[number] for number in filled], as_written)
            raise UserError(_not_an_object(path, first_line + filled[bad], lines[filled[bad]]))
        numbers = pl.Series(filled, dtype=pl.Int64) + first_line
    frame = frame.with_columns(line=numbers)
    for name, dtype in schema.items():
        if not dtype.is_nested() and dtype != pl.String:
            frame = _cast(frame, name, dtype, path)
    for name in required:
        lacking = frame.filter(pl.col(name).is_null())
        if len(lacking):
            raise UserError(f"{path}:{lacking['line'][0]}: the object has no {name!r}; repair or delete the line")
    return frame


def _opened(path: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _parsed(chunk: bytes, schema: Mapping[str, ColumnType]) -> pl.DataFrame | None:
    """The frame, or nothing where some line is not an object of this schema."""
    try:
        return pl.read_ndjson(io.BytesIO(chunk), schema=dict(schema))
    except pl.exceptions.PolarsError:
        return None


def _first_bad(lines: Sequence[bytes], schema: Mapping[str, ColumnType]) -> int:
    """Position of the first line that does not parse into one row, by bisection: the parser names none."""
    low, high = 0, len(lines) - 1
    while low < high:
        middle = (low + high) // 2
        frame = _parsed(b"\n".join(lines[low : middle + 1]), schema)
        if frame is not None and len(frame) == middle + 1 - low:
            low = middle + 1
        else:
            high = middle
    return low


def _not_an_object(path: Path, line: int, text: bytes) -> str:
    shown = shorten(text.decode("utf-8", "replace").strip())
    return f"{path}:{line}: not a JSON object of the expected types: {shown!r}; repair or delete the line"


def _cast(frame: pl.DataFrame, name: str, dtype: ColumnType, path: Path) -> pl.DataFrame:
    """A column of text as numbers or booleans. Raises UserError with file:line at the first that is none."""
    text = pl.col(name).str.strip_chars()
    if dtype == pl.Boolean:
        value = text.str.to_lowercase().replace_strict(
            {"true": True, "false": False}, default=None, return_dtype=dtype
        )
    elif dtype.is_integer():
        number = text.cast(pl.Float64, strict=False)
        whole = pl.when(number == number.floor()).then(number).cast(dtype, strict=False)
        value = pl.coalesce(text.cast(dtype, strict=False), whole)
    else:
        value = text.cast(dtype, strict=False)
    cast = frame.with_columns(_value=value)
    wrong = cast.filter(pl.col("_value").is_null() & (text != ""))
    if len(wrong):
        line, bad = wrong.select("line", name).row(0)
        raise UserError(f"{path}:{line}: {name} {shorten(bad)!r} is not {_said(dtype)}; repair or delete the line")
    return cast.drop(name).rename({"_value": name}).select(frame.columns)


def _said(dtype: ColumnType) -> str:
    if dtype == pl.Boolean:
        return "true or false"
    return "a whole number" if dtype.is_integer() else "a number"
