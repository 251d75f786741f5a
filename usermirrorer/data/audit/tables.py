"""Checks of the cleaned log and of the item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import SHOWN, BadRow, Check, Rule, apply, checked, tallies


COLUMNS: dict[str, dict[str, Any]] = {
    "users": {"user_id": pl.String},
    "items": {"item_id": pl.String, "available_from": pl.Int64, "text": pl.String},
    "interactions": {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64},
    "impressions": {
        "impression_id": pl.String,
        "user_id": pl.String,
        "timestamp": pl.Int64,
        "items": pl.List(pl.String),
        "clicked": pl.List(pl.String),
    },
    "friends": {"user_id": pl.String, "friend_id": pl.String},
    "item_statistics": {"item_id": pl.String, "timestamp": pl.Int64},
    "item_labels": {"item_id": pl.String, "timestamp": pl.Int64, "label": pl.String},
}
NEEDED = ("users", "items", "interactions")

BATCH = 65_536

ORDER = ("timestamp", "user_id", "item_id")
ABOVE = {column: f"_{column}_above" for column in ORDER}


def check_tables(artefact: Artefact) -> list[Check]:
    """Columns, ids, order and times of the tables, and where the windows begin."""
    name = artefact.name
    tables = {path.stem: path for path in artefact.files}
    bad = [BadRow(f"{table}.parquet", "", "is missing") for table in NEEDED if table not in tables]
    for table, path in tables.items():
        given = dict(pl.read_parquet_schema(path))
        wanted = COLUMNS.get(table, {})
        bad += [
            BadRow(path.name, "", f"`{column}` is {given.get(column, 'missing')}, it should be {kind}")
            for column, kind in wanted.items()
            if given.get(column) != kind and not (column == "available_from" and given.get(column) is not None)
        ]
    checks = [Check(name, "schema", "failed" if bad else "ok", f"{len(tables)} tables", tuple(bad[:SHOWN]))]
    if bad:
        return checks
    known = {}
    for table, column in (("users", "user_id"), ("items", "item_id")):
        ids = pl.read_parquet(tables[table], columns=[column])[column]
        known[column] = ids.unique()
        twice = ids.filter(ids.is_duplicated()).unique().sort()
        wrong = [BadRow(tables[table].name, "", f"{column} {value!r} stands twice") for value in twice.head(SHOWN)]
        missing = int((ids.fill_null("") == "").sum())
        wrong += [BadRow(tables[table].name, "", f"{missing:,} rows without {column}")] if missing else []
        checks.append(Check(name, f"{table} ids", "failed" if wrong else "ok", f"{len(ids):,} rows", tuple(wrong)))
    return [*checks, *_events(name, tables["interactions"], known), _windows(artefact, tables["interactions"])]


def check_embeddings(artefact: Artefact) -> list[Check]:
    """One vector an item, all as wide, finite, of unit length or zero."""
    name, width = artefact.name, (artefact.content or {}).get("width")
    tables = artefact.beside("tables")
    items = pl.read_parquet(tables.path / "items.parquet", columns=["item_id"])["item_id"] if tables else None
    rows: list[BadRow] = []
    ids: list[pl.Series] = []
    bad = zero = 0
    for path in artefact.files:
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["item_id", "vector"]):
            frame = pl.DataFrame(batch)
            ids.append(frame["item_id"])
            lists = frame["vector"].cast(pl.List(pl.Float64))
            wide = lists.list.len() == width
            length = lists.list.eval(pl.element() ** 2).list.sum().sqrt()
            zero += int((length == 0).sum())
            right = (wide & (((length - 1).abs() < 1e-3) | (length == 0))).fill_null(False)
            bad += int((~right).sum())
            for item in frame.filter(~right)["item_id"].head(SHOWN - len(rows)):
                rows.append(BadRow(path.name, "", f"the vector of {item!r} is not of width {width} and length 1 or 0"))
    every = pl.concat(ids) if ids else pl.Series(dtype=pl.String)
    told = f"{len(every):,} vectors, {width} wide, {zero:,} of items without a known word"
    checks = [Check(name, "vectors", "failed" if bad else "ok", told, tuple(rows))]
    if items is None:
        return [*checks, Check(name, "items", "skipped", "there are no tables beside it")]
    same = every.equals(items)
    told = (
        f"those of the tables, {len(items):,}, in their order"
        if same
        else "others than the tables', or in another order"
    )
    return [*checks, Check(name, "items", "ok" if same else "failed", told)]


def _events(name: str, path: Path, known: dict[str, pl.Series]) -> list[Check]:
    """Whether the events are of known users and items (other tables may name others), in order, and stand once."""
    rules = []
    for column, ids in known.items():
        unknown = ~pl.col(column).is_in(ids.implode()).fill_null(False)
        rules.append(Rule(f"{path.stem} ids", unknown, pl.format(f"{column} {{}} is in no table", column)))
    rules += _order_rules()
    counted = tallies(rules)
    begin, before = 0, None
    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=list(ORDER)):
        frame = pl.DataFrame(batch).select(ORDER)
        rows = pl.int_range(begin + 1, begin + len(frame) + 1, dtype=pl.Int64)
        above = pl.concat([before if before is not None else frame.clear(1), frame[:-1]])
        apply(
            rules, frame.with_columns(above.rename(ABOVE, strict=False), _file=pl.lit(path.name), _row=rows), counted
        )
        begin, before = begin + len(frame), frame[-1:]
    return checked(name, counted)


def _order_rules() -> list[Rule]:
    """Events stand by time, user and item: one that equals the event above it is there twice."""
    lower, same = pl.lit(False), pl.lit(True)
    for column, above in ABOVE.items():
        lower = lower | (same & (pl.col(column) < pl.col(above)))
        same = same & (pl.col(column) == pl.col(above))
    return [
        Rule("order", lower, pl.lit("comes before the event above it by time, user and item")),
        Rule("duplicates", same, pl.lit("is the event above it once more")),
    ]


def _windows(artefact: Artefact, path: Path) -> Check:
    """The shares of the events before and in each window."""
    name, cuts = artefact.name, (artefact.content or {}).get("cuts")
    if not cuts:
        return Check(name, "windows", "failed", "the manifest names no cut times")
    time = pl.col("timestamp")
    undated = (artefact.content or {}).get("undated", 0)  # the first events; the windows are shares of the others
    shares = pl.scan_parquet(path).slice(undated).select(
        before=(time < cuts["train"]).mean(),
        train=time.is_between(cuts["train"], cuts["test"] - 1).mean(),
        test=(time >= cuts["test"]).mean(),
    )  # fmt: skip
    row = shares.collect().row(0, named=True)
    told = f"{row['before']:.1%} of the events before the windows, {row['train']:.1%} train, {row['test']:.1%} test"
    told += f"; {undated:,} events undated" if undated else ""
    empty = cuts["train"] >= cuts["test"] or not row["test"]
    return Check(name, "windows", "failed" if empty else "ok", told)
