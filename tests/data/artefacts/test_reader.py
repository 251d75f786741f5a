"""Files of any kind give the same rows, each with its place; what can't be read is one sentence."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from usermirrorer.data.artefacts.convert import milliseconds
from usermirrorer.data.artefacts.find import find_artefacts
from usermirrorer.data.artefacts.reader import columns_of, files_at, is_hub_id, load_rows, read_batches, read_rows
from usermirrorer.data.artefacts.schema import PAIRS, PREDICTIONS
from usermirrorer.errors import UserError


NOON = 1_425_211_200_000
"""2015-03-01 12:00 UTC in milliseconds."""


def message(role: str, content: str) -> dict[str, str]:
    return {"content": content, "role": role}


def published(number: int) -> dict:
    prompt = [message("system", "S"), message("user", f"question {number}")]
    answers = {side: [*prompt, message("assistant", f"{side} {number}")] for side in ("chosen", "rejected")}
    times = ("2015-03-01 12:00:00", NOON // 1000, NOON, "2015-03-01T14:00:00+02:00", "noon")
    return {
        "user_id": number,
        "timestamp": times[number % 5],
        **{f"messages_{side}": messages for side, messages in answers.items()},
    }


def write(path: Path, rows: list[dict]) -> Path:
    """Rows as a file of the kind that its name says; parquet has times as text."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "timestamp": str(row["timestamp"])} for row in rows]), path)
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(
    ("name", "second"), [("a.parquet", "a.parquet row 2"), ("a.jsonl", "a.jsonl:2"), ("a.jsonl.gz", "a.jsonl.gz:2")]
)
def test_rows_and_batches_are_alike_in_every_kind_of_file(tmp_path: Path, name: str, second: str) -> None:
    rows = [published(number) for number in range(5)]
    path = write(tmp_path / name, rows)
    for source in (path, tmp_path):
        read = list(read_rows(str(source), "test", "pass a file"))
        assert read[1][0] == f"{tmp_path}/{second}"
        assert [row["messages_chosen"] for _, row in read] == [row["messages_chosen"] for row in rows]
    [artefact] = find_artefacts(path)
    assert artefact.kind == "pairs"
    frame = pl.concat(read_batches([path], PAIRS, size=2))
    assert frame["_file"].unique().to_list() == [name] and frame["_row"].to_list() == [1, 2, 3, 4, 5]
    assert frame["user_id"].to_list() == list("01234") and frame["score"].null_count() == 5
    assert frame["prompt"].to_list() == [row["messages_chosen"][:2] for row in rows]
    for side in ("chosen", "rejected"):
        assert [answer[0]["content"] for answer in frame[side]] == [f"{side} {number}" for number in range(5)]


def test_every_kind_of_file_loads_as_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{**published(number), "timestamp": "noon"} for number in range(3)]
    for name in ("a.parquet", "a.jsonl", "a.jsonl.gz"):
        assert load_rows(str(write(tmp_path / name, rows)), "train", "pass a file").to_list() == rows
    (tmp_path / "b.jsonl").write_text("{broken\n")
    with pytest.raises(UserError, match=r"b\.jsonl can't be read \(.*\): pass a file"):
        load_rows(str(tmp_path / "b.jsonl"), "train", "pass a file")


def test_a_hub_dataset_gives_rows_with_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [published(0), published(5)]
    splits = {("me/data", "test"): Dataset.from_list(rows)}
    monkeypatch.setattr("datasets.load_dataset", lambda name, split: splits[name, split])
    assert list(read_rows("me/data", "test", "")) == [("me/data row 1", rows[0]), ("me/data row 2", rows[1])]
    with pytest.raises(UserError, match="me/data is neither a path nor a Hub dataset with a `train` split .*: pass X"):
        load_rows("me/data", "train", "pass X")


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2015-03-01 12:00:00", NOON),
        (" 2015-03-01T13:00:00+01:00 ", NOON),
        (datetime(2015, 3, 1, 12), NOON),
        (datetime(2015, 3, 1, 12, tzinfo=UTC), NOON),
        (NOON // 1000, NOON),
        (NOON / 1000 + 0.25, NOON + 250),
        (NOON, NOON),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (-1, -1000),
    ],
)
def test_times_are_text_seconds_or_milliseconds(tmp_path: Path, value: object, time: int) -> None:
    assert milliseconds(value) == time
    schema = pa.schema([("timestamp", pa.timestamp("ms", tz="UTC"))])
    pq.write_table(pa.table({"timestamp": [value]}), tmp_path / "a.parquet")
    files = [tmp_path / "a.parquet"]
    if not isinstance(value, datetime):
        (tmp_path / "a.jsonl").write_text(json.dumps({"timestamp": value}))
        files.append(tmp_path / "a.jsonl")
    for frame in read_batches(files, schema):
        expected = None if time > 60_000_000_000_000 else time
        assert frame["timestamp"].dt.epoch("ms").to_list() == [expected]


@pytest.mark.parametrize("value", ["yesterday", "", True, None, float("nan"), float("inf"), 2**63, [1], {"a": 1}])
def test_what_is_not_a_time_is_none(value: object) -> None:
    assert milliseconds(value) is None


def test_blank_lines_are_skipped_in_rows_and_refused_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(published(0))}\n\n{json.dumps(published(1))}\n")
    assert [place for place, _ in read_rows(str(path), "test", "")] == [f"{path}:1", f"{path}:3"]
    with pytest.raises(UserError, match=r"a\.jsonl:2 is not JSON"):
        list(read_batches([path], PAIRS))


def test_a_source_is_a_path_or_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "here").mkdir(parents=True)
    assert is_hub_id("me/data") and is_hub_id("Joinn/UserMirrorer-eval_1.0")
    for path in ("me/here", "me/data.jsonl.gz", "./data", "../data", "/me/data", "data", "a/b/c", "~/data"):
        assert not is_hub_id(path), path


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not there: pass X"):
        files_at(tmp_path / "nowhere", "pass X")
    with pytest.raises(UserError, match=r"neither \*\.parquet nor \*\.jsonl\(\.gz\): pass X"):
        files_at(tmp_path, "pass X")
    (tmp_path / ".journal.jsonl").write_text("{}\n")
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.jsonl.gz", [published(0)])
    with pytest.raises(UserError, match=f"pass {tmp_path}/data"):
        files_at(tmp_path, "pass X")
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="a.csv is of no known kind: pass X"):
        files_at(tmp_path / "a.csv", "pass X")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="empty.jsonl is empty"):
        columns_of(tmp_path / "empty.jsonl")
    cut = gzip.compress(json.dumps(published(0)).encode() * 1000)[:100]
    (tmp_path / "cut.jsonl.gz").write_bytes(cut)
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz:1: gzip is damaged"):
        list(read_batches([tmp_path / "cut.jsonl.gz"], PREDICTIONS))
