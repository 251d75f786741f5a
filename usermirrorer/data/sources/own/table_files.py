"""Your own tables as they are: CSV, TSV, JSON lines (all also .gz) and Parquet, every value as text.

A table is text in every format, so that an id is the same in each: `0012` stays, and a whole number is its decimal
digits (Parquet's 12 and 12.0 are `12`, since tools store numbers with gaps as 12.0; the text `12.0` stays). Times and
dates become `2024-01-31 18:05:00` in UTC, lists become texts joined by commas.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.sources.own.values import as_whole
from usermirrorer.data.sources.readers.csv_files import read_records
from usermirrorer.data.sources.readers.files import ColumnType, decoded, read_chunks
from usermirrorer.data.sources.readers.json_lines import read_json_lines
from usermirrorer.errors import UserError, shorten


FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Ends of the names of readable files; all but .parquet also with .gz."""

SEPARATORS = (",", ";", "\t")
"""Of a .csv: the first of them that its header has."""


def read_table(path: Path) -> pl.DataFrame:
    """`line` (1-based; of a Parquet file the row) and all columns as text; what is empty is null.

    Columns of objects stay as they are. Raises UserError for another kind of file, one that is damaged, has no rows
    or a column named `line`, and with file:line at the first malformed line.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; pass the path of your table")
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind not in FORMATS or path.name.endswith(".parquet.gz"):
        raise UserError(f"{path}: not a kind of table that can be read; export it as {', '.join(FORMATS)}")
    if kind == ".parquet":
        table = _parquet(path)
    elif kind in (".csv", ".tsv"):
        table = pl.concat(read_records(path, separator="\t" if kind == ".tsv" else _separator(path)))
    else:
        table = _json_lines(path)
    if table.is_empty():
        raise UserError(f"{path}: there is no row in this file; export it again")
    return table.select("line", *(_as_text(table[name]) for name in table.columns if name != "line"))


def _separator(path: Path) -> str:
    _, chunk = next(read_chunks(path), (1, b""))
    header = decoded(path, 1, chunk.partition(b"\n")[0], "utf-8-sig")
    return next((separator for separator in SEPARATORS if separator in header), ",")


def _json_lines(path: Path) -> pl.DataFrame:
    """Scalars as text; lists and objects in their types."""
    names: dict[str, ColumnType] = {}
    for first_line, chunk in read_chunks(path):
        if not chunk.strip():
            continue
        try:
            found = pl.read_ndjson(chunk, infer_schema_length=None).schema
        except (pl.exceptions.PolarsError, OSError) as error:  # it unpacks what begins like gzip
            raise _not_objects(path, first_line, chunk, error) from None
        names |= {name: kind if kind.is_nested() else pl.String for name, kind in found.items()}
    _refuse_line(path, list(names))
    return pl.concat(read_json_lines(path, names))


def _not_objects(path: Path, first_line: int, chunk: bytes, error: Exception) -> UserError:
    for number, line in enumerate(chunk.split(b"\n"), start=first_line):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                raise ValueError
        except (ValueError, RecursionError):
            shown = shorten(line.decode("utf-8", "replace").strip())
            return UserError(f"{path}:{number}: not a JSON object: {shown!r}; repair or delete the line")
    return UserError(f"{path}: these objects do not form a table ({str(error).splitlines()[0]}); export again")


def _parquet(path: Path) -> pl.DataFrame:
    try:
        # Polars' own reader panics at some damaged files.
        read = pq.ParquetFile(path).read()
        read.validate(full=True)
        table = pl.DataFrame(read)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}); export it again") from None
    _refuse_line(path, table.columns)
    return table.with_row_index("line", offset=1).cast({"line": pl.Int64})


def _refuse_line(path: Path, columns: list[str]) -> None:
    if "line" in columns:
        raise UserError(f"{path}: names a column 'line', which is reserved; rename it")


def _as_text(values: pl.Series) -> pl.Series:
    """One column as text without white space around it, nothing for empty text."""
    kind = values.dtype
    if isinstance(kind, pl.List) and not kind.inner.is_nested():
        values = values.list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    elif kind.is_nested():
        return values
    elif isinstance(kind, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if kind.time_zone else values
        values = utc.dt.strftime("%Y-%m-%d %H:%M:%S%.3f").str.strip_suffix(".000")
    elif kind.is_float():
        values = as_whole(values.fill_nan(None)).cast(pl.String)
    elif kind == pl.Binary:
        values = values.cast(pl.String, strict=False)
    elif kind != pl.String:
        values = values.cast(pl.String)
    values = values.str.strip_chars()
    return values.zip_with(values != "", pl.Series([None], dtype=pl.String))
