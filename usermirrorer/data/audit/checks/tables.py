"""Checks of the cleaned log's tables and of the item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.reader import read_batches
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, verdict
from usermirrorer.data.audit.checks.rules import RowRules, Rule


COLUMNS: dict[str, dict[str, Any]] = {
    "users": {"user_id": pl.String},
    "items": {"item_id": pl.String, "available_from": pl.Int64, "text": pl.String},
    "interactions": {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64},
    "impressions": {
        "impression_id": pl.String, "user_id": pl.String, "timestamp": pl.Int64,
        "items": pl.List(pl.String), "clicked": pl.List(pl.String),
    },
    "friends": {"user_id": pl.String, "friend_id": pl.String},
    "item_statistics": {"item_id": pl.String, "timestamp": pl.Int64},
    "item_labels": {"item_id": pl.String, "timestamp": pl.Int64, "label": pl.String},
}  # fmt: skip
REQUIRED = ("users", "items", "interactions")

BATCH_ROWS = 65_536

ORDER = ("timestamp", "user_id", "item_id")
ABOVE = {column: f"_{column}_above" for column in ORDER}
"""Column -> the column with its value in the row above."""


def check_tables(artefact: Artefact) -> list[Check]:
    """Columns, ids, order and times of the tables, and where the windows begin."""
    name = artefact.name
    tables = {path.stem: path for path in artefact.files}
    schema = _check_columns(name, tables)
    if schema.result == "failed":
        return [schema]
    checks, known = [schema], {}
    for table, column in (("users", "user_id"), ("items", "item_id")):
        ids = pl.read_parquet(tables[table], columns=[column])[column]
        known[column] = ids.unique()
        repeated = ids.filter(ids.is_duplicated()).unique().sort().head(MAX_BAD_ROWS)
        bad = [BadRow(tables[table].name, "", f"{column} {value!r} occurs more than once") for value in repeated]
        missing = int((ids.fill_null("") == "").sum())
        bad += [BadRow(tables[table].name, "", f"{missing:,} rows without {column}")] if missing else []
        checks.append(Check(name, f"{table} ids", "failed" if bad else "ok", f"{len(ids):,} rows", tuple(bad)))
    events = tables["interactions"]
    return [*checks, *_check_events(name, events, known), _check_windows(artefact, events)]


def check_embeddings(artefact: Artefact) -> list[Check]:
    """One vector per item, all of one width, finite, and of length 1 or 0."""
    name, width = artefact.name, artefact.content.get("width")
    rows: list[BadRow] = []
    ids = [pl.Series(dtype=pl.String)]
    zero = 0
    for path in artefact.files:
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["item_id", "vector"]):
            frame = pl.DataFrame(batch)
            ids.append(frame["item_id"])
            vectors = frame["vector"].cast(pl.List(pl.Float64))
            length = vectors.list.eval(pl.element() ** 2).list.sum().sqrt()
            zero += int((length == 0).sum())
            right_width = vectors.list.len() == width
            right = (right_width & (((length - 1).abs() < 1e-3) | (length == 0))).fill_null(False)
            for item in frame.filter(~right)["item_id"].head(MAX_BAD_ROWS - len(rows)):
                rows.append(BadRow(path.name, "", f"the vector of {item!r} is not of width {width} and length 1 or 0"))
    all_ids = pl.concat(ids)
    summary = f"{len(all_ids):,} vectors of width {width}, {zero:,} of items without a known word"
    checks = [verdict(name, "vectors", rows, summary)]
    tables = artefact.beside("tables")
    if tables is None:
        return [*checks, Check(name, "items", "skipped", "no tables beside it")]
    items = pl.read_parquet(tables.path / "items.parquet", columns=["item_id"])["item_id"]
    if not all_ids.equals(items):
        return [*checks, Check(name, "items", "failed", "not the items of the tables in their order")]
    return [*checks, Check(name, "items", "ok", f"the {len(items):,} items of the tables in their order")]


def _check_columns(name: str, tables: dict[str, Path]) -> Check:
    """Whether the required tables are there and the known ones have the right columns."""
    bad = [BadRow(f"{table}.parquet", "", "is missing") for table in REQUIRED if table not in tables]
    for table, path in tables.items():
        types = dict(pl.read_parquet_schema(path))
        bad += [
            BadRow(path.name, "", f"`{column}` is {types.get(column, 'missing')}, it should be {expected}")
            for column, expected in COLUMNS.get(table, {}).items()
            if types.get(column) != expected and not (column == "available_from" and types.get(column) is not None)
        ]
    return verdict(name, "schema", bad, f"{len(tables)} tables")


def _check_events(name: str, path: Path, known: dict[str, pl.Series]) -> list[Check]:
    """Whether events are of known users and items (other tables may name others), in order, and distinct."""
    rules = []
    for column, ids in known.items():
        unknown = ~pl.col(column).is_in(ids.implode()).fill_null(False)
        rules.append(Rule(f"{path.stem} ids", unknown, pl.format(f"{column} {{}} is in no table", column)))
    row_rules = RowRules([*rules, *_order_rules()])
    last = None
    for frame in read_batches([path], pq.read_schema(path), ORDER, BATCH_ROWS):
        events = frame.select(ORDER)
        above = pl.concat([last if last is not None else events.clear(1), events[:-1]]).rename(ABOVE, strict=False)
        row_rules.add(frame.with_columns(above))
        last = events[-1:]
    return row_rules.checks(name)


def _order_rules() -> list[Rule]:
    """Events are sorted by time, user and item, so one that equals the event above it is a duplicate."""
    lower, same = pl.lit(False), pl.lit(True)
    for column, above in ABOVE.items():
        lower = lower | (same & (pl.col(column) < pl.col(above)))
        same = same & (pl.col(column) == pl.col(above))
    return [
        Rule("order", lower, pl.lit("sorts before the event above it by time, user and item")),
        Rule("duplicates", same, pl.lit("repeats the event above it")),
    ]


def _check_windows(artefact: Artefact, path: Path) -> Check:
    """The shares of the events before and in each window."""
    name, cuts = artefact.name, artefact.content.get("cuts")
    if not cuts:
        return Check(name, "windows", "failed", "the manifest names no cut times")
    time = pl.col("timestamp")
    undated = artefact.content.get("undated", 0)  # the first events; the windows are shares of the others
    shares = pl.scan_parquet(path).slice(undated).select(
        before=(time < cuts["train"]).mean(),
        train=time.is_between(cuts["train"], cuts["test"] - 1).mean(),
        test=(time >= cuts["test"]).mean(),
    )  # fmt: skip
    row = shares.collect().row(0, named=True)
    summary = f"{row['before']:.1%} of the events before the windows, {row['train']:.1%} train, {row['test']:.1%} test"
    summary += f"; {undated:,} events undated" if undated else ""
    empty = cuts["train"] >= cuts["test"] or not row["test"]
    return Check(name, "windows", "failed" if empty else "ok", summary)
