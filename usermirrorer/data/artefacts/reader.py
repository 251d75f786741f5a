"""Rows of the files that people hand us: parquet, JSON lines, or a Hub dataset; ours, published, or their own.

`validate` and `show` read batches in the columns and types of a schema, `eval` reads rows as they are, and `train` a
memory-mapped `Dataset`.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.convert import (
    PUBLISHED,
    Types,
    as_schema,
    json_frame,
    polars_types,
    with_pair_columns,
)
from usermirrorer.data.artefacts.store import finished_manifest, read_manifest
from usermirrorer.errors import UserError
from usermirrorer.lines import read_lines


if TYPE_CHECKING:
    from datasets import Dataset

PARQUET = ".parquet"
JSON_LINES = (".jsonl", ".jsonl.gz")
SPLITS = ("train", "test", "data")
"""Directories in which the files of a step or of a downloaded Hub dataset are."""

BATCH = 4096


def is_hub_id(source: str | Path) -> bool:
    """Whether `source` is the OWNER/NAME of a Hub dataset: not a file's name, nor a path that exists."""
    name = str(source)
    hub_id = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)
    return bool(hub_id) and not name.endswith((PARQUET, *JSON_LINES)) and not Path(name).exists()


def files_in(directory: Path) -> list[Path]:
    """The parquet files of a directory in order, or else its JSON lines."""
    paths = sorted(directory.glob("[!.]*"))
    return [p for p in paths if p.suffix == PARQUET] or [p for p in paths if p.name.endswith(JSON_LINES)]


def files_at(source: str | Path, remedy: str) -> list[Path]:
    """The files of the directory `source`, or the file itself.

    Raises UserError if there are none or of another kind; `remedy` ends the message and says what to pass instead.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        manifest = read_manifest(path)
        if manifest is not None and manifest["content"].get("finished") is False:
            step = manifest["content"]["recipe"].get("step")
            raise UserError(f"{source} is not finished: run the step that makes it ({step}) again")
        finished_manifest(path)
        files = files_in(path)
        if not files:
            splits = [str(path / name) for name in SPLITS if files_in(path / name)]
            instead = f"pass {' or '.join(splits)}" if splits else remedy
            raise UserError(f"{source} holds neither *.parquet nor *.jsonl(.gz): {instead}")
        return files
    if not path.is_file():
        raise UserError(f"{source} is not there: {remedy}")
    if not path.name.endswith((PARQUET, *JSON_LINES)):
        raise UserError(f"{source} is of no known kind: {remedy}")
    return [path]


def place_of(file: str, row: int) -> str:
    """A row's place, as messages name it: `train-00000.parquet row 12`, or file:line for JSON lines."""
    return f"{file}:{row}" if file.endswith(JSON_LINES) else f"{file} row {row}"


def columns_of(path: Path) -> list[str]:
    """Column names of a file, and the columns of pairs that published ones hold.

    Raises UserError for a file that can't be read or is empty.
    """
    if path.suffix == PARQUET:
        with _reading(path):
            return with_pair_columns(pq.ParquetFile(path).schema_arrow.names)
    for _, row in _json_rows(path):
        return with_pair_columns(row)
    raise UserError(f"{path} is empty: pass a file with rows")


