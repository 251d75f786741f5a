"""Rows of a parquet or JSONL file, a batch at a time, as frames with the columns and types of a schema.

Whatever reads them need not care whether a step wrote them or somebody else, with other types or fewer columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.errors import UserError


MESSAGES = ("messages_chosen", "messages_rejected")
"""Columns of published training rows: whole conversations."""

BATCH = 4096

SECONDS_BELOW = 1e11
"""Times given as numbers are seconds below this and milliseconds above it, as `eval` reads them."""
MOST_MS = 60_000_000_000_000
"""1,900 years before and after 1970: times further away can't be written out by Python and are none."""
TIME = pl.Datetime("ms", "UTC")


def read_batches(
    files: Sequence[Path], schema: pa.Schema, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[pl.DataFrame]:
    """Rows of files in order, with the columns of a schema (or some of them) in their types.

    What a file does not have is null, and so is a value that can't be read as its type. Each row has its `_file` and
    `_row`, counted from 1. Raises UserError with file:line for a line that is no JSON object.
    """
    types = dict(pl.DataFrame(schema.empty_table()).schema)
    wanted = list(columns or types)
    for path in files:
        begin = 0
        for frame in _json_frames(path, types, size) if path.suffix == ".jsonl" else _frames(path, wanted, size):
            rows = pl.int_range(begin + 1, begin + len(frame) + 1, dtype=pl.Int64)
            begin += len(frame)
            yield as_schema(frame, types).select(*wanted, pl.lit(path.name).alias("_file"), rows.alias("_row"))


def columns_of(path: Path) -> list[str]:
    """Column names of a file. Raises UserError where it can't be read."""
    if path.suffix == ".parquet":
        try:
            return pq.read_schema(path).names
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a parquet file ({error}): write it again") from None
    if path.suffix != ".jsonl":
        raise UserError(f"{path} is of no known kind: give a directory, FILE.parquet or FILE.jsonl")
    for lines in _lines(path, 1):
        return list(lines[0])
    raise UserError(f"{path} is empty: give a file with rows")


def as_schema(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The columns of a schema, in its types, with null for what is not there or of another type."""
    if set(MESSAGES) <= set(frame.columns):
        chosen, rejected = (pl.col(name) for name in MESSAGES)
        frame = frame.with_columns(
            prompt=chosen.list.head(chosen.list.len() - 1), chosen=chosen.list.tail(1), rejected=rejected.list.tail(1)
        )
    return frame.select(
        (_read_as(frame, name, kind) if name in frame.columns else pl.repeat(None, pl.len(), dtype=kind)).alias(name)
        for name, kind in types.items()
    )


def _read_as(frame: pl.DataFrame, name: str, kind: pl.DataType) -> pl.Expr:
    value, given = pl.col(name), frame.schema[name]
    if not isinstance(kind, pl.Datetime):
        return _cast(value, given, kind)
    time = _time(value, given)
    return pl.when(time.dt.epoch("ms").is_between(-MOST_MS, MOST_MS)).then(time)


def _time(value: pl.Expr, given: pl.DataType) -> pl.Expr:
    """A column as UTC milliseconds: times without a zone are UTC, as in published files."""
    if isinstance(given, pl.Datetime):
        zoned = value.dt.replace_time_zone("UTC") if given.time_zone is None else value.dt.convert_time_zone("UTC")
        return zoned.dt.cast_time_unit("ms")
    if given == pl.String:
        return value.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    if given == pl.Date:
        return value.cast(TIME)
    number = value.cast(pl.Float64, strict=False) if given.is_numeric() else pl.lit(None, pl.Float64)
    milliseconds = pl.when(number.abs() < SECONDS_BELOW).then(number * 1000).otherwise(number)
    return milliseconds.cast(pl.Int64, strict=False).cast(TIME)


def _cast(value: pl.Expr, given: pl.DataType, kind: pl.DataType) -> pl.Expr:
    """`value` of type `given` as `kind`, fields of structs by name; null where that can't be."""
    if given == kind:
        return value
    if isinstance(kind, pl.Struct):
        if not isinstance(given, pl.Struct):
            return pl.repeat(None, pl.len(), dtype=kind)
        inner = {field.name: _instance(field.dtype) for field in given.fields}
        fields = [
            _cast(value.struct.field(field.name), inner[field.name], _instance(field.dtype))
            if field.name in inner
            else pl.lit(None, field.dtype)
            for field in kind.fields
        ]
        fields = [entry.alias(field.name) for entry, field in zip(fields, kind.fields, strict=True)]
        return pl.when(value.is_not_null()).then(pl.struct(fields))
    if isinstance(kind, pl.List):
        if not isinstance(given, pl.List):
            return pl.repeat(None, pl.len(), dtype=kind)
        return value.list.eval(_cast(pl.element(), _instance(given.inner), _instance(kind.inner)))
    readable = given.is_numeric() or isinstance(given, pl.String | pl.Categorical | pl.Enum)
    text = value.cast(pl.String) if isinstance(given, pl.Categorical | pl.Enum) else value
    return text.cast(kind, strict=False) if readable else pl.repeat(None, pl.len(), dtype=kind)


def _instance(kind: Any) -> pl.DataType:
    return kind() if isinstance(kind, type) else kind


def _frames(path: Path, wanted: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    present = [name for name in names if name in wanted or name in MESSAGES] or names[:1]  # one, to count the rows
    for batch in file.iter_batches(size, columns=present):
        yield pl.DataFrame(pa.Table.from_batches([batch]))


def _json_frames(path: Path, types: Mapping[str, pl.DataType], size: int) -> Iterator[pl.DataFrame]:
    conversation = types.get("prompt", pl.Null())
    kinds = {**types, **({} if "prompt" not in types else dict.fromkeys(MESSAGES, conversation))}
    for rows in _lines(path, size):
        present = {name: kind for name, kind in kinds.items() if any(name in row for row in rows)}
        columns = {name: [_shaped(row.get(name), kind) for row in rows] for name, kind in present.items()}
        yield pl.DataFrame(columns, schema=present)


def _shaped(value: Any, kind: pl.DataType) -> Any:
    """A JSON value as a type of a schema, ids given as numbers as text; None where it is of another type."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(kind, pl.Struct):
        fields = {field.name: _instance(field.dtype) for field in kind.fields}
        return {name: _shaped(value.get(name), of) for name, of in fields.items()} if isinstance(value, dict) else None
    if isinstance(kind, pl.List):
        return [_shaped(entry, _instance(kind.inner)) for entry in value] if isinstance(value, list) else None
    if isinstance(kind, pl.Datetime):
        return _milliseconds(value)
    if isinstance(value, list | dict):
        return None
    if kind == pl.String:
        return str(value)
    if isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value) if kind == pl.Float64 else int(value) if value == int(value) and abs(value) < 2**63 else None


def _milliseconds(value: Any) -> int | None:
    """UTC milliseconds of a JSON time: ISO text (UTC where it names no zone), seconds or milliseconds."""
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value.strip())
            value = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000
        except (ValueError, OverflowError):
            return None
    elif isinstance(value, int | float) and abs(value) < SECONDS_BELOW:
        value *= 1000
    return round(value) if isinstance(value, int | float) and abs(value) < MOST_MS else None


def _lines(path: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number} is not JSON ({error}): write one object a line") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number} is {type(row).__name__}, not an object: write one object a line")
            rows.append(row)
            if len(rows) == size:
                yield rows
                rows = []
    if rows:
        yield rows
