"""Files with one JSON object a line, plain or gzip, read in chunks of bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.readers.checks import refuse, require
from usermirrorer.data.sources.readers.files import ColumnType, filled_lines, first_bad, read_chunks
from usermirrorer.errors import UserError, shorten


def read_json_lines(
    path: Path, schema: Mapping[str, ColumnType], required: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    """The objects as frames of the columns of `schema` and `line` (1-based): one frame a chunk, at least one.

    Blank lines are skipped, absent keys are null, other keys are ignored. Numbers may be written as strings and
    strings as numbers; an empty string in place of a number or a boolean is null. Raises UserError with file:line at
    the first line that is not a JSON object, lacks one of `required` (null counts as lacking) or holds a value of
    another type.
    """
    for first_line, chunk in read_chunks(path):
        yield parse_chunk(path, first_line, chunk, schema, required)


def parse_chunk(
    path: Path, first_line: int, chunk: bytes, schema: Mapping[str, ColumnType], required: Sequence[str] = ()
) -> pl.DataFrame:
    """The objects of one chunk, which begins at `first_line`, as `read_json_lines` describes."""
    # Scalars are parsed as text first: the parser does not accept a number written as a string.
    as_written = {name: dtype if dtype.is_nested() else pl.String for name, dtype in schema.items()}
    frame = _parsed(chunk, as_written)
    count = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    if frame is not None and len(frame) == count:
        numbers = pl.Series(range(first_line, first_line + count), dtype=pl.Int64)
    else:
        numbers, lines = filled_lines(first_line, chunk)
        if frame is None or len(frame) != len(lines):
            raise _bad_line(path, numbers, lines, as_written)
    frame = frame.with_columns(line=numbers)
    for name, dtype in schema.items():
        if not dtype.is_nested() and dtype != pl.String:
            frame = _cast(frame, name, dtype, path)
    for name in required:
        require(frame, name, path, f"the object has no {name!r}")
    return frame


def _parsed(chunk: bytes, schema: Mapping[str, ColumnType]) -> pl.DataFrame | None:
    """The frame, or None if some line is not an object of this schema."""
    try:
        return pl.read_ndjson(io.BytesIO(chunk), schema=dict(schema))
    except (pl.exceptions.PolarsError, OSError):  # it unpacks what begins like gzip
        return None


def _bad_line(path: Path, numbers: pl.Series, lines: list[bytes], schema: Mapping[str, ColumnType]) -> UserError:
    def parse(some: Sequence[bytes]) -> pl.DataFrame | None:
        frame = _parsed(b"\n".join(some), schema)
        return frame if frame is not None and len(frame) == len(some) else None

    bad = first_bad(lines, parse)
    return UserError(
        f"{path}:{numbers[bad]}: not a JSON object of the expected types: "
        f"{shorten(lines[bad].decode('utf-8', 'replace').strip())!r}; repair or delete the line"
    )


def _cast(frame: pl.DataFrame, name: str, dtype: ColumnType, path: Path) -> pl.DataFrame:
    """A column of text as numbers or booleans. Raises UserError with file:line at the first other value."""
    text = pl.col(name).str.strip_chars()
    if dtype == pl.Boolean:
        kind, flags = "true or false", {"true": True, "false": False}
        value = text.str.to_lowercase().replace_strict(flags, default=None, return_dtype=dtype)
    elif dtype.is_integer():
        kind, number = "a whole number", text.cast(pl.Float64, strict=False)
        whole = pl.when(number == number.floor()).then(number).cast(dtype, strict=False)
        value = pl.coalesce(text.cast(dtype, strict=False), whole)
    else:
        kind, value = "a number", text.cast(dtype, strict=False)
    values = frame.select(value)[name]
    refuse(frame, values.is_null() & (text != ""), name, kind, path)
    return frame.with_columns(values)