def read_batches(
    files: Sequence[Path], schema: pa.Schema, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[pl.DataFrame]:
    """Rows of files in order, `size` at a time, with the columns of a schema (or some of them) in their types.

    Null stands for what a file does not have and for what can't be converted. Each row has its `_file` and `_row`,
    counted from 1. Raises UserError with file:line for a line that is not a JSON object.
    """
    types = polars_types(schema)
    wanted = list(columns or types)
    for path in files:
        begin = 0
        frames = _parquet_frames(path, wanted, size) if path.suffix == PARQUET else _json_frames(path, types, size)
        for frame in frames:
            rows = pl.int_range(begin + 1, begin + len(frame) + 1, dtype=pl.Int64)
            begin += len(frame)
            yield as_schema(frame, types).select(*wanted, pl.lit(path.name).alias("_file"), rows.alias("_row"))


def read_frames(directory: Path, columns: Sequence[str], shards: int) -> Iterator[pl.DataFrame]:
    """Some columns of a step's output in order, so many shards at a time; at least one frame."""
    paths = sorted(directory.glob("*.parquet"))
    if not paths:
        raise UserError(f"{directory} holds no *.parquet; run the step that makes it")
    for begin in range(0, len(paths), shards):
        yield pl.concat([pl.read_parquet(path, columns=list(columns)) for path in paths[begin : begin + shards]])


def read_rows(source: str, split: str, remedy: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of local files, or of a `split` of a Hub dataset, as it is, with its place.

    Raises UserError if there are none (with `remedy`, see `files_at`), or for a file or a line that can't be read.
    """
    if is_hub_id(source):
        for number, row in enumerate(load_rows(source, split, remedy), 1):
            yield place_of(source, number), row
        return
    for path in files_at(source, remedy):
        for number, row in _parquet_rows(path) if path.suffix == PARQUET else _json_rows(path):
            yield place_of(str(path), number), row


def load_rows(source: str, split: str, remedy: str) -> Dataset:
    """The rows of local files, or of a `split` of a Hub dataset, as a memory-mapped `Dataset`.

    Raises UserError if there are none (with `remedy`, see `files_at`) or they can't be loaded.
    """
    from datasets import Dataset, load_dataset

    files = None if is_hub_id(source) else files_at(source, remedy)
    try:
        if files is None:
            return load_dataset(source, split=split)
        kind = "parquet" if files[0].suffix == PARQUET else "json"
        for path in files if kind == "json" else ():
            deque(read_lines(path), maxlen=0)
        if kind == "parquet" and not any(pq.ParquetFile(path).metadata.num_rows for path in files):
            return Dataset(pq.read_table(files[0]))  # the library reads no rows in batches of none
        return load_dataset(kind, data_files=[str(path) for path in files], split="train")
    except UserError:
        raise
    except Exception as error:  # the library raises anything from ValueError to ConnectionError here
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        problem = f"is neither a path nor a Hub dataset with a `{split}` split" if files is None else "can't be read"
        raise UserError(f"{source} {problem} ({reason}): {remedy}") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever the readers and Python raise over the bytes of a parquet file, as a UserError."""
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is not a parquet file, or is damaged ({error}): write it again") from None


def _parquet_batches(path: Path, size: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file in batches, their buffers checked: what reads them trusts offsets and UTF-8."""
    for batch in pq.ParquetFile(path).iter_batches(size, columns=columns):
        batch.validate(full=True)
        yield batch


def _parquet_frames(path: Path, columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
    with _reading(path):
        names = pq.ParquetFile(path).schema_arrow.names
        sources = {*columns, *(PUBLISHED[name] for name in columns if name in PUBLISHED)}
        present = [name for name in names if name in sources] or names[:1]  # one column, to count the rows
        for batch in _parquet_batches(path, size, present):
            yield pl.DataFrame(pa.Table.from_batches([batch]))


def _json_frames(path: Path, types: Types, size: int) -> Iterator[pl.DataFrame]:
    rows = (row for _, row in _json_rows(path, blank_lines=False))
    while batch := list(islice(rows, size)):
        yield json_frame(batch, types)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _reading(path):
        yield from enumerate((row for batch in _parquet_batches(path, BATCH) for row in batch.to_pylist()), 1)


def _json_rows(path: Path, blank_lines: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every object with the number of its line; `blank_lines` are skipped, or else refused."""
    for number, line in read_lines(path):
        if line.strip() or not blank_lines:
            yield number, _object(line, f"{path}:{number}")


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except UnicodeError:
        raise UserError(f"{place} is not UTF-8 text: write the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}): write one object a line") from None
    if not isinstance(row, dict):
        raise UserError(f"{place} is {type(row).__name__}, not an object: write one object a line")
    return row
