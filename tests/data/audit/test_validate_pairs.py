"""`validate` finds what is wrong with pairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from built import edit, edit_manifest, first_row
from films import PAIRS, TEST, checks_of, failed, other_id, rows_of

from usermirrorer.data.audit.validate import validate


def answer(row: dict, side: str, letter: str) -> dict:
    text = row[side][0]["content"][:-2] + f"{letter}]"
    return row | {side: [{"role": "assistant", "content": text}]}


PAIR_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a letter that the text does not end in": (
        "letters", first_row(lambda r: r | {"behavior_chosen": "Z"}), "behavior_chosen is Z, the text ends in",
    ),
    "an answer without a label": (
        "letters", first_row(lambda r: r | {"chosen": [{"role": "assistant", "content": "Yes."}]}), "does not end",
    ),
    "a label that is no option": ("letters", first_row(lambda r: answer(r, "rejected", "Z")), "rejected names Z of"),
    "both sides alike": (
        "letters", first_row(lambda r: answer(r, "rejected", r["behavior_chosen"])), "the same option",
    ),
    "a chosen that is not the choice": (
        "choice", first_row(lambda r: answer(r, "chosen", r["behavior_rejected"])), "does not name the scene's choice",
    ),
    "a user's answer": (
        "messages", first_row(lambda r: r | {"chosen": [r["chosen"][0] | {"role": "user"}]}), "not one assistant",
    ),
    "a blank prompt": (
        "messages", first_row(lambda r: r | {"prompt": [{"role": "user", "content": ""}]}), "prompt is blank",
    ),
    "a scene twice": ("unique", lambda f: pl.concat([f, f[:1]]), "same scene as an earlier row"),
    "a scene that is not there": ("scenes", first_row(other_id), "no train scene"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PAIR_FAULTS)
def test_a_spoilt_pair_is_found(work: Path, fault: str) -> None:
    check, change, reason = PAIR_FAULTS[fault]
    edit(work / PAIRS, change)
    found = checks_of(work, PAIRS)[check]
    assert found.result == "failed" and any(reason in row.reason for row in found.bad_rows), found


def test_a_pair_of_a_test_scene(work: Path) -> None:
    scene = rows_of(work, TEST)["scene_id"][0]
    edit(work / PAIRS, first_row(lambda row: row | {"scene_id": scene}))
    assert (PAIRS, "disjoint") in failed(validate(work / PAIRS))


def test_what_distill_found_and_warned_of(work: Path) -> None:
    edit_manifest(work / PAIRS, warnings=[])
    found = checks_of(work, PAIRS)["distill"]
    assert found.result == "ok"
    for rule in ("length", "popularity", "letter", "writer", "item", "words"):
        assert re.search(rf"\b{rule} 0\.\d\d\b", found.summary), rule
    edit_manifest(work / PAIRS, warnings=["uncertainty cannot select"])
    found = checks_of(work, PAIRS)["distill"]
    assert found.result == "warning" and found.summary.endswith("; uncertainty cannot select")


def test_a_letter_that_tells_chosen_from_rejected(work: Path) -> None:
    def lettered(row: dict) -> dict:
        return answer(answer(row, "chosen", "A"), "rejected", "B") | {"behavior_chosen": "A", "behavior_rejected": "B"}

    edit(work / PAIRS, lambda f: pl.DataFrame([lettered(row) for row in f.to_dicts()], schema=f.schema))
    assert checks_of(work, PAIRS)["balance"].result == "warning"
