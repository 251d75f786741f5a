"""What a running step shows: a progress bar on a terminal, plain lines in a log, and tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from usermirrorer.wording import describe_exposure, describe_probe, format_estimate, format_exact


LOG_EVERY_SECONDS = 10.0


def say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that reports progress: a bar on a terminal, a line every few seconds in a log."""
    if sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    started = reported = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if done == total or now - reported > LOG_EVERY_SECONDS:
            reported = now
            left = (now - started) / max(done, 1) * (total - done)
            say(f"{what}: {done:,} of {total:,}, {now - started:.0f} s, about {left:.0f} s left")

    yield report


def show_tables(content: Mapping[str, Any]) -> None:
    """What a finished `prepare` step holds, what it dropped, and how many scenes it can give."""
    say(f"prepare {content['recipe']['domain']}: {_listed(content['rows'])}; dropped: {_listed(content['dropped'])}")
    for split, counts in content["choices"].items():
        lost = {reason: count for reason, count in counts.items() if reason not in ("choices_in_window", "qualifying")}
        within = f"{counts['qualifying']:,} of {counts['choices_in_window']:,} choices in its window"
        say(f"  {split}: {within} can become scenes; lost: {_listed(lost)}")
    for warning in content["warnings"]:
        say(f"  WARNING: {warning}")


def _listed(counts: Mapping[str, int]) -> str:
    """`users 943, items 1,682`; `none` if all are 0."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"


def show_scenes(content: Mapping[str, Any], directory: Path) -> None:
    """Counts, the exposure probe and the baselines of a finished `scenes` step."""
    from rich.console import Console
    from rich.table import Table

    recipe, probe = content["recipe"], content["probe"]
    say(f"scenes {recipe['domain']} {recipe['split']} ({recipe['exposure']}): {content['rows']:,} in {directory}")
    say(f"  counted: {_listed(content['counts'])}")
    for sentence in describe_exposure(content):
        say(f"  {sentence}")
    # If choices are left, a further group would not have fitted.
    if content["rows"] < content["asked"] and not content["counts"].get("beyond_num"):
        say(f"  warning: {content['asked']:,} scenes were requested; the choices ran out at {content['rows']:,}")
    table = Table(title=f"Without a model, {probe['chance']:.3f} is chance", title_justify="left")
    for heading in ("", "accuracy", "arg-max accuracy [95 %]"):
        table.add_column(heading)
    for name, accuracy in probe["classifiers"].items():
        table.add_row(f"probe: {name}", "", format_exact(accuracy, probe["exact"]))
    if "time_aware" in probe:
        table.add_row("trees that know the time of the choice", "", format_estimate(probe["time_aware"]))
    table.add_row("probe, permuted labels", "", format_estimate(probe["permuted"]))
    for name, accuracy in content["baselines"].items():
        table.add_row(name, f"{accuracy['accuracy']['value']:.3f}", format_estimate(accuracy["argmax_accuracy"]))
    Console().print(table)
    if probe["warning"]:
        say(
            "  WARNING: the exposure gives the choice away to a classifier that sees nothing of the user: "
            f"{describe_probe(probe)}. Judge every accuracy against it."
        )


def show_pairs(content: Mapping[str, Any], directory: Path) -> None:
    """The funnel, the diagnostics and the warnings of a finished `distill` step."""
    say(f"pairs: {content['rows']:,} in {directory}")
    for title in ("funnel", "counts", "diagnostics"):
        if content.get(title):
            say(f"  {title}: {content[title]}")
    for warning in content["warnings"]:
        say(f"  WARNING: {warning}")
