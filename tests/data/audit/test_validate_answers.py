"""`validate` finds what is wrong with decisions, predictions and baselines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from built import edit, first_row
from films import BASELINES, SCORED, STRONG, checks_of


ANSWER_FAULTS: dict[str, tuple[str, str, Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "an option that is not there": (STRONG, "scenes", first_row(lambda r: r | {"behavior": 9}), "names option 9"),
    "a scene that is not there": (STRONG, "scenes", first_row(lambda r: r | {"scene_id": "f" * 16}), "no such scene"),
    "another writer's row": (STRONG, "values", first_row(lambda r: r | {"variant": "weak"}), "variant is weak"),
    "a sample that is missing": (STRONG, "samples", lambda f: f[1:], "not have each of 4 once"),
    "a sample twice": (STRONG, "samples", lambda f: pl.concat([f[1:2], f[1:]]), "not have each of 4 once"),
    "probabilities that are none": (
        SCORED, "probabilities", first_row(lambda r: r | {"probs": [0.5 * p for p in r["probs"]]}), "they sum to 0.5",
    ),
    "a probability too many": (
        SCORED, "probabilities", first_row(lambda r: r | {"probs": [*r["probs"], 0.0]}), "probabilities for",
    ),
    "a prediction that is missing": (SCORED, "decisions", lambda f: f[1:], ""),
    "a baseline that is missing": (BASELINES, "each once", lambda f: f[1:], "not have each of"),
    "a baseline twice": (BASELINES, "each once", lambda f: pl.concat([f[1:2], f[1:]]), "not have each of"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_spoilt_answer_is_found(work: Path, fault: str) -> None:
    place, check, change, reason = ANSWER_FAULTS[fault]
    edit(work / place, change)
    found = checks_of(work, place)[check]
    assert found.result == "failed"
    assert not reason or any(reason in row.reason for row in found.bad_rows), found.bad_rows
