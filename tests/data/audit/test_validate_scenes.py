"""`validate` finds what is wrong with scenes, in one row or in all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from built import edit, edit_manifest, first_row
from films import TEST, TRAIN, checks_of, failed, other_id, rows_of

from usermirrorer.data.artefacts.store import manifest_path
from usermirrorer.data.audit.checks.tells import personal_pattern
from usermirrorer.data.audit.validate import validate
from usermirrorer.data.sources import load_domain


def test_counts_are_of_the_whole_artefact(built_films: Path) -> None:
    checks = checks_of(built_films, TEST)
    rows, train = rows_of(built_films, TEST), rows_of(built_films, TRAIN)
    assert checks["options"].summary == f"{len(rows):,} rows"
    warm = set(rows["user_id"]) & set(train["user_id"])
    assert checks["users"].summary.startswith(f"{len(warm):,} of {rows['user_id'].n_unique():,} have train scenes")


def each(*changes: Callable[[dict], dict]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Change every row, then order the scenes as they are without groups if they have none."""

    def apply(frame: pl.DataFrame) -> pl.DataFrame:
        rows = frame.to_dicts()
        for change in changes:
            rows = [change(row) for row in rows]
        return pl.DataFrame(rows, schema=frame.schema).sort("group_id", "scene_id")

    return apply


def alone(row: dict) -> dict:
    """The scene without its group, as of its own time."""
    return row | {"exposure": "published", "group_id": None, "group_time": row["timestamp"]}


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
        "options", first_row(lambda r: r | {"sources": ["logged"] * r["choice_cnt"]}), "sources must say",
    ),
    "a blank option": (
        "text", first_row(lambda r: r | {"text": r["text"] | {"action_list": ["", *r["text"]["action_list"][1:]]}}),
        "an option is blank",
    ),
    "more history than there was": (
        "history", first_row(lambda r: r | {"history_len": r["user_cnt"] + 1}), "earlier events",
    ),
    "a row twice": ("unique", lambda frame: pl.concat([frame, frame[:1]]), "scene_id of an earlier row"),
    "another order": ("order", lambda frame: frame.reverse(), "not in order by group_id and scene_id"),
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

    edit(work / TRAIN, each(never_last, alone))
    assert failed(validate(work / TRAIN)) == {(TRAIN, "positions")}


def test_a_scene_without_a_probe_and_one_with_a_warning(work: Path) -> None:
    probe = json.loads(manifest_path(work / TRAIN).read_text())["content"]["probe"]
    edit_manifest(work / TRAIN, probe=probe | {"warning": True})
    assert "gives the choice away" in checks_of(work, TRAIN)["probe"].summary
    edit_manifest(work / TRAIN, probe=None)
    assert checks_of(work, TRAIN)["probe"].result == "failed"


def test_a_count_that_tells_the_choice_apart(work: Path) -> None:
    def cold(row: dict) -> dict:
        return row | {"item_cnt": [n + 1 if i == row["item_pos"] else 0 for i, n in enumerate(row["item_cnt"])]}

    edit(work / TRAIN, each(cold, alone))
    found, rows = checks_of(work, TRAIN)["tells"], rows_of(work, TRAIN).to_dicts()
    assert found.result == "warning" and "values tell the choice apart" in found.summary
    at = list(found.table["value"]).index("item_cnt 0")
    options = np.mean([1 - 1 / row["choice_cnt"] for row in rows])
    assert (found.table["choices"][at], found.table["options"][at]) == ("0.0%", f"{options:.1%}")


def test_a_number_that_is_shown_of_the_choice_only(work: Path, command: Callable) -> None:
    """What the sparse reviews of a shop print: an item's first review is always of the choice."""

    def reviewed(row: dict) -> dict:
        first = row["user_id"] < "5"
        options = [
            f"{text} | {1 if first and i == row['item_pos'] else 7} reviews"
            for i, text in enumerate(row["text"]["action_list"])
        ]
        return row | {"text": row["text"] | {"action_list": options}}

    edit(work / TRAIN, each(reviewed, alone))
    found = checks_of(work, TRAIN)["tells"]
    assert found.result == "warning" and found.table["value"][0] == "1 reviews"
    assert len(found.table["value"]) == 5
    report = command("validate", work / TRAIN).stdout
    assert "value" in report and "1 reviews" in report and "1 reviews" not in found.summary


def test_whole_groups_are_in_order_and_tell_nothing(built_films: Path) -> None:
    checks, rows = checks_of(built_films, TRAIN), rows_of(built_films, TRAIN)
    assert not [check for check in checks.values() if check.result != "ok"]
    assert checks["groups"].summary == f"{rows['group_id'].n_unique():,} groups of {len(rows):,} scenes"
    assert checks["tells"].summary.endswith(" values are chosen as often as they are shown")


