"""Interchange files: what is read, that what is written is read back, and that a bad line is named."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import raw_shop
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.ml_100k import ML_100K
from usermirrorer.data.sources.own.columns import OwnLog
from usermirrorer.data.sources.own.domain_yaml import load_yaml_domain, parse_yaml_domain
from usermirrorer.data.sources.own.interchange import read_interchange, write_interchange
from usermirrorer.errors import UserError


EVENT = {"user_id": "u1", "item_id": "7", "timestamp": "2024-01-31 18:05:00", "behavior_features": {"rating": 5.0}}
ITEM = {"item_id": "7", "item_description": {"title": "B"}, "item_features": {}}
USER = {"user_id": "u1", "user_description": {"town": "Rom"}, "user_features": {"age": 30}}
LIST = {"impression_id": 4, "user_id": "u1", "timestamp": 1_706_724_300, "items": [7, "0012"], "clicked": ["7"]}
LOG = OwnLog(
    name="s", files="s", items={"title": "any"}, users={"town": "any", "age": "any"},
    event_columns={"rating": "number"}, impressions=True,
)  # fmt: skip
TIME = 1_706_724_300_000


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FILES = {
    "s_interaction.jsonl": lines(EVENT),
    "s_item_feature.jsonl": lines(ITEM),
    "s_user_feature.jsonl": lines(USER),
    "s_impression.jsonl": lines(LIST),
}


def read(raw: Path, log: OwnLog = LOG, **changed: bytes) -> RawTables:
    for name, content in {**FILES, **{f"{name}.jsonl": content for name, content in changed.items()}}.items():
        (raw / name).write_bytes(content)
    return read_interchange(raw, 0, log)


def test_one_of_each(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.interactions.to_dicts() == [{"user_id": "u1", "item_id": "7", "timestamp": TIME, "rating": 5}]
    assert tables.interactions.schema["rating"] == pl.Int64
    assert tables.items.to_dicts() == [{"item_id": "7", "title": "B"}]
    assert tables.users.to_dicts() == [{"user_id": "u1", "town": "Rom", "age": 30}]
    assert tables.impressions is not None
    assert tables.impressions.to_dicts() == [
        {"impression_id": "4", "user_id": "u1", "timestamp": TIME, "items": ["7", "0012"], "clicked": ["7"]}
    ]


def test_ids_stay_strings(tmp_path: Path) -> None:
    ids = ["0012", 12, 9007199254740993, "é", "12 "]
    events = [{**EVENT, "item_id": item, "user_id": item} for item in ids]
    items = [{**ITEM, "item_id": item} for item in ids]
    tables = read(tmp_path, s_interaction=lines(*events), s_item_feature=lines(*items))
    wanted = ["0012", "12", "9007199254740993", "é", "12 "]
    assert tables.items["item_id"].to_list() == wanted
    assert tables.interactions["user_id"].to_list() == tables.interactions["item_id"].to_list() == wanted


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("2024-01-31 18:05:00", TIME), ("2024-01-31T18:05:00Z", TIME), ("2024-01-31T20:05:00+02:00", TIME),
        ("2024-01-31 18:05:00 UTC", TIME),
        ("2024-01-31T12:35:00-0530", TIME), ("2024-01-31 18:05:00.250", TIME + 250), ("2024-01-31 18:05", TIME),
        ("2024-01-31", TIME - 18 * 3_600_000 - 300_000), ("1956-01-01 00:00:00", -441_849_600_000),
        (1_706_724_300, TIME), ("1706724300", TIME), (1_706_724_300.5, TIME + 500), (TIME, TIME), (None, None),
        ("", None),
    ],
)  # fmt: skip
def test_times(tmp_path: Path, written: Any, ms: int | None) -> None:
    events = lines({**EVENT, "timestamp": written}, EVENT)
    assert read(tmp_path, s_interaction=events).interactions["timestamp"].to_list() == [ms, TIME]


@pytest.mark.parametrize(
    "written", ["2024-02-30", "31.01.2024", "2024-01-31 25:00:00", "2024-01-31 10:61", "noon", "nan"]
)
def test_what_is_not_a_time_is_named(tmp_path: Path, written: str) -> None:
    with pytest.raises(UserError, match=r"s_interaction\.jsonl:2.*is not a time"):
        read(tmp_path, s_interaction=lines(EVENT, {**EVENT, "timestamp": written}))


@pytest.mark.parametrize("numbers", [[20240131], [12, 13], [1_706_724_300, 1_706_724_300_000], [-5]])
def test_numbers_need_a_unit_unless_it_is_clear(tmp_path: Path, numbers: list[int]) -> None:
    events = lines(*({**EVENT, "timestamp": number} for number in numbers))
    with pytest.raises(UserError, match="`timestamps: s` or `timestamps: ms`"):
        read(tmp_path, s_interaction=events)
    scaled = read(tmp_path, OwnLog(name="s", files="s", items={}, timestamps="ms"), s_interaction=events)
    assert scaled.interactions["timestamp"].to_list() == numbers


def test_the_description_comes_before_the_features(tmp_path: Path) -> None:
    item = {
        "item_id": 7,
        "item_description": {"title": "shown"},
        "item_features": {"title": "not", "available_from": 1e9},
    }
    items = read(tmp_path, s_item_feature=lines(item)).items
    assert items.to_dicts() == [{"item_id": "7", "title": "shown", "available_from": 10**12}]


def test_lists_are_shown_with_commas_and_other_values_as_they_are(tmp_path: Path) -> None:
    items = [
        {"item_id": 1, "item_description": {"title": ["a", "b, c", None]}}, {"item_id": 2, "item_description": None},
        {"item_id": 3, "item_description": {"title": []}},
    ]  # fmt: skip
    tables = read(tmp_path, s_item_feature=lines(*items))
    assert tables.items.rows() == [("1", "a, b, c")]
    assert tables.dropped == {"item_with_nothing_to_show": 2}


def test_a_column_of_numbers_and_texts_is_text(tmp_path: Path) -> None:
    users = [{"user_id": n, "user_description": {"town": town, "age": 1}} for n, town in enumerate(["Rom", 12, 1.5])]
    assert read(tmp_path, s_user_feature=lines(*users)).users["town"].to_list() == ["Rom", "12", "1.5"]


def test_the_fixture(tmp_path: Path) -> None:
    raw_shop.write_interchange(tmp_path)
    raw_shop.write_recbole(tmp_path)
    market = load_yaml_domain(tmp_path / "market.yaml").read(tmp_path, 0)
    shop = load_yaml_domain(tmp_path / "shop.yaml").read(tmp_path, 0)
    # the same log in both formats is the same log
    assert market.items.equals(shop.items) and market.users.equals(shop.users)
    assert market.interactions.equals(shop.interactions.select(market.interactions.columns))
    assert market.dropped == shop.dropped == {"item_with_nothing_to_show": 1}


NAMES = st.sampled_from(["kind", "größe", "a b"])
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(lambda text: "t" + text)
TIMES = st.integers(-(10**12), 4 * 10**12)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> RawTables:
    users = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    items = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    count = draw(st.integers(1, 6))

    def column(values: st.SearchStrategy, length: int) -> list:
        return draw(st.lists(values, min_size=length, max_size=length))

    events = {
        "user_id": column(st.sampled_from(users), count),
        "item_id": column(st.sampled_from(items), count),
        "timestamp": [draw(TIMES), *column(st.none() | TIMES, count - 1)],
        "rating": column(st.none() | st.floats(allow_nan=False, allow_infinity=False), count),
    }
    more = {name: column(TEXTS, len(items)) for name in sorted(draw(st.sets(NAMES)))}
    lists = st.lists(st.sampled_from(items), max_size=4)
    return RawTables(
        users=pl.DataFrame({"user_id": users, "town": pl.Series(column(TEXTS, len(users)), dtype=pl.String)}),
        items=pl.DataFrame(
            {
                "item_id": items, "title": ["t"] * len(items), **more,
                "available_from": column(st.none() | TIMES, len(items)),
            },
            schema_overrides={"available_from": pl.Int64, **dict.fromkeys(more, pl.String)},
        ),
        interactions=pl.DataFrame(events, schema_overrides={"timestamp": pl.Int64, "rating": pl.Float64}),
        impressions=pl.DataFrame(
            {
                "impression_id": [str(number) for number in range(count)], "user_id": events["user_id"],
                "timestamp": column(TIMES, count), "items": column(lists, count), "clicked": column(lists, count),
            },
            schema_overrides={"items": pl.List(pl.String), "clicked": pl.List(pl.String)},
        ) if draw(st.booleans()) else None,
    )  # fmt: skip


@given(written=tables())
@settings(max_examples=60)
def test_what_is_written_is_read_back(written: RawTables) -> None:
    shown = [name for name in written.items.columns if name not in ("item_id", "available_from")]
    log = OwnLog(
        name="s", files="s", items=dict.fromkeys(shown, "any"), users={"town": "any"}, event_columns={"rating": "any"},
        impressions=written.impressions is not None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        write_interchange(written, Path(directory), "s")
        back = read_interchange(Path(directory), 0, log)
    for name in ("users", "items", "interactions", "impressions"):
        before, after = getattr(written, name), getattr(back, name)
        # a column without values has no type in JSON, and whole numbers come back as integers
        assert after.to_dicts() == before.to_dicts() if before is not None else after is None


def test_a_real_log_comes_back(test_data: Path, tmp_path: Path) -> None:
    films = ML_100K.read(test_data / "ml-100k", 0)
    write_interchange(films, tmp_path, "films")
    own = {
        "name": "films", "format": "interchange", "event": "rated", "item": "{title} - {genres}, {year}",
        "profile": ML_100K.profile, "history": ML_100K.history, "numbers": ["year"],
    }  # fmt: skip
    back = parse_yaml_domain(yaml.safe_dump(own), "films.yaml").read(tmp_path, 0)
    for name in ("items", "users", "interactions"):
        before, after = getattr(films, name), getattr(back, name)
        assert after.to_dicts() == before.select(after.columns).to_dicts()
    assert back.items["available_from"].null_count() == 1


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("s_interaction", lines(EVENT) + b"nonsense\n", "s_interaction.jsonl:2"),
        ("s_interaction", lines(EVENT, [1]), "s_interaction.jsonl:2"),
        ("s_interaction", lines(EVENT, {"user_id": "u1"}), "s_interaction.jsonl:2"),
        ("s_interaction", lines(EVENT, {**EVENT, "behavior_features": "x"}), "s_interaction.jsonl:2"),
        ("s_interaction", lines(EVENT, {**EVENT, "behavior_features": {"rating": "x"}}), "s_interaction.jsonl:2"),
        ("s_interaction", lines({**EVENT, "behavior_features": {"a": True}}, {**EVENT, "behavior_features": {"a": 1}}),
         "s_interaction.jsonl:2"),
        ("s_interaction", lines({**EVENT, "timestamp": None}), "s_interaction.jsonl"),
        ("s_interaction", b"", "s_interaction.jsonl"),
        ("s_interaction", b"\xff\xfe\n", "s_interaction.jsonl:1"),
        ("s_item_feature", lines(ITEM, ITEM), "s_item_feature.jsonl:2"),
        ("s_item_feature", lines({**ITEM, "item_description": {"name": "B"}}), "s_item_feature.jsonl"),
        ("s_item_feature", lines({**ITEM, "item_description": {"title": {"en": "B"}}}), "s_item_feature.jsonl"),
        ("s_item_feature", lines({**ITEM, "item_description": {"title": 12}}), "s_item_feature.jsonl"),
        ("s_item_feature", lines(ITEM, {**ITEM, "item_id": 8, "item_features": {"available_from": "soon"}}),
         "s_item_feature.jsonl:2"),
        ("s_user_feature", lines(USER, {**USER, "user_id": None}), "s_user_feature.jsonl:2"),
        ("s_impression", lines(LIST, {**LIST, "items": None}), "s_impression.jsonl:2"),
        ("s_impression", lines(LIST, {**LIST, "items": "7 12"}), "s_impression.jsonl:2"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, file: str, content: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, **{file: content})
    assert str(tmp_path / place) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    read(tmp_path)
    for file in FILES:
        (tmp_path / file).rename(tmp_path / "away")
        with pytest.raises(UserError, match=f"{file} is missing"):
            read_interchange(tmp_path, 0, LOG)
        (tmp_path / "away").rename(tmp_path / file)


VALUES = st.sampled_from(["title", "rating", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted({key for row in (EVENT, ITEM, USER, LIST) for key in row})


ROWS = st.lists(st.dictionaries(st.sampled_from(KEYS), JSON), max_size=4)


@pytest.mark.slow
@given(file=st.sampled_from(sorted(FILES)), rows=ROWS, tail=st.binary(max_size=30))
@settings(max_examples=150)
def test_garbage_gives_rows_or_one_sentence(file: str, rows: list[dict], tail: bytes) -> None:
    first = json.loads(FILES[file])
    content = lines(*({**first, **row} for row in rows)) + tail
    with tempfile.TemporaryDirectory() as raw:
        try:
            tables = read(Path(raw), **{file.removesuffix(".jsonl"): content})
        except UserError as error:
            assert file in str(error)
        else:
            assert tables.interactions.schema["timestamp"] == pl.Int64
