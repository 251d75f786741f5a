"""The result of one check of one artefact, and how results are printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from usermirrorer.data.audit.display import print_table


Result = Literal["ok", "warning", "failed", "skipped"]

COLOURS: dict[Result, str] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}

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


def print_checks(checks: Sequence[Check]) -> None:
    """Print check, result and summary for each artefact, then the bad rows found and a count of results."""
    for artefact in dict.fromkeys(check.artefact for check in checks):
        _print_artefact(artefact, [check for check in checks if check.artefact == artefact])
    for check in checks:
        for row in check.bad_rows:
            scene = f" (scene {row.scene_id})" if row.scene_id else ""
            print(f"{check.artefact}, {check.name}: {row.place}{scene}: {row.reason}")
        if check.table:
            print(f"{check.artefact}, {check.name}:")
            print_table(check.table)
    counts = {result: sum(check.result == result for check in checks) for result in COLOURS}
    print("validate: " + ", ".join(f"{count} {result}" for result, count in counts.items() if count))


def _print_artefact(artefact: str, checks: Sequence[Check]) -> None:
    """A table on a terminal, aligned text elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("check", "result", "summary", title=artefact, title_justify="left")
        for check in checks:
            table.add_row(check.name, Text(check.result, COLOURS[check.result]), Text(check.summary))
        Console().print(table)
        return
    width = max(len(check.name) for check in checks)
    print(artefact)
    for check in checks:
        print(f"  {check.name:{width}}  {check.result:7}  {check.summary}")