def of_first_group(change: Callable[[dict, int], dict]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def apply(frame: pl.DataFrame) -> pl.DataFrame:
        group = frame["group_id"][0]
        rows = [change(row, i) if row["group_id"] == group else row for i, row in enumerate(frame.to_dicts())]
        return pl.DataFrame(rows, schema=frame.schema)

    return apply


GROUP_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a scene that is missing": ("groups", lambda frame: frame[1:], r"has (\d) of (?!\1)\d scenes"),
    "another list": (
        "groups",
        of_first_group(lambda r, i: r | {"impression_list": [*r["impression_list"][:-1], "x"]} if i == 0 else r),
        "shows 2 different lists",
    ),
    "a text that one person is shown": (
        "groups",
        of_first_group(
            lambda r, i: (
                r | {"text": r["text"] | {"action_list": [option + "!" for option in r["text"]["action_list"]]}}
                if i == 0
                else r
            )
        ),
        "do not read the same to everyone",
    ),
    "a count that one person is shown": (
        "groups", of_first_group(lambda r, i: r | {"item_cnt": [n + (i == 0) for n in r["item_cnt"]]}),
        "do not read the same to everyone",
    ),
    "one person twice": ("groups", of_first_group(lambda r, i: r | {"user_id": "1"}), r"is of 1 people, not of \d"),
    "a position chosen twice": (
        "groups", of_first_group(lambda r, i: r | {"item_pos": 0}), "does not have each position",
    ),
    "two times": (
        "groups", of_first_group(lambda r, i: r | {"group_time": r["group_time"].replace(year=1990 + i % 2)}),
        "has 2 different group_time",
    ),
    "a group's time after a scene": (
        "values", first_row(lambda r: r | {"group_time": r["timestamp"].replace(year=2040)}), "is after the scene's",
    ),
    "no group": ("values", first_row(lambda r: r | {"group_id": None}), "a scene of matched has no group_id"),
    "a group of logged scenes": ("values", first_row(lambda r: r | {"exposure": "logged"}), "has a group_id"),
    "no exposure that there is": ("values", first_row(lambda r: r | {"exposure": "sampled"}), "exposure is sampled"),
    "an id that is none": ("values", first_row(lambda r: r | {"group_id": "12"}), "is not 16 hex digits"),
    "another order": ("order", lambda frame: frame.sort("scene_id"), "not in order by group_id and scene_id"),
    "a count that only those who chose the item are shown": (
        "tells",
        of_first_group(lambda r, i: r | {"item_cnt": [8 + (k == r["item_pos"]) for k in range(r["choice_cnt"])]}),
        r"is shown of \d options in lists of \d: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", GROUP_FAULTS)
def test_a_spoilt_group_is_found(work: Path, fault: str) -> None:
    check, change, reason = GROUP_FAULTS[fault]
    edit(work / TRAIN, change)
    found = checks_of(work, TRAIN)[check]
    assert found.result == "failed", found
    assert any(re.search(reason, row.reason) for row in found.bad_rows), found.bad_rows


def test_equal_text_is_repeated_only_by_other_groups(work: Path) -> None:
    """People of a group who have neither history nor profile are shown the same; two groups are not."""
    blank = {"profile": "", "history": ""}
    edit(work / TRAIN, of_first_group(lambda r, i: r | {"text": r["text"] | blank}))
    assert checks_of(work, TRAIN)["content"].result == "ok"

    def copied(frame: pl.DataFrame) -> pl.DataFrame:
        """The last scene, which is of another group, shows the text of the first."""
        last = frame.row(-1, named=True) | {"text": frame["text"][0]}
        return pl.concat([frame[:-1], pl.DataFrame([last], schema=frame.schema)])

    edit(work / TRAIN, copied)
    found = checks_of(work, TRAIN)["content"]
    assert found.result == "warning" and found.summary.startswith("1 of")


def test_numbers_about_the_user_are_no_tells() -> None:
    lastfm, films = (personal_pattern(load_domain(name)) for name in ("lastfm", "ml-100k"))
    text = "Blur 2 - rock, 90s (tagged by 3 of the user's friends)"
    assert re.sub(films, "", text) == text
    assert re.sub(lastfm, "", text) == re.sub(films, "", "Blur 2 - rock, 90s (chosen often after these)")
    assert re.sub(lastfm, "", text) == "Blur 2 - rock, 90s"
    counted = replace(load_domain("lastfm"), option="{item}<, known to {friends_tagged:.0f|friend|friends}>")
    pattern = personal_pattern(counted)
    assert re.sub(pattern, "", "Blur 2, known to 1 friend") == "Blur 2"
