"""Your own tables as they are: the same log from CSV, TSV, JSON lines and Parquet; what is odd is kept or named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.sources import load_domain
from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.domain_yaml import parse_yaml_domain
from usermirrorer.data.sources.own.table_files import read_table
from usermirrorer.errors import UserError


EVENTS = (
    b"user,item,time,stars\n"
    b"0007,0012,2024-03-09 18:05:00,5\n"
    b"0007,31,2024-03-11T07:40:13+01:00,\n"
    b"k\xc3\xb6nig,0012,2024-03-12,4\n"
)
ITEMS = b"""item,name,price,listed
0012,"Cup ""No. 12"", blue
with a line break",7.50,2023-11-02
31,Notebook \xe2\x98\x95,,
"""
YAML: dict[str, Any] = {
    "name": "shop", "format": "table", "tables": {"events": "events.csv", "items": "items.csv"}, "event": "bought",
    "item": "{name}<, {price:.2f} EUR>", "history": "{event} {item}, {time_diff}<: {stars}/5>",
    "columns": {"user_id": "user", "item_id": "item", "timestamp": "time", "available_from": "listed"},
}  # fmt: skip
MARCH_9 = 1_710_007_500_000


def read(raw: Path, files: dict[str, bytes] | None = None, **changed: Any) -> RawTables:
    for name, content in {"events.csv": EVENTS, "items.csv": ITEMS, **(files or {})}.items():
        (raw / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return parse_yaml_domain(yaml.safe_dump({**YAML, **changed}), "shop.yaml").read(raw, 0)


def refused(raw: Path, files: dict[str, bytes] | None = None, **changed: Any) -> str:
    with pytest.raises(UserError) as error:
        read(raw, files, **changed)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_csv_is_read_as_it_is(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.interactions.select("user_id", "item_id", "timestamp", "stars").rows() == [
        ("0007", "0012", MARCH_9, "5"),
        ("0007", "31", 1_710_139_213_000, None),
        ("könig", "0012", 1_710_201_600_000, "4"),
    ]
    assert tables.items.rows() == [
        ("0012", 'Cup "No. 12", blue\nwith a line break', 7.5, 1_698_883_200_000),
        ("31", "Notebook ☕", None, None),
    ]
    assert tables.users["user_id"].to_list() == ["0007", "könig"]
    assert tables.files == {"users": "events.csv", "items": "items.csv", "interactions": "events.csv"}


def test_a_line_break_in_a_title_is_a_space_in_the_tables(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(YAML))
    # without --raw, the files are beside the YAML
    prepare(str(tmp_path / "shop.yaml"), None, tmp_path / "work")
    items = pl.read_parquet(tmp_path / "work" / "tables" / "shop" / "items.parquet")
    assert items["text"][0] == 'Cup "No. 12", blue with a line break, 7.50 EUR'
    # by its name alone, nothing says where the files are
    assert load_domain("shop", tmp_path / "work").home is None


def as_rows(content: bytes) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def in_format(content: bytes, form: str, place: Path) -> None:
    rows = as_rows(content)
    text = io.StringIO()
    if form in ("csv", "csv.gz", "semicolons.csv", "tsv", "tsv.gz"):
        separator = ";" if "semi" in form else "\t" if "tsv" in form else ","
        writer = csv.DictWriter(text, rows[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
        content = b"\xef\xbb\xbf" + text.getvalue().encode()
    elif form in ("jsonl", "jsonl.gz"):
        content = "\n".join(json.dumps({k: v for k, v in row.items() if v}) for row in rows).encode()
    else:
        frame = pl.DataFrame(rows).with_columns(pl.all().replace("", None))
        if "time" in frame.columns:
            times = [datetime(2024, 3, 9, 18, 5), datetime(2024, 3, 11, 6, 40, 13), datetime(2024, 3, 12)]
            frame = frame.with_columns(
                time=pl.Series(times, dtype=pl.Datetime("us")), stars=pl.col("stars").cast(float)
            )
        else:
            frame = frame.with_columns(
                listed=pl.Series([date(2023, 11, 2), None]), price=pl.Series([7.5, None]).cast(pl.Decimal(9, 2))
            )
        frame.write_parquet(place)
        return
    place.write_bytes(gzip.compress(content) if form.endswith(".gz") else content)


@pytest.mark.parametrize("form", ["csv.gz", "semicolons.csv", "tsv", "tsv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_format_gives_the_same_log(tmp_path: Path, form: str) -> None:
    plain = read(tmp_path)
    names = {"events": f"e.{form}", "items": f"i.{form}"}
    for content, name in ((EVENTS, names["events"]), (ITEMS, names["items"])):
        in_format(content, form, tmp_path / name)
    other = read(tmp_path, tables=names)
    assert other.interactions.equals(plain.interactions)
    assert other.items.equals(plain.items)


def test_numbers_of_parquet_as_ids(tmp_path: Path) -> None:
    zoned = datetime(2024, 3, 9, 18, 5, tzinfo=UTC)
    frame = pl.DataFrame({
        "user": [12.0, None, 7.0], "item": pl.Series([31, 12, 12], dtype=pl.UInt32), "time": [zoned] * 3,
        "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical), "seen": [True, False, None],
        "tags": [["x", "y"], [], None], "price": [1.5, float("nan"), 2.0],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "events.parquet")
    table = read_table(tmp_path / "events.parquet")
    assert table.rows() == [
        (1, "12", "31", "2024-03-09 18:05:00", "a", "true", "x, y", "1.5"),
        (2, None, "12", "2024-03-09 18:05:00", "b", "false", None, None),
        (3, "7", "12", "2024-03-09 18:05:00", "a", None, None, "2.0"),
    ]


def test_events_without_ids_are_left_out_and_counted(tmp_path: Path) -> None:
    tables = read(tmp_path, {
        "events.csv": EVENTS + b",0012,2024-03-09,5\n0007,,2024-03-09,5\n0007, ,2024-03-09,5\n",
        "items.csv": ITEMS + b",nameless,1,\n99,,,\n",
    })  # fmt: skip
    assert len(tables.interactions) == 3
    assert tables.dropped == {
        "event_without_user": 1, "event_without_item": 2, "item_without_id": 1, "item_with_nothing_to_show": 1
    }  # fmt: skip


def test_without_further_tables_the_events_say_what_is_known_first(tmp_path: Path) -> None:
    events = (
        b"user,item,time,name,town\n"
        b"a,1,2024-03-02,Cup (new name),Rome\n"
        b"a,1,2024-03-01,Cup,\n"
        b"b,2,2024-03-01,,Oslo\n"
        b"a,2,2024-03-03,Pot,Paris\n"
    )
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    tables = read(
        tmp_path, {"e.csv": events}, tables={"events": "e.csv"}, columns=columns, item="{name}",
        profile="Town: {town}", history="{event} {item}, {time_diff}",
    )  # fmt: skip
    assert sorted(tables.items.rows()) == [("1", "Cup"), ("2", "Pot")]
    assert sorted(tables.users.rows()) == [("a", "Rome"), ("b", "Oslo")]
    # items can be shown by their ids
    tables = read(tmp_path, {"e.csv": events}, tables={"events": "e.csv"}, columns=columns, item="no. {item_id}",
                  history="{event} {item}, {time_diff}")  # fmt: skip
    assert sorted(tables.items["item_id"]) == ["1", "2"]


def test_a_name_can_count_for_one_table(tmp_path: Path) -> None:
    files = {
        "events.csv": EVENTS.replace(b"item", b"product"), "items.csv": ITEMS.replace(b"item", b"id"),
        "users.csv": b"id,age\n0007,30\nk\xc3\xb6nig,\n",
    }  # fmt: skip
    columns = YAML["columns"] | {"item_id": "product", "items.item_id": "id", "users.user_id": "id"}
    tables = read(
        tmp_path, files, columns=columns, profile="Age: {age}",
        tables={"events": "events.csv", "items": "items.csv", "users": "users.csv"},
    )  # fmt: skip
    assert tables.items["item_id"].to_list() == ["0012", "31"]
    assert tables.users.rows() == [("0007", "30"), ("könig", None)]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("events.csv", b"", "events.csv:1: the file is empty"),
        ("events.csv", b"user,item,time,stars\n", "events.csv: there is no row"),
        ("events.csv", EVENTS.replace(b"stars", b"item"), "events.csv:1: the header names 'item' twice"),
        ("events.csv", EVENTS.replace(b"stars", b"line"), "names a column 'line', which is reserved"),
        ("events.csv", EVENTS.replace(b"time", b"when"), "events.csv: shop uses a column 'time', which is missing"),
        ("events.csv", EVENTS.replace(b"item", b"itm"), "did you mean itm?"),
        ("events.csv", EVENTS + b"a,1,yesterday,5\n", "events.csv:5: timestamp 'yesterday' is not a time"),
        ("events.csv", EVENTS + b'a,"1\n2",yesterday,5\na,1,tomorrow,5\n', "events.csv:5: timestamp 'yesterday'"),
        ("events.csv", EVENTS + b'a,"1\n2",2024-01-01,5\n\na,1,tomorrow,5\n', "events.csv:8: timestamp 'tomorrow'"),
        ("events.csv", EVENTS + b"a,1\xff,2024-01-01,5\n", "events.csv:5: not utf-8 text"),
        ("events.csv", EVENTS + b'a,"1,2024-01-01,5\n', "events.csv:5: a quote that opens"),
        ("events.csv", EVENTS + b"a,1,2024-01-01,5,6\n", "events.csv:5: "),
        ("items.csv", ITEMS + b"31,Again,1,\n", "items.csv:5: item_id '31' is not unique"),
        ("items.csv", ITEMS + b"32,Pot,cheap,\n", "items.csv:5: price 'cheap' is not a number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, file: str, content: bytes, told: str) -> None:
    assert told in refused(tmp_path, {file: content})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("e.xlsx", b"PK", "not a kind of table that can be read; export it as .csv"),
        ("e.parquet", b"PK", "not a Parquet file"),
        ("e.jsonl", b'{"user": 1}\nnonsense\n', "e.jsonl:2: not a JSON object"),
        ("e.jsonl", b"", "e.jsonl: there is no row"),
        ("e.csv.gz", b"", "e.csv.gz:1: the file is empty"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    assert told in refused(tmp_path, {name: content}, tables={"events": name, "items": "items.csv"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "users.csv is missing" in refused(tmp_path, tables=YAML["tables"] | {"users": "users.csv"})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tables": {"items": "items.csv"}}, "needs the file of the events"),
        ({"tables": {"events": "e.csv", "lists": "l.csv"}}, "'lists' is not one of events, items, users"),
        ({"files": "shop"}, "the files are named in `tables`"),
        ({"format": "recbole"}, "format: table, and no other"),
        ({"exposures": ["logged"]}, "'logged' is not one of"),
        ({"columns": {"basket.item_id": "x"}}, "nothing uses the name 'basket.item_id'"),
    ],
)
def test_a_yaml_that_means_nothing_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_yaml_domain(yaml.safe_dump({**YAML, **changed}), "shop.yaml")
    assert told in str(error.value)


CELL = st.text(st.sampled_from('a0", \n\té;'), max_size=5)


@given(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), separator=st.sampled_from(",;\t"))
@settings(max_examples=60)
def test_what_is_written_is_read_and_lines_are_counted(rows: list[tuple[str, str, str]], separator: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    begins, expected = [], []
    for row in [("a", "b", "c"), *rows]:
        begins.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
        expected.append((begins[-1], *(cell.strip() or None for cell in row)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("t.tsv" if separator == "\t" else "t.csv")
        path.write_bytes(text.getvalue().encode())
        filled = [row for row in expected[1:] if any(cell is not None for cell in row[1:])]
        try:
            assert [row for row in read_table(path).rows() if any(row[1:])] == filled
        except UserError as error:
            assert not filled and "no row" in str(error)


@pytest.mark.slow
@given(
    name=st.sampled_from(["events.csv", "items.csv", "e.jsonl", "e.parquet", "e.tsv"]),
    content=st.binary(max_size=60) | st.text('a0",\n{}:[]', max_size=60).map(str.encode),
)
@settings(max_examples=150)
def test_garbage_gives_rows_or_one_sentence(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as raw:
        tables = {"events": name if name[0] == "e" else "events.csv", "items": "items.csv"}
        try:
            found = read(Path(raw), {name: content}, tables=tables)
        except UserError as error:
            assert name in str(error) and "\n" not in str(error)
        else:
            assert found.interactions.schema["timestamp"] == pl.Int64
