"""Values and columns of any type in the types of a schema; what can't be converted is null.

Other people's files have other types and fewer columns than ours. Parquet columns are converted as Polars expressions,
JSON values one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
from polars.datatypes import DataTypeClass


PUBLISHED = {"prompt": "messages_chosen", "chosen": "messages_chosen", "rejected": "messages_rejected"}
"""Columns of pairs -> the published columns that hold them: whole conversations, whose last message is the answer."""

TIME = pl.Datetime("ms", "UTC")
SECONDS_BELOW = 1e11
LATEST_MS = 60_000_000_000_000
"""1,900 years after 1970. Times further away, on either side, are not converted: Python can't print them."""

DataType = pl.DataType | DataTypeClass
Types = Mapping[str, DataType]


def milliseconds(value: Any) -> int | None:
    """A time as UTC milliseconds; None if it is not a time.

    Times are datetimes or ISO text (UTC if they have no zone), or numbers: seconds below 1e11, else milliseconds.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        return None
    return int(value * 1000) if abs(value) < SECONDS_BELOW else int(value)


def polars_types(schema: pa.Schema) -> Types:
    return pl.DataFrame(schema.empty_table()).schema


def with_pair_columns(names: Iterable[str]) -> list[str]:
    """`names`, and the columns of pairs that the published columns among them hold."""
    given = list(names)
    return [*given, *(name for name, source in PUBLISHED.items() if source in given and name not in given)]


def as_schema(frame: pl.DataFrame, types: Types) -> pl.DataFrame:
    """The columns in `types`, converted to them; a column that the frame does not have is null."""
    return frame.select(_column(frame.schema, name, kind).alias(name) for name, kind in types.items())


def json_frame(rows: list[dict[str, Any]], types: Types) -> pl.DataFrame:
    """JSON objects as a frame of those columns in `types` (or published in their place) that some object has."""
    sources = {source: types[name] for name, source in PUBLISHED.items() if name in types}
    present = {name: kind for name, kind in {**types, **sources}.items() if any(name in row for row in rows)}
    columns = {name: [_json_value(row.get(name), kind) for row in rows] for name, kind in present.items()}
    return pl.DataFrame(columns, schema=present)


def _column(given: Mapping[str, DataType], name: str, kind: DataType) -> pl.Expr:
    if name in given:
        return _converted(pl.col(name), given[name], kind)
    source = PUBLISHED.get(name, "")
    if source not in given:
        return _null(kind)
    messages = _converted(pl.col(source), given[source], kind)
    return messages.list.head(messages.list.len() - 1) if name == "prompt" else messages.list.tail(1)


def _converted(value: pl.Expr, given: DataType, kind: DataType) -> pl.Expr:
    """`value` of type `given` as `kind`, fields of structs by name."""
    if isinstance(kind, pl.Datetime):
        time = _time(value, given)
        return pl.when(time.dt.epoch("ms").is_between(-LATEST_MS, LATEST_MS)).then(time)
    if given == kind:
        return value
    if isinstance(kind, pl.Struct):
        if not isinstance(given, pl.Struct):
            return _null(kind)
        inner = given.to_schema()
        fields = [
            (_converted(value.struct.field(name), inner[name], of) if name in inner else pl.lit(None, of)).alias(name)
            for name, of in kind.to_schema().items()
        ]
        return pl.when(value.is_not_null()).then(pl.struct(fields))
    if isinstance(kind, pl.List):
        if not isinstance(given, pl.List):
            return _null(kind)
        return value.list.eval(_converted(pl.element(), given.inner, kind.inner))
    if isinstance(given, pl.Categorical | pl.Enum):
        value, given = value.cast(pl.String), pl.String()
    return value.cast(kind, strict=False) if given == pl.String or given.is_numeric() else _null(kind)


def _time(value: pl.Expr, given: DataType) -> pl.Expr:
    """A column as UTC milliseconds, by the rule of `milliseconds`."""
    if isinstance(given, pl.Datetime):
        zoned = value.dt.replace_time_zone("UTC") if given.time_zone is None else value.dt.convert_time_zone("UTC")
        return zoned.dt.cast_time_unit("ms")
    if given == pl.Date:
        return value.cast(TIME)
    if given != pl.String and not given.is_numeric():
        return _null(TIME)
    plain = value if given == pl.String else value.cast(pl.Float64, strict=False)
    return plain.map_elements(milliseconds, return_dtype=pl.Int64).cast(TIME)


def _null(kind: DataType) -> pl.Expr:
    return pl.repeat(None, pl.len(), dtype=kind)


def _json_value(value: Any, kind: DataType) -> Any:
    """A JSON value as `kind`, ids given as numbers as text."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(kind, pl.Struct):
        fields = kind.to_schema().items()
        return {name: _json_value(value.get(name), of) for name, of in fields} if isinstance(value, dict) else None
    if isinstance(kind, pl.List):
        return [_json_value(entry, kind.inner) for entry in value] if isinstance(value, list) else None
    if isinstance(kind, pl.Datetime):
        return milliseconds(value)
    if isinstance(value, list | dict):
        return None
    if kind == pl.String:
        return str(value)
    if isinstance(value, str):
        return None
    if kind == pl.Float64:
        return float(value) if abs(value) <= sys.float_info.max else None
    return int(value) if abs(value) < 2**63 and value == int(value) else None
