"""`validate` finds what is wrong with the cleaned log and the item vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from built import edit, edit_table
from films import EMBEDDINGS, TABLES, failed

from usermirrorer.data.audit.validate import validate


@pytest.mark.parametrize(
    ("table", "check", "change"),
    [
        ("users", "users ids", lambda f: pl.concat([f, f[:1]])),
        ("items", "interactions ids", lambda f: f[1:]),
        ("interactions", "order", lambda f: f.reverse()),
        ("interactions", "duplicates", lambda f: pl.concat([f[:1], f])),
        ("interactions", "schema", lambda f: f.drop("user_id")),
    ],
)
def test_a_spoilt_table_is_found(work: Path, table: str, check: str, change: Callable) -> None:
    edit_table(work / TABLES / f"{table}.parquet", change)
    assert (TABLES, check) in failed(validate(work / TABLES))


def test_vectors_that_are_not_the_items(work: Path) -> None:
    edit(work / EMBEDDINGS, lambda f: f.reverse())
    assert failed(validate(work / EMBEDDINGS)) == {(EMBEDDINGS, "items")}
