"""A step as a command runs it: with progress, then with what its manifest says of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from usermirrorer.console import progress, say
from usermirrorer.console.steps import StepReport, show_step
from usermirrorer.data.artefacts.store import Progress, read_manifest, rows_written


def run_step(
    name: str,
    run: Callable[[Progress], Any],
    work: Path,
    places: Sequence[str],
    resumes: bool = False,
    prices: Sequence[float] | None = None,
) -> list[StepReport]:
    """Run a step and show what is then in `places`, its directories under `work`: a report for each.

    `resumes` says whether the step goes on after the rows that an interrupted run has left; with `prices`, progress
    tells what the models' tokens have cost.
    """
    directories = {place: work / place for place in places}
    before = {place: read_manifest(directory) for place, directory in directories.items()}
    unfinished = [place for place, manifest in before.items() if manifest and not manifest["content"].get("finished")]
    left = {place: rows_written(directories[place]) for place in unfinished if resumes}
    for place, rows in left.items():
        if rows:
            say(f"{name}: resumes after {rows:,} rows in {directories[place]}")
    with progress(name, prices) as report:
        run(report)
    reports = []
    for place, directory in directories.items():
        manifest = read_manifest(directory)
        assert manifest is not None
        kept = left.get(place, 0)
        state = "already made" if manifest == before[place] else "resumed" if kept else "made"
        label = f"{manifest['content']['recipe']['step']} {' '.join(place.split('/')[1:])}"
        reports.append(StepReport(label, directory, state, manifest["content"], manifest["run"]["seconds"], kept))
        show_step(reports[-1])
    return reports
