"""The result of one check of one artefact, and how results are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

from usermirrorer.console import headline, say, warn
from usermirrorer.console.tables import show_table


Result = Literal["ok", "warning", "failed", "skipped"]

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}

WORDS = {"warning": "WARNING", "failed": "FAILED"}
"""Results that are repeated below the tables."""

MAX_BAD_ROWS = 5
"""Bad rows listed per check."""


@dataclass(frozen=True)
class BadRow:
    """A row (or file) that fails a check: its place, its scene if it has one, and the reason."""

    place: str
    scene_id: str
    reason: str


@dataclass(frozen=True)
class Check:
    """The result of one check of one artefact; `summary` has the counts over the whole artefact."""

    artefact: str
    name: str
    result: Result
    summary: str
    bad_rows: tuple[BadRow, ...] = ()
    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Heading -> cells: more than the summary has room for, printed under it"""


def verdict(artefact: str, name: str, bad: Sequence[BadRow], summary: str, result: Result = "failed") -> Check:
    """A check that is ok without bad rows, else `result`; lists the first bad rows."""
    return Check(artefact, name, result if bad else "ok", summary, tuple(bad[:MAX_BAD_ROWS]))


def row_count(bad: int, total: int) -> str:
    """`12 rows`, or `3 of 12 rows` if some are bad."""
    return f"{bad:,} of {total:,} rows" if bad else f"{total:,} rows"


def show_checks(checks: Sequence[Check]) -> None:
    """Check, result and summary for each artefact, then the warnings, the failures with bad rows, and a count."""
    for artefact in dict.fromkeys(check.artefact for check in checks):
        rows = [(check.name, check.result, check.summary) for check in checks if check.artefact == artefact]
        show_table(("check", "result", "summary"), rows, "llp", artefact, COLOURS)
    for check in checks:
        if check.result in WORDS:
            warn(f"{check.artefact}, {check.name}: {check.summary}", WORDS[check.result])
        for row in check.bad_rows:
            scene = f" (scene {row.scene_id})" if row.scene_id else ""
            say(f"{check.artefact}, {check.name}: {row.place}{scene}: {row.reason}")
        if check.table:
            cells = [*zip_longest(*check.table.values(), fillvalue="")]
            show_table([*check.table], cells, title=f"{check.artefact}, {check.name}")
    headline("validate: " + ", ".join(f"{count} {result}" for result, count in count_results(checks).items()))


def count_results(checks: Sequence[Check]) -> dict[str, int]:
    """How many checks have each result that occurs."""
    counts = {result: sum(check.result == result for check in checks) for result in COLOURS}
    return {result: count for result, count in counts.items() if count}
