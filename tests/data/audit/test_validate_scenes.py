"""`validate` finds what is wrong with scenes, in one row or in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from built import edit, edit_manifest, first_row
from films import TEST, TRAIN, checks_of, failed, other_id, rows_of

from usermirrorer.data.artefacts.store import MANIFEST
from usermirrorer.data.audit.validate import validate


def test_counts_are_of_the_whole_artefact(built_films: Path) -> None:
    checks = checks_of(built_films, TEST)
    rows, train = rows_of(built_films, TEST), rows_of(built_films, TRAIN)
    assert checks["options"].summary == f"{len(rows):,} rows"
    warm = set(rows["user_id"]) & set(train["user_id"])
    assert checks["users"].summary.startswith(f"{len(warm):,} of {rows['user_id'].n_unique():,} have train scenes")
    chosen = np.array([row["item_cnt"][row["item_pos"]] for row in rows.to_dicts()])
    others = np.array([n for r in rows.to_dicts() for i, n in enumerate(r["item_cnt"]) if i != r["item_pos"]])
    summary = f"fewer than 5 times: {(chosen < 5).mean():.1%} of choices, {(others < 5).mean():.1%} of distractors"
    assert summary in checks["cold items"].summary


SCENE_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "an id that is not the hash": ("ids", first_row(other_id), "not the hash"),
    "a user's id that is empty": ("values", first_row(lambda r: r | {"user_id": " "}), "user_id is empty"),
    "no time": ("values", first_row(lambda r: r | {"timestamp": None}), "timestamp is missing"),
    "a position out of the list": ("options", first_row(lambda r: r | {"item_pos": 26}), "item_pos 26 of"),
    "a count that is not the list's": (
        "options", first_row(lambda r: r | {"choice_cnt": r["choice_cnt"] + 1}), "text has",
    ),
    "a choice that is another item": (
        "options", first_row(lambda r: r | {"impression_list": r["impression_list"][::-1]} if r["choice_cnt"] % 2 == 0
                             else r | {"impression_list": r["impression_list"][1:] + r["impression_list"][:1]}),
        "item_id is",
    ),
    "an item twice": (
        "options", first_row(lambda r: r | {"impression_list": [r["item_id"]] * r["choice_cnt"]}), "an item twice",
    ),
    "a choice among the later chosen": (
        "options", first_row(lambda r: r | {"later_chosen": [r["item_pos"]]}), "the choice itself",
    ),
    "sources without a choice": (
        "options", first_row(lambda r: r | {"sources": ["natural"] * r["choice_cnt"]}), "sources must say",
    ),
    "a blank option": (
        "text", first_row(lambda r: r | {"text": r["text"] | {"action_list": ["", *r["text"]["action_list"][1:]]}}),
        "an option is blank",
    ),
    "more history than there was": (
        "history", first_row(lambda r: r | {"history_len": r["user_cnt"] + 1}), "earlier events",
    ),
    "a row twice": ("unique", lambda frame: pl.concat([frame, frame[:1]]), "scene_id of an earlier row"),
    "another order": ("order", lambda frame: frame.reverse(), "lower scene_id"),
    "another split": ("windows", first_row(lambda r: r | {"split": "test"}), "split is test"),
    "a time in the test window": (
        "windows", first_row(lambda r: r | {"timestamp": r["timestamp"].replace(year=2040)}), "the train window",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SCENE_FAULTS)
def test_a_spoilt_scene_is_found(work: Path, fault: str) -> None:
    check, change, reason = SCENE_FAULTS[fault]
    edit(work / TRAIN, change)
    found = checks_of(work, TRAIN)[check]
    assert found.result == "failed"
    assert any(reason in row.reason and "row" in row.place for row in found.bad_rows), found.bad_rows
    assert len(found.bad_rows) <= 5


def test_a_choice_in_both_splits(work: Path) -> None:
    row = rows_of(work, TRAIN)[:1]
    edit(work / TEST, lambda frame: pl.concat([frame, row]).sort("scene_id"))
    for split in (TRAIN, TEST):
        found = checks_of(work, split)["disjoint"]
        assert found.result == "failed" and found.summary.startswith("1 choices")
        assert [bad.scene_id for bad in found.bad_rows] == row["scene_id"].to_list()


def test_a_choice_that_is_never_last(work: Path) -> None:
    def never_last(row: dict) -> dict:
        pos, last = row["item_pos"], row["choice_cnt"] - 1
        if pos != last:
            return row
        swapped = {key: list(row[key]) for key in ("impression_list", "sources", "item_cnt")}
        swapped["action_list"] = list(row["text"]["action_list"])
        for values in swapped.values():
            values[0], values[last] = values[last], values[0]
        text = row["text"] | {"action_list": swapped.pop("action_list")}
        return row | swapped | {"text": text, "item_pos": 0, "choices": [0], "later_chosen": []}

    edit(work / TRAIN, lambda f: pl.DataFrame([never_last(row) for row in f.to_dicts()], schema=f.schema))
    assert failed(validate(work / TRAIN)) == {(TRAIN, "positions")}


def test_a_scene_without_a_probe_and_one_with_a_warning(work: Path) -> None:
    probe = json.loads((work / TRAIN / MANIFEST).read_text())["content"]["probe"]
    edit_manifest(work / TRAIN, probe=probe | {"warning": True})
    assert "gives the choice away" in checks_of(work, TRAIN)["probe"].summary
    edit_manifest(work / TRAIN, probe=None)
    assert checks_of(work, TRAIN)["probe"].result == "failed"


def test_distractors_that_nobody_chose_before(work: Path) -> None:
    def cold(row: dict) -> dict:
        return row | {"item_cnt": [n if i == row["item_pos"] else 0 for i, n in enumerate(row["item_cnt"])]}

    edit(work / TRAIN, lambda f: pl.DataFrame([cold(row) for row in f.to_dicts()], schema=f.schema))
    found = checks_of(work, TRAIN)["cold items"]
    assert found.result == "warning" and "100.0% of distractors" in found.summary
