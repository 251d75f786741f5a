"""Amazon: three releases, the odd cases one by one, malformed files, and a scene as a person reads it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
import raw_amazon
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from raw_amazon import CATEGORY, DAY, START, item, item_2014, item_2018, review, review_2018, write_lines
from rendered import lines, rendered

from usermirrorer.data.sources import RawTables
from usermirrorer.data.sources.amazon import amazon
from usermirrorer.errors import UserError


def read_lines(raw: Path, reviews: list[dict], items: list[dict]) -> RawTables:
    write_lines(raw / f"{CATEGORY}.jsonl", reviews, json.dumps)
    write_lines(raw / f"meta_{CATEGORY}.jsonl", items, json.dumps)
    return amazon(CATEGORY).read(raw, 0)


def test_the_fixture(tmp_path: Path) -> None:
    raw_amazon.write(tmp_path)
    tables = amazon(CATEGORY).read(tmp_path, 0)
    assert len(tables.users) == 40
    assert len(tables.interactions) == 601, "one is of an item that is not listed: `prepare` drops it"
    assert len(tables.items) == 59, "one has no title, one was never reviewed"
    assert dict(tables.dropped) == {
        "review_without_id": 1, "review_without_time": 1, "repeated_review": 2, "item_without_title": 1,
        "repeated_item": 1,
    }  # fmt: skip


def test_2023(tmp_path: Path) -> None:
    tables = read_lines(tmp_path, [review(1, 3, 9)], [item(3)])
    assert tables.items.rows() == [
        ("B000000003", "Köln Pot 3, 1 Litre, Glass & Steel, with Lid …", "Kitchen > Tea > Pots 0", "$12.50")
    ]
    (event,) = tables.interactions.to_dicts()
    assert event == {
        "user_id": f"AE{1:026d}", "item_id": "B000000003", "timestamp": START + 9 * DAY + 7_922_123, "rating": 5.0,
        "summary": 'Five "Stars"',
        "review": "Pot 3 pours well, it's fine. More of the same. More of the same. More of the same.",
    }  # fmt: skip


@pytest.mark.parametrize("name", [f"{CATEGORY}.json.gz", f"{CATEGORY}_5.json.gz", f"{CATEGORY}.json"])
def test_2018(tmp_path: Path, name: str) -> None:
    write_lines(tmp_path / name, [review_2018(1, 1, 3), review_2018(1, 2, 3)], json.dumps)
    script = {**item_2018(2), "title": "var aPageStart = (new Date()).getTime();"}
    pictured = {**item_2018(3), "category": [], "asin": "0000000001"}
    write_lines(tmp_path / f"meta_{CATEGORY}.json.gz", [item_2018(1), script, pictured], json.dumps)
    tables = amazon(CATEGORY).read(tmp_path, 0)
    assert tables.items.rows() == [("0000000001", "Pot 1", "Kitchen > Tea > Pots & Pans", "$12.50")]
    assert tables.dropped["item_without_title"] == 1 and tables.dropped["repeated_item"] == 1
    assert tables.interactions.row(0) == ("A1", "0000000001", START + 3 * DAY, 4.0, "Good", 'Pours "well".')


def test_a_main_category_replaces_a_missing_path(tmp_path: Path) -> None:
    write_lines(tmp_path / f"{CATEGORY}.json", [review_2018(1, 1, 3)], json.dumps)
    write_lines(tmp_path / f"meta_{CATEGORY}.json", [{**item_2018(1), "category": []}], json.dumps)
    assert amazon(CATEGORY).read(tmp_path, 0).items["category"].to_list() == ["Fine Kitchen"]
    assert read_lines(tmp_path, [review(1, 2, 3)], [item(2)]).items["category"].to_list() == ["Office Products"]


def test_2014_meta_is_printed_python(tmp_path: Path) -> None:
    write_lines(tmp_path / f"reviews_{CATEGORY}_5.json.gz", [review_2018(1, 1, 3)], json.dumps)
    write_lines(tmp_path / f"meta_{CATEGORY}.json.gz", [item_2014(1)], repr)
    tables = amazon(CATEGORY).read(tmp_path, 0)
    assert tables.items.rows() == [("0000000001", 'Pot 1: the potter\'s "best"', "Kitchen > Tea", "$7.00")]


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (12, "$12.00"), ("$1,204.90", "$1204.90"), ("from 14.99", "from $14.99"), ("$4.00 - $7.5", "$4.00 - $7.50"),
        ("None", None), ("", None), (None, None), (".a-box-inner{background-color:#fff}", None), ("—", None),
    ],
)  # fmt: skip
def test_prices(tmp_path: Path, price: object, shown: str | None) -> None:
    assert read_lines(tmp_path, [review(0, 0, 0)], [{**item(0), "price": price}]).items["price"].to_list() == [shown]


def test_the_first_review_of_an_item_stays(tmp_path: Path) -> None:
    tables = read_lines(
        tmp_path, [{**review(0, 0, 9), "text": "later"}, {**review(0, 0, 2), "text": "first"}], [item(0)]
    )
    assert tables.interactions["review"].to_list() == ["first"]


def test_min_rating_keeps_no_review_without_a_rating() -> None:
    ratings = pl.DataFrame({"rating": [5.0, 3.0, None, 4.0]})
    kept = ratings.select(x=amazon(CATEGORY).choice_rules["min_rating"](4))["x"]
    assert kept.to_list() == [True, False, False, True]


def test_all_files_that_are_read_are_declared(tmp_path: Path) -> None:
    raw_amazon.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= set(amazon(CATEGORY).raw_files)


def test_a_missing_file_and_a_bad_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{CATEGORY}\.jsonl\.gz is missing"):
        amazon(CATEGORY).read(tmp_path, 0)
    write_lines(tmp_path / f"{CATEGORY}.json", [review_2018(1, 1, 3)], json.dumps)
    with pytest.raises(UserError, match=rf"meta_{CATEGORY}\.json\.gz is missing.*your_own_log\.md$") as error:
        amazon(CATEGORY).read(tmp_path, 0)
    assert "\n" not in str(error.value)
    for name in ("", "../up", "Tea Pots"):
        with pytest.raises(UserError, match="Office_Products"):
            amazon(name)


@pytest.mark.parametrize(
    ("file", "line"), [("Tea_Pots.jsonl", b'{"rating": "good"}'), ("meta_Tea_Pots.jsonl", b'{"categories": 7}')]
)
def test_a_bad_line_is_named(tmp_path: Path, file: str, line: bytes) -> None:
    read_lines(tmp_path, [review(0, 0, 0)], [item(0)])
    with (tmp_path / file).open("ab") as content:
        content.write(b"\n" + line)
    with pytest.raises(UserError, match=rf"{file}:3: "):
        amazon(CATEGORY).read(tmp_path, 0)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data())
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject) -> None:
    files = {
        f"{CATEGORY}.json": [review_2018(1, 1, 3), review_2018(2, 1, 3)],
        f"meta_{CATEGORY}.json": [item_2018(1), item_2018(2)],
    }
    contents = {name: "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in files.items()}
    file = data.draw(st.sampled_from(sorted(contents)))
    contents[file] = data.draw(damaged(contents[file]))
    with tempfile.TemporaryDirectory() as raw:
        for name, content in contents.items():
            (Path(raw) / name).write_bytes(content)
        try:
            tables = amazon(CATEGORY).read(Path(raw), 0)
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.items["item_id"].n_unique() == len(tables.items)
            assert tables.interactions["timestamp"].is_between(0, 2**33 * 1000).all()


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_amazon.write(tmp_path)
    text = rendered(
        f"amazon:{CATEGORY}", tmp_path, tmp_path / "work", f"AE{8:026d}", START + 200 * DAY,
        ["B000000002", "B000000004"], 2,
    )  # fmt: skip
    assert lines(text) == (
        "reviewed 13 days ago: Köln Pot 11, 1 Litre, Glass & Steel, with Lid … | Kitchen > Tea > Pots 2 | rating: "
        "5/5 | "
        'review: Five "Stars" | Pot 11 pours well, it\'s fine. More of the same. More of the same. More of the same. '
        "More of the same. More of the same. More of the same. …\n"
        "reviewed 5 days ago: Köln Pot 1, 1 Litre, Glass & Steel, with Lid … | Kitchen > Tea > Pots 1 | rating: 5/5 | "
        'review: Five "Stars" | Pot 1 pours well, it\'s fine. More of the same.\n\n'
        "Köln Pot 2, 1 Litre, Glass & Steel, with Lid … | Office Products | rated 3.1/5 | 29 reviews\n"
        "Köln Pot 4, 1 Litre, Glass & Steel, with Lid … | Kitchen > Tea > Pots 1 | rated 2.7/5 | 22 reviews"
    )
