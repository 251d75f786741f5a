"""MobileRec: quoted reviews, the odd cases one by one, malformed files, and a scene as a person reads it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
import raw_mobilerec
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import damaged
from raw_mobilerec import APP_COLUMNS, COLUMNS, app, review, write_records
from rendered import lines, rendered

from usermirrorer.data.sources import RawTables
from usermirrorer.data.sources.mobilerec import INTERACTIONS, META, MOBILEREC, read
from usermirrorer.errors import UserError


DAY = 86_400_000
START = 1_548_979_200_000
"""1 February 2019, UTC, in ms."""


def read_records(raw: Path, reviews: list[dict], apps: list[dict]) -> RawTables:
    write_records(raw / INTERACTIONS, COLUMNS, reviews)
    write_records(raw / META, APP_COLUMNS, apps)
    return read(raw, 0)


def test_the_fixture(tmp_path: Path) -> None:
    raw_mobilerec.write(tmp_path)
    tables = read(tmp_path, 0)
    assert len(tables.users) == 40 and len(tables.items) == 60
    assert len(tables.interactions) == 601, "one is of an app that is not listed: `prepare` drops it"
    assert dict(tables.dropped) == {
        "review_without_id": 1, "review_without_day": 1, "repeated_review": 2, "app_without_name": 1,
        "repeated_app": 1,
    }  # fmt: skip


def test_a_review_of_several_lines_is_one_line(tmp_path: Path) -> None:
    (event,) = read_records(tmp_path, [review(5, 3, 17)], [app(3)]).interactions.to_dicts()
    assert event == {
        "user_id": "u000000000000005", "item_id": "com.made.up3", "timestamp": START + 17 * DAY, "rating": 4.0,
        "review": 'Not bad, says "5". The second line, with a comma',
    }  # fmt: skip


def test_apps(tmp_path: Path) -> None:
    items = read_records(tmp_path, [review(5, 3, 17)], [app(number) for number in (1, 2, 4, 5)]).items
    rows = {row["item_id"].removeprefix("com.made.up"): row for row in items.to_dicts()}
    assert rows["1"]["developer_name"] is None and rows["2"]["developer_name"] == "Studio 2, Inc."
    assert [rows[number]["price"] for number in "124"] == ["Free", "$3.99", "Free"]
    assert rows["1"]["store_reviews"] == 1_234_567 and rows["1"]["store_rating"] == 4.3
    assert rows["5"]["store_reviews"] is None and rows["5"]["store_rating"] is None
    assert rows["4"]["description"] is None and rows["1"]["description"].endswith(" …")


@pytest.mark.parametrize("rating", ["", "0", "6", "good", "nan"])
def test_a_rating_outside_of_the_scale_is_unknown(tmp_path: Path, rating: str) -> None:
    events = read_records(tmp_path, [{**review(1, 3, 0), "rating": rating}], [app(3)]).interactions
    assert events["rating"].to_list() == [None]
    assert events.select(MOBILEREC.choice_rules["min_rating"](1)).to_series().to_list() == [False]


def test_a_file_saved_again_with_an_index_is_read_alike(tmp_path: Path) -> None:
    raw_mobilerec.write(tmp_path)
    whole = read(tmp_path, 0)
    for file in (INTERACTIONS, META):
        frame = pl.read_csv(tmp_path / file, infer_schema=False)
        frame.with_row_index("").write_csv(tmp_path / file)
    again = read(tmp_path, 0)
    assert again.items.equals(whole.items) and again.interactions.equals(whole.interactions)


@pytest.mark.parametrize("file", [INTERACTIONS, META])
def test_damage_and_a_missing_file_are_named(tmp_path: Path, file: str) -> None:
    read_records(tmp_path, [review(5, 3, 17)], [app(3)])
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole + b"1,2,3,4,5,6,7,8,9,10,11\n")
    with pytest.raises(UserError, match=rf"{file}:{whole.count(bytes([10])) + 1}: "):
        read(tmp_path, 0)
    (tmp_path / file).write_bytes(whole.partition(b"\n")[2])
    with pytest.raises(UserError, match=rf"{file}:1: the header"):
        read(tmp_path, 0)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        read(tmp_path, 0)


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data(), file=st.sampled_from([INTERACTIONS, META]))
def test_garbage_gives_rows_or_one_sentence(data: st.DataObject, file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        read_records(raw, [review(5, 3, 17), review(1, 3, 18)], [app(3), app(4)])
        content = (raw / file).read_bytes()
        content = data.draw(damaged(content))
        (raw / file).write_bytes(content)
        try:
            tables = read(raw, 0)
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.items["item_id"].n_unique() == len(tables.items)
            assert tables.interactions["timestamp"].null_count() == 0


def test_a_scene_reads_well(tmp_path: Path) -> None:
    raw_mobilerec.write(tmp_path)
    text = rendered(
        "mobilerec", tmp_path, tmp_path / "work", f"u{8:015d}", START + 200 * DAY, ["com.made.up5", "com.made.up4"], 2
    )
    assert lines(text) == (
        "reviewed 14 days ago: Äpp 11 | Health & Fitness | by Studio 5, Inc. | Everyone | Äpp 11 counts your steps. "
        "It "
        "counts them every day, at home and on the way. It counts them every … | rating: 5/5 | review: Äpp 11 "
        "works, but "
        "it could be faster.\n"
        "reviewed 6 days ago: Äpp 1 | Tools | Everyone | Äpp 1 counts your steps. It counts them every day, at home "
        "and "
        "on the way. It counts them every … | rating: 5/5 | review: Äpp 1 works, but it could be faster.\n\n"
        "Äpp 5 | Health & Fitness | by Studio 5, Inc. | Everyone | Äpp 5 counts your steps. It counts them every "
        "day, at "
        "home and on the way. It counts them every … | rated 3.0/5 | 22 reviews\n"
        "Äpp 4 | Tools | by Studio 4, Inc. | Everyone | rated 2.7/5 | 22 reviews"
    )


def test_end_of_crawl_values_are_shown_on_request(tmp_path: Path) -> None:
    raw_mobilerec.write(tmp_path)
    (option,) = rendered(
        "mobilerec", tmp_path, tmp_path / "work", f"u{8:015d}", START + 200 * DAY, ["com.made.up2"], 1, snapshot=True
    )["action_list"]
    assert "| Everyone | $3.99 | 4.3/5 in the store | 1,234,567 reviews in the store |" in option
