"""What `validate` found: one line a check, with whole-file counts and the first bad rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.reader import place_of


Result = Literal["ok", "warning", "failed", "skipped"]

SHOWN = 5
"""Bad rows told for each check."""


@dataclass(frozen=True)
class BadRow:
    """A row that a check rejects: where it stands, whose it is, and why."""

    place: str
    scene_id: str
    reason: str


@dataclass(frozen=True)
class Check:
    """The result of one check of one artefact; `told` holds the counts over all of it."""

    artefact: str
    name: str
    result: Result
    told: str
    bad: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One way in which a row can be wrong: `bad` is true there (null is not), `reason` the words."""

    check: str
    bad: pl.Expr
    reason: pl.Expr


@dataclass
class Tally:
    """Rows seen and rejected so far."""

    rows: int = 0
    bad: int = 0
    first: list[BadRow] = field(default_factory=list)


def tallies(rules: Iterable[Rule]) -> dict[str, Tally]:
    return {rule.check: Tally() for rule in rules}


def apply(rules: Sequence[Rule], frame: pl.DataFrame, counted: Mapping[str, Tally]) -> None:
    """Count the rows of a batch (with `_file`, `_row`, maybe `scene_id`) that break each rule; a row counts once."""
    marks = frame.select(rule.bad.fill_null(False).alias(str(i)) for i, rule in enumerate(rules))
    for check, tally in counted.items():
        mine = [i for i, rule in enumerate(rules) if rule.check == check]
        broken = marks.select(pl.any_horizontal(str(i) for i in mine)).to_series()
        tally.rows += len(frame)
        tally.bad += int(broken.sum())
        if broken.any() and len(tally.first) < SHOWN:
            first = np.flatnonzero(broken.to_numpy())[: SHOWN - len(tally.first)]
            reasons = [pl.when(marks[str(i)][first]).then(rules[i].reason) for i in mine]
            told = frame[first].with_columns(_reason=pl.concat_str(reasons, separator="; ", ignore_nulls=True))
            tally.first += bad_rows(told)


def bad_rows(frame: pl.DataFrame) -> list[BadRow]:
    """The rows of a frame that has a `_reason`."""
    ids = frame["scene_id"].to_list() if "scene_id" in frame.columns else [""] * len(frame)
    return [
        BadRow(place_of(file, row), scene_id or "", reason or "")
        for file, row, scene_id, reason in zip(frame["_file"], frame["_row"], ids, frame["_reason"], strict=True)
    ]


def checked(artefact: str, counted: Mapping[str, Tally], otherwise: Result = "failed") -> list[Check]:
    """A check for each tally; one with a bad row is `otherwise`."""
    return [
        Check(
            artefact,
            name,
            otherwise if tally.bad else "ok",
            f"{tally.bad:,} of {tally.rows:,} rows" if tally.bad else f"{tally.rows:,} rows",
            tuple(tally.first),
        )
        for name, tally in counted.items()
    ]


def print_checks(checks: Sequence[Check]) -> None:
    """A table check | result | counts, then the first bad rows of each check that found some."""
    for artefact in dict.fromkeys(check.artefact for check in checks):
        mine = [check for check in checks if check.artefact == artefact]
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

            table = Table("check", "result", "counts", title=artefact, title_justify="left")
            for check in mine:
                table.add_row(check.name, Text(check.result, COLOURS[check.result]), Text(check.told))
            Console().print(table)
        else:
            width = max(len(check.name) for check in mine)
            print(artefact)
            for check in mine:
                print(f"  {check.name:{width}}  {check.result:7}  {check.told}")
    for check in checks:
        for row in check.bad:
            named = f" (scene {row.scene_id})" if row.scene_id else ""
            print(f"{check.artefact}, {check.name}: {row.place}{named}: {row.reason}")
    counts = {result: sum(check.result == result for check in checks) for result in COLOURS}
    print("validate: " + ", ".join(f"{count} {result}" for result, count in counts.items() if count))


COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
