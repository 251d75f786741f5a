"""Checks of rows: rules as polars expressions, counted over whole files batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.reader import place_of
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, Result, row_count, verdict


@dataclass(frozen=True)
class Rule:
    """One way in which a row can fail `check`: it does if `bad` is true (null is not); `reason` explains it."""

    check: str
    bad: pl.Expr
    reason: pl.Expr


class RowRules:
    """Rules applied to whole files batch by batch: rows read so far, and the number and the first of the bad ones."""

    def __init__(self, rules: Sequence[Rule]):
        self.rules = rules
        self.rows = 0
        self.bad = {rule.check: 0 for rule in rules}
        self.first: dict[str, list[BadRow]] = {check: [] for check in self.bad}

    def add(self, frame: pl.DataFrame) -> None:
        """Count the rows of a batch that break each rule; a row counts once per check.

        The batch has the columns `_file` and `_row`, and `scene_id` if its rows belong to scenes.
        """
        broken_rules = frame.select(rule.bad.fill_null(False).alias(str(i)) for i, rule in enumerate(self.rules))
        self.rows += len(frame)
        for check, listed in self.first.items():
            of_check = [i for i, rule in enumerate(self.rules) if rule.check == check]
            broken = broken_rules.select(pl.any_horizontal(str(i) for i in of_check)).to_series()
            self.bad[check] += int(broken.sum())
            if broken.any() and len(listed) < MAX_BAD_ROWS:
                first = np.flatnonzero(broken.to_numpy())[: MAX_BAD_ROWS - len(listed)]
                reasons = [pl.when(broken_rules[str(i)][first]).then(self.rules[i].reason) for i in of_check]
                listed += bad_rows(frame[first], pl.concat_str(reasons, separator="; ", ignore_nulls=True))

    def checks(self, artefact: str) -> list[Check]:
        """One check per name of the rules, in their order; it fails if any row is bad."""
        return [
            verdict(artefact, check, self.first[check], row_count(bad, self.rows)) for check, bad in self.bad.items()
        ]


def missing_values(*columns: str) -> list[Rule]:
    """Rules that a row has a value in each of the columns."""
    return [
        Rule("values", pl.col(name).is_null(), pl.lit(f"{name} is missing or has the wrong type")) for name in columns
    ]


def check_rows(
    artefact: str, name: str, rows: pl.DataFrame, bad: pl.Expr, reason: str, result: Result = "failed"
) -> Check:
    """Whether `bad` is true of none of the `rows`, which have `_file` and `_row`; `result` if it is of some."""
    found = rows.filter(bad)
    first = tuple(bad_rows(found.head(MAX_BAD_ROWS), pl.lit(reason)))
    return Check(artefact, name, result if len(found) else "ok", row_count(len(found), len(rows)), first)


def repeats(key: str) -> pl.Expr:
    """Whether a row has the 64-bit key of an earlier row; 0 stands for a missing key and repeats nothing."""
    return (pl.col(key) != 0) & ~pl.col(key).is_first_distinct()


def bad_rows(frame: pl.DataFrame, reason: pl.Expr) -> list[BadRow]:
    """The rows of a frame, each with its reason."""
    scene_id = pl.col("scene_id") if "scene_id" in frame.columns else pl.lit(None, pl.String)
    rows = frame.select(
        "_file", "_row", scene_id.fill_null("").alias("scene_id"), reason.fill_null("").alias("reason")
    )
    return [BadRow(place_of(file, row), scene, why) for file, row, scene, why in rows.iter_rows()]
