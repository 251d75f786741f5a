"""Scenes come from anywhere; an error names its place."""

from __future__ import annotations

import json
from datetime import datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import frame, scene

from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.data.artefacts.store import manifest_path
from usermirrorer.errors import UserError
from usermirrorer.eval.scenes import load_scenes, probe_of, sibling


def published(user: str = "0012", item: str = "7", position: int = 1, **changes) -> dict:
    """A row with the columns of the published evaluation file and no others."""
    text = {"action_list": ["a thing", "b thing", "c thing"], "history": "bought x", "profile": ""}
    row = {
        "text": text, "user_id": user, "item_id": item, "timestamp": "2015-03-01 12:00:00", "item_pos": position,
        "choice_cnt": 3, "dataset": "steam",
        "impression_list": [item if place == position else f"other {place}" for place in range(3)],
    }  # fmt: skip
    return {**row, **changes}


def write_jsonl(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_published_jsonl_and_parquet_give_the_same_scenes(tmp_path):
    rows = [published(), published("3", "8", 2)]
    from_jsonl, counts = load_scenes(write_jsonl(tmp_path / "eval.jsonl", rows))
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    table = pa.Table.from_pylist([{**row, "timestamp": time} for row, time in zip(rows, times, strict=True)])
    table = table.set_column(3, "timestamp", table["timestamp"].cast(pa.timestamp("ns")))
    pq.write_table(table, tmp_path / "eval.parquet")
    from_parquet, _ = load_scenes(tmp_path / "eval.parquet")
    assert from_jsonl.equals(from_parquet)
    assert counts == {"read": 2, "kept": 2, "blanked": 0, "duplicate": 0}
    row = from_jsonl.filter(pl.col("user_id") == "0012").row(0, named=True)
    assert row["scene_id"] == scene_id("steam", "0012", "7", 1_425_211_200_000)
    assert row["choices"] == [1] and row["split"] is None and row["later_chosen"] is None


def test_numbers_as_ids_become_strings_and_epochs_become_times(tmp_path):
    rows = [published(user=12, timestamp=1_425_211_200), published(user=13, timestamp=1_425_211_200_000)]
    scenes, _ = load_scenes(write_jsonl(tmp_path / "eval.jsonl", rows))
    assert sorted(scenes["user_id"]) == ["12", "13"]
    assert scenes["timestamp"].dt.epoch("ms").to_list() == [1_425_211_200_000] * 2


def test_blanked_and_repeated_rows_are_left_out_and_counted(tmp_path):
    blank = {"action_list": ["", "", ""], "history": "", "profile": ""}
    none = {"action_list": [], "history": "", "profile": ""}
    rows = [published(), published("4", text=blank), published("5", text=none), published(position=2)]
    scenes, counts = load_scenes(write_jsonl(tmp_path / "eval.jsonl", rows))
    assert len(scenes) == 1 and counts == {"read": 4, "kept": 1, "blanked": 2, "duplicate": 1}
    with pytest.raises(UserError, match="no scene with text"):
        load_scenes(write_jsonl(tmp_path / "blank.jsonl", [published(text=blank)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_pos": 3}, "item_pos is 3, outside 0 to 2"),
        ({"item_pos": -1}, "item_pos is -1"),
        ({"item_pos": "B"}, "item_pos is 'B'; write an integer"),
        ({"choice_cnt": 5}, "choice_cnt is 5 but action_list has 3"),
        ({"timestamp": "yesterday"}, "'yesterday' is not a time"),
        ({"text": "a thing"}, "`text` is not an object"),
        ({"text": {"action_list": "abc"}}, "action_list is 'abc'; write a list of texts"),
        ({"text": {"action_list": ["a", 1, "c"]}}, "action_list is ['a', 1, 'c']; write a list of texts"),
        ({"text": {"action_list": ["a", "b", "c"], "history": 7}}, "history is 7; write text"),
        ({"timestamp": float("nan")}, "nan is not a time"),
        ({"timestamp": 1e17}, "1e+17 is not a time"),
        ({"user_id": 1.5}, "user_id is 1.5; write an id as text"),
        ({"item_pos": True}, "item_pos is True; write an integer"),
        ({"item_id": "8"}, "item_id is '8', but '7' is at item_pos 1 of impression_list"),
        ({"impression_list": ["5", "7"]}, "impression_list has not one value for each of the 3 options"),
        ({"impression_list": ["5", "7", "5"]}, "names an item twice"),
        ({"impression_list": ["5", "7", None]}, "impression_list is None; write an id"),
        ({"sources": ["choice"]}, "sources has not one value"),
        ({"item_cnt": [1, -1, 2]}, "item_cnt is [1, -1, 2]; write numbers from 0"),
        ({"choices": [0]}, "choices are [0], without item_pos 1"),
        ({"choices": [1, 3]}, "choices is [1, 3]; write positions from 0 to 2"),
        ({"later_chosen": [5]}, "later_chosen is [5]; write positions"),
        ({"history_len": -1}, "history_len is -1"),
        ({"scene_id": "one"}, "scene_id is 'one', not 16 hex digits"),
        ({"user_id": None}, "no `user_id`"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, change, message):
    path = write_jsonl(tmp_path / "eval.jsonl", [published("1"), published(**change)])
    with pytest.raises(UserError) as error:
        load_scenes(path)
    assert f"{path}:2" in str(error.value) and message in str(error.value)


def test_malformed_json_missing_columns_and_missing_files(tmp_path):
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps(published()) + "\n{broken\n")
    with pytest.raises(UserError, match=r"eval\.jsonl:2 is not JSON"):
        load_scenes(path)
    pq.write_table(pa.table({"user_id": ["1"]}), tmp_path / "eval.parquet")
    with pytest.raises(UserError, match="has no column `text`"):
        load_scenes(tmp_path / "eval.parquet")
    with pytest.raises(UserError, match="is not there"):
        load_scenes(tmp_path / "none.parquet")
    (tmp_path / "raw.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="is not a parquet file"):
        load_scenes(tmp_path / "raw.parquet")


def test_a_directory_of_scenes_keeps_its_ids_and_finds_its_siblings(tmp_path):
    scenes = frame([scene(str(i), "1", i % 5) for i in range(5)])
    for split in ("train", "test"):
        (tmp_path / "scenes" / "shop" / split).mkdir(parents=True)
        scenes.write_parquet(tmp_path / "scenes" / "shop" / split / "part-00000.parquet")
    test = tmp_path / "scenes" / "shop" / "test"
    loaded, _ = load_scenes(test)
    assert loaded["scene_id"].to_list() == scenes["scene_id"].to_list()
    assert sibling(test, "scenes", "train") == tmp_path / "scenes" / "shop" / "train"
    assert sibling(test, "baselines", "test") is None and probe_of(test) is None
    manifest_path(test).write_text(json.dumps({"content": {"recipe": {}, "probe": {"warning": False}}, "run": {}}))
    assert probe_of(test) == {"warning": False}
    with pytest.raises(UserError, match="pass .*test"):
        load_scenes(test.parent)
