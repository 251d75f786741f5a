"""Rows of a finished step, one by one: what `decide` and `score` work through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


READ = 256
"""Rows that are read at a time."""


def read_rows(directory: Path, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Some columns of a step's output, row by row in order."""
    for part in sorted(directory.glob("*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(READ, columns=columns):
            yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)
