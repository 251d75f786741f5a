"""What a person sees of a running command: lines, headlines, warnings, progress and, with --json, one object.

A command prints through these functions; `--quiet`, `--json` and `--verbose` are decided here and nowhere else. What
is shown may be other people's text: nothing in it steers the terminal (`printable.py`).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usermirrorer.console.printable import printable, printable_json
from usermirrorer.wording import format_seconds


if TYPE_CHECKING:
    from rich.console import Console


LOG_EVERY_SECONDS = 10.0

HANGING = 2
"""Spaces before the further lines of one that is wrapped."""


@dataclass
class Output:
    """How much a command shows, and what it keeps for its end."""

    quiet: bool = False
    """Only warnings and the last headline"""
    as_json: bool = False
    """Only the facts, as one JSON object"""
    verbose: bool = False
    """Also what libraries say"""
    last: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        return self.quiet or self.as_json


_output = Output()


@contextmanager
def output(quiet: bool = False, as_json: bool = False, verbose: bool = False) -> Iterator[None]:
    """Show what is printed inside as told. A command that fails still gives the facts that it reported.

    With `as_json`, stdout has nothing but the object: warnings, progress and stray prints go to stderr.
    """
    global _output
    before, _output, stdout = _output, Output(quiet, as_json, verbose), sys.stdout
    try:
        if as_json:
            with redirect_stdout(sys.stderr):
                yield
        else:
            yield
        if quiet and not as_json and _output.last:
            _print(_output.last)
    finally:
        if as_json and _output.facts:
            text = json.dumps(_output.facts, indent=1, ensure_ascii=False, default=str)
            print(printable_json(text), file=stdout, flush=True)
        _output = before


def is_silent() -> bool:
    """Whether only warnings, or only facts, are shown."""
    return _output.silent


def verbose() -> bool:
    """Whether libraries may say what they like."""
    return _output.verbose


def report(facts: Mapping[str, Any]) -> None:
    """Add to the facts that --json shows."""
    _output.facts |= facts


def say(line: str = "", style: str = "") -> None:
    """Print a line or several, wrapped between words where they are longer than the terminal is wide."""
    if not _output.silent:
        _print(line, style)


def headline(line: str) -> None:
    """Print a line on what was done, and where it is. With --quiet, the last one of a command is all that is shown."""
    _output.last = line
    if not _output.silent:
        _print(line, "bold")


def warn(line: str, word: str = "WARNING") -> None:
    """Print what nobody may miss, however quiet the command is."""
    _print(f"{word}: {line}", "yellow")


def terminal() -> Console:
    """A rich console on stdout: COLUMNS wide, else as wide as the terminal, else 80. It honours NO_COLOR."""
    from rich.console import Console

    return Console(width=shutil.get_terminal_size().columns, highlight=False, markup=False, emoji=False)


def _print(line: str, style: str = "") -> None:
    from rich.text import Text

    console = terminal()
    for text in printable(line).split("\n"):
        indent = " " * (len(text) - len(text.lstrip()))
        # What can't be broken between words, such as a path, stays whole.
        words = Text(text.strip(), style=style, overflow="ignore")
        for number, part in enumerate(words.wrap(console, console.width - len(indent) - HANGING) or [words]):
            part.rstrip()
            before = Text(indent + " " * HANGING if number else indent)
            console.print(before + part, overflow="ignore", no_wrap=True, crop=False)


@contextmanager
def progress(what: str, prices: Sequence[float] | None = None) -> Iterator[Callable[..., None]]:
    """A function (done, total, read, written) that reports progress: a bar on a terminal, lines now and then in a log.

    `read` and `written` are the tokens of models so far; `prices` are dollars for a million of each. What was done
    before the first report counts for neither rate nor time left.
    """
    if _output.quiet:
        yield lambda done, total, read=0, written=0: None
        return
    console = terminal()
    started = reported = time.monotonic()
    before: list[int] = []

    def rates(done: int, read: int, written: int) -> tuple[float, str]:
        """Done per second, in words with the tokens per second and what they have cost."""
        if not before:
            before.append(done)
        seconds = max(time.monotonic() - started, 1e-9)
        rate = (done - before[0]) / seconds
        parts = [f"{rate:,.3g}/s"]
        if read + written:
            parts.append(f"{(read + written) / seconds:,.0f} tokens/s")
        if prices:
            parts.append(f"${(read * prices[0] + written * prices[1]) / 1e6:,.2f}")
        return rate, ", ".join(parts)

    if sys.stdout.isatty() and not console.is_dumb_terminal:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None, rate="")
            yield lambda done, total, read=0, written=0: bar.update(
                task, completed=done, total=total, rate=rates(done, read, written)[1]
            )
        return

    def write(done: int, total: int, read: int = 0, written: int = 0) -> None:
        nonlocal reported
        rate, told = rates(done, read, written)
        now = time.monotonic()
        if now - reported > LOG_EVERY_SECONDS and done < total:
            reported = now
            left = f", about {format_seconds((total - done) / rate)} left" if rate else ""
            _print(f"{what}: {done / max(total, 1):.0%} after {now - started:.0f} s, {told}{left}")

    yield write
