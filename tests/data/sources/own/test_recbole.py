"""RecBole atomic files: what is read, what is dropped, and that a bad line is named by file and line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
import raw_shop
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.sources.own.columns import OwnLog
from usermirrorer.data.sources.own.recbole import read_recbole
from usermirrorer.errors import UserError


FILES = {
    "s.inter": (
        b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        b"u1\t0012\t5.0\t1700000000\nu2\t7\t\t1700000100.0\n"
    ),
    "s.item": b'item_id:token\ttitle:token_seq\tprice:float\n0012\tA "quoted" thing\t12.5\n7\tB\t\n',
    "s.user": b"user_id:token\tage:float\nu1\t30\nu2\t\n",
}  # fmt: skip
LOG = OwnLog(
    name="s", files="s", items={"title": "any", "price": "number"}, users={"age": "any"},
    event_columns={"rating": "number"},
)  # fmt: skip


def read(raw: Path, log: OwnLog = LOG, **changed: bytes):
    for name, content in {**FILES, **changed}.items():
        (raw / name).write_bytes(content)
    return read_recbole(raw, 0, log)


def test_columns_are_read_as_they_are_typed(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.items.rows() == [("0012", 'A "quoted" thing', 12.5), ("7", "B", None)]
    assert tables.users.rows() == [("u1", 30), ("u2", None)]
    # whole numbers are integers, so that a prompt shows 5/5 and not 5.0/5
    assert tables.interactions.select("user_id", "item_id", "rating", "timestamp").rows() == [
        ("u1", "0012", 5, 1_700_000_000_000), ("u2", "7", None, 1_700_000_100_000)
    ]  # fmt: skip
    assert tables.interactions.schema["rating"] == pl.Int64


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    log = OwnLog(
        name="s", files="s", items={"title": "any"}, event_columns={"stars": "number"},
        renamed={"user_id": "uid", "timestamp": "when", "stars": "rating", "title": "name", "available_from": "out"},
    )  # fmt: skip
    tables = read(
        tmp_path, log, **{
            "s.inter": b"rating:float\twhen:token\titem_id:token\tuid:token\n5\t2024-01-31\t7\tu1\n",
            "s.item": b"name:token\titem_id:token\tout:token\nB\t7\t2023-01-01\n",
            "s.user": b"uid:token\nu1\n",
        },
    )  # fmt: skip
    assert tables.interactions.select("user_id", "item_id", "stars", "timestamp").row(0) == (
        "u1", "7", 5, 1_706_659_200_000
    )  # fmt: skip
    assert tables.items.row(0) == ("7", "B", 1_672_531_200_000)


def test_files_of_another_system(tmp_path: Path) -> None:
    plain = read(tmp_path)
    files = {name: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") for name, content in FILES.items()}
    marked = read(tmp_path, **files)
    assert marked.items.equals(plain.items) and marked.interactions.equals(plain.interactions)


def test_users_are_those_of_the_log_without_a_file_of_users(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "s.user").unlink()
    tables = read_recbole(tmp_path, 0, OwnLog(name="s", files="s", items={"title": "any"}))
    assert tables.users.rows() == [("u1",), ("u2",)]
    with pytest.raises(UserError, match="s.user is missing"):
        read_recbole(tmp_path, 0, LOG)


def test_an_item_without_known_values_is_dropped_and_counted(tmp_path: Path) -> None:
    tables = read(tmp_path, **{"s.item": FILES["s.item"] + b"8\t \t\n"})
    assert tables.items["item_id"].to_list() == ["0012", "7"]
    assert tables.dropped == {"item_with_nothing_to_show": 1}


def test_an_event_without_a_time_is_undated(tmp_path: Path) -> None:
    tables = read(tmp_path, **{"s.inter": FILES["s.inter"] + b"u1\t7\t3\t\n"})
    assert tables.interactions["timestamp"].to_list()[-1] is None


def test_the_fixture(tmp_path: Path) -> None:
    from usermirrorer.data.sources.own.domain_yaml import load_yaml_domain

    raw_shop.write_recbole(tmp_path)
    tables = load_yaml_domain(tmp_path / "shop.yaml").read(tmp_path, 0)
    assert (len(tables.users), len(tables.items), len(tables.interactions)) == (40, 60, 603)
    assert tables.items["available_from"].null_count() == 12
    assert tables.dropped == {"item_with_nothing_to_show": 1}


HEADER = FILES["s.inter"].partition(b"\n")[0] + b"\n"


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("s.inter", HEADER + b"u1\t7\t5\t1700000000\nu1\t7\t5\n", "s.inter:3"),
        ("s.inter", HEADER + b"u1\t7\tfive\t1700000000\n", "s.inter:2"),
        ("s.inter", HEADER + b"u1\t7\tnan\t1700000000\n", "s.inter:2"),
        ("s.inter", HEADER + b"u1\t7\t5\tyesterday\n", "s.inter:2"),
        ("s.inter", HEADER + b"u1\t7\t5\tinf\n", "s.inter:2"),
        ("s.inter", HEADER + b"u1\t7\t5\t1700000000\n\t7\t5\t1700000000\n", "s.inter:3"),
        ("s.inter", HEADER + b"u1\t7\t5\t1700000000\n\xff\t7\t5\t1700000000\n", "s.inter:3"),
        ("s.inter", HEADER + b"u1\t7\t5\t1700000000\nu1\t7\t5\t20240131\n", "s.inter:3"),
        ("s.inter", HEADER, "s.inter"),
        ("s.inter", b"", "s.inter:1"),
        ("s.inter", b"user_id\titem_id\n", "s.inter:1"),
        ("s.inter", HEADER.replace(b"rating:float", b"rating:number"), "s.inter:1"),
        ("s.inter", HEADER.replace(b"rating:float", b"item_id:token"), "s.inter:1"),
        ("s.inter", HEADER.replace(b"rating", b"stars") + b"u1\t7\t5\t1700000000\n", "s.inter"),
        ("s.item", FILES["s.item"] + b"7\tC\t1\n", "s.item:4"),
        ("s.item", FILES["s.item"] + b"8\tC\tcheap\n", "s.item:4"),
        ("s.user", FILES["s.user"] + b"u1\t7\n", "s.user:4"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **{file: content})
    assert str(tmp_path / place) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    log = OwnLog(name="s", files="s", items={"titel": "any"})
    with pytest.raises(UserError, match=r"s\.item.*titel.*did you mean title"):
        read(tmp_path, log)


@pytest.mark.parametrize("column", ["price:float", "price:token"])
def test_a_number_that_is_shown_must_be_declared(tmp_path: Path, column: str) -> None:
    files = {"s.item": f"item_id:token\ttitle:token\t{column}\n0012\tA\t5\n7\tB\t12.5\n".encode()}
    log = OwnLog(name="s", files="s", items={"title": "any", "price": "any"})
    with pytest.raises(UserError, match=r"numbers: \[price\]"):
        read(tmp_path, log, **files)


def test_a_code_with_a_leading_zero_is_not_a_number(tmp_path: Path) -> None:
    files = {"s.item": b"item_id:token\ttitle:token\n0012\t0815\n7\t4711\n"}
    tables = read(tmp_path, OwnLog(name="s", files="s", items={"title": "any"}), **files)
    assert tables.items["title"].to_list() == ["0815", "4711"]


@pytest.mark.slow
@given(data=st.data(), file=st.sampled_from(sorted(FILES)))
@settings(max_examples=150)
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, file: str) -> None:
    garbage = st.binary(max_size=60) | st.text(alphabet="u17\t\n:.-e token", max_size=60).map(str.encode)
    head, _, rest = FILES[file].partition(b"\n")
    content = data.draw(garbage) if data.draw(st.booleans()) else head + b"\n" + data.draw(garbage) + b"\n" + rest
    with tempfile.TemporaryDirectory() as raw:
        try:
            tables = read(Path(raw), **{file: content})
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions.schema["timestamp"] == pl.Int64
