"""`validate` and files: those of finished steps, published ones, and any that somebody hands us."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from built import edit, edit_manifest
from films import BASELINES, NAME, PAIRS, SCORED, STRONG, TEST, TRAIN, by_name, checks_of, failed, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.artefacts.find import REQUIRED, SCHEMAS, find_artefacts
from usermirrorer.data.audit.show import show
from usermirrorer.data.audit.validate import validate
from usermirrorer.errors import UserError


@pytest.mark.parametrize("where", ["built_films", "built_toy"])
def test_what_the_steps_wrote_passes(where: str, request: pytest.FixtureRequest) -> None:
    checks = validate(request.getfixturevalue(where))
    assert failed(checks) == set(), [check for check in checks if check.result == "failed"]
    kinds = {check.artefact.split("/")[0] for check in checks}
    assert kinds == {"tables", "embeddings", "scenes", "baselines", "decisions", "predictions", "pairs"}
    name = NAME if where == "built_films" else "toy"
    scenes = by_name(checks, f"scenes/{name}/test")
    for check in ("files", "inputs", "rows", "schema", "ids", "options", "windows", "unique", "disjoint", "positions"):
        assert scenes[check].result == "ok", scenes[check]
    assert "have train scenes" in scenes["users"].summary and "chance 0.200" in scenes["probe"].summary


def test_files_that_differ_from_the_manifest(work: Path) -> None:
    file = next((work / TRAIN).glob("*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    [bad] = checks_of(work, TRAIN)["files"].bad_rows
    assert bad.place == file.name and "is not what its manifest says" in bad.reason
    file.write_bytes(whole[: len(whole) // 2])
    assert (TRAIN, "files") in failed(validate(work / TRAIN))
    file.rename(file.with_name("train-00009.parquet"))
    assert {bad.reason for bad in checks_of(work, TRAIN)["files"].bad_rows} == {
        "is missing", "is not in the manifest",
    }  # fmt: skip


def test_a_step_that_did_not_end(work: Path) -> None:
    edit_manifest(work / TRAIN, finished=False)
    assert failed(validate(work / TRAIN)) == {(TRAIN, "finished")}


def test_scenes_rebuilt_after_their_decisions(work: Path) -> None:
    edit(work / TRAIN, lambda frame: frame)
    edit_manifest(work / TRAIN, asked=999)
    assert (STRONG, "inputs") in failed(validate(work / STRONG))


def test_the_kinds_of_bare_files(built_films: Path, tmp_path: Path) -> None:
    for place, kind in ((STRONG, "decisions"), (SCORED, "predictions"), (BASELINES, "baselines"), (PAIRS, "pairs")):
        shutil.copy(next((built_films / place).glob("*.parquet")), tmp_path / f"{kind}.parquet")
        [found] = find_artefacts(tmp_path / f"{kind}.parquet")
        assert found.kind == kind
        assert failed(validate(tmp_path / f"{kind}.parquet")) == set()


def published(built_films: Path) -> list[dict]:
    """Rows as the published evaluation file has them: no scene_id, numbers as ids, times as text."""
    rows = rows_of(built_films, TEST).to_dicts()
    return [
        {
            "text": {key: row["text"][key] for key in ("action_list", "history", "profile")},
            "user_id": int(row["user_id"]), "item_id": row["item_id"], "item_pos": row["item_pos"],
            "choice_cnt": row["choice_cnt"], "dataset": row["dataset"],
            "impression_list": row["impression_list"], "timestamp": f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
        }
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_published_file(built_films: Path, tmp_path: Path, suffix: str) -> None:
    rows = published(built_films)
    rows[3] |= {"item_pos": 7}
    file = tmp_path / f"eval.{suffix}"
    if suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").str.to_datetime(time_unit="ns"))
        frame.write_parquet(file)
    checks = by_name(validate(file), file.name)
    assert failed(list(checks.values())) == {(file.name, "options")}
    [bad] = checks["options"].bad_rows
    assert bad.place == (f"{file.name}:4" if suffix == "jsonl" else f"{file.name} row 4")
    assert checks["values"].summary == f"{len(rows):,} rows" and checks["probe"].result == "warning"


def test_published_training_rows(built_films: Path, tmp_path: Path) -> None:
    rows = rows_of(built_films, PAIRS).to_dicts()
    lines = [
        {"dataset": row["dataset"], **{f"messages_{s}": row["prompt"] + row[s] for s in ("chosen", "rejected")}}
        for row in rows
    ]
    lines[1]["messages_chosen"] = lines[1]["messages_chosen"][:-1]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    checks = by_name(validate(file), file.name)
    assert checks["letters"].result == checks["messages"].result == "failed"
    assert {bad.place for bad in checks["letters"].bad_rows} == {"train.jsonl:2"}
    assert checks["messages"].summary == f"1 of {len(lines):,} rows"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
COLUMNS = [
    "text", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt", "dataset", "impression_list", "scene_id",
    "choices", "item_cnt", "sources", "later_chosen", "exposure", "history_len", "user_cnt",
]  # fmt: skip


@settings(max_examples=60)
@given(
    rows=st.lists(st.fixed_dictionaries({c: json_values for c in COLUMNS}), min_size=1, max_size=4),
    garbage=st.sampled_from(["", "{", "[1]", "null", '"x"', "\x00"]),
)
def test_any_jsonl_gives_checks_or_one_sentence(tmp_path_factory, rows: list[dict], garbage: str) -> None:
    file = tmp_path_factory.mktemp("any") / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {check.name for check in validate(file)} >= {"schema", "values", "options"}
    with open(file, "a") as lines:
        lines.write(f"{garbage}\n")
    with pytest.raises(UserError, match=rf"x\.jsonl:{len(rows) + 1} is"):
        validate(file)


SERIES = [
    pl.Series([1, None]), pl.Series([1.5, float("nan")]), pl.Series(["a", None]), pl.Series([b"a", b"\xff"]),
    pl.Series([True, None]), pl.Series([[1], None]), pl.Series([["a", None], []]), pl.Series([[["a"]], [[]]]),
    pl.Series([{"a": 1}, {"a": None}]), pl.Series([{"history": ["x"], "action_list": "y"}, None]),
    pl.Series([{"profile": None, "history": "h", "action_list": ["a", None]}, {"action_list": [], "history": ""}]),
    pl.Series([[{"role": "user"}], [{"content": None, "role": "system"}]]), pl.Series([None, None]),
    pl.Series([0, 2**62]).cast(pl.Datetime("ns", "Europe/Paris")), pl.Series([0, 5]).cast(pl.Date),
    pl.Series([0, 5]).cast(pl.Duration), pl.Series(["a", "b"], dtype=pl.Categorical),
    pl.Series([2**63, 0], dtype=pl.UInt64), pl.Series([2**62, -(2**62)]),
]  # fmt: skip


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(list(REQUIRED)))
def test_columns_of_any_type_give_checks(tmp_path_factory, data: st.DataObject, kind: str) -> None:
    names = sorted({*SCHEMAS[kind].names, *REQUIRED[kind]})
    file = tmp_path_factory.mktemp("any") / "x.parquet"
    pl.DataFrame({name: data.draw(st.sampled_from(SERIES)).alias(name) for name in names}).write_parquet(file)
    checks = validate(file)
    assert "readable" not in {check.name for check in checks}
    with contextlib.redirect_stdout(io.StringIO()):
        show(file)
