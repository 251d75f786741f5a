"""What a step made and what was lost on the way, read from its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usermirrorer.console import headline, report, say, warn
from usermirrorer.console.pairs import show_pairs
from usermirrorer.console.tables import show_table
from usermirrorer.wording import (
    CLASSIFIERS,
    TOTALS,
    describe_exposure,
    describe_probe,
    format_estimate,
    format_exact,
    format_seconds,
    format_time,
    in_words,
    scene_warnings,
)


@dataclass(frozen=True)
class StepReport:
    """A finished step: its manifest, and how it came to be."""

    name: str
    """Step, domain and split or variant: `scenes toy train`"""
    directory: Path
    state: str
    """`made`, `resumed`, or `already made` by an earlier run"""
    content: Mapping[str, Any]
    seconds: float
    """Of the run that finished it"""
    resumed_from: int = 0
    """Rows that an earlier run had left"""

    @property
    def kind(self) -> str:
        """The step's name in the manifest: `prepare`, `embed`, `scenes`, `decide`, `score` or `distill`."""
        return self.content["recipe"]["step"]

    @property
    def rows(self) -> int:
        """Rows of its output; of tables, the interactions."""
        rows = self.content["rows"]
        return rows["interactions"] if self.kind == "prepare" else rows

    @property
    def warnings(self) -> list[str]:
        """What whoever uses the result has to know."""
        return scene_warnings(self.content) if self.kind == "scenes" else list(self.content.get("warnings", ()))

    def facts(self) -> dict[str, Any]:
        """For --json: how the step came to be, and its manifest's content without the digests of the files."""
        known = {
            "step": self.name, "directory": str(self.directory), "state": self.state, "seconds": self.seconds,
            "resumed_from": self.resumed_from, "warnings": self.warnings,
        }  # fmt: skip
        return known | {key: value for key, value in self.content.items() if key not in ("finished", "files", *known)}


def show_step(one: StepReport) -> None:
    """Say what there is and where; show counts and measures, or only the main ones if an earlier run made them."""
    if one.state == "already made":
        headline(f"{one.name}: already made, {_result(one)} in {one.directory}")
        for line in _main_facts(one):
            say(f"  {line}")
    else:
        kept = f"{one.resumed_from:,} rows of an earlier run kept; " if one.resumed_from else ""
        headline(f"{one.name}: {_result(one)} ({kept}{format_seconds(one.seconds)}) in {one.directory}")
        if one.kind in DETAILS:
            DETAILS[one.kind](one.content)
    for warning in one.warnings:
        warn(warning)


def report_steps(reports: Sequence[StepReport]) -> None:
    """Give the steps that a command ran, and their warnings, to --json."""
    warnings = [f"{one.name}: {warning}" for one in reports for warning in one.warnings]
    report({"steps": [one.facts() for one in reports], "warnings": warnings})


def show_build(name: str, reports: Sequence[StepReport]) -> None:
    """All steps of a recipe in one table."""
    rows = [
        (one.name, one.state, f"{one.rows:,}", format_seconds(one.seconds), str(len(one.warnings))) for one in reports
    ]
    say()
    show_table(("step", "state", "rows", "time", "warnings"), rows, "llr", title=f"Steps of {name}")


def _result(one: StepReport) -> str:
    """How much of what a step has made."""
    content, rows = one.content, f"{one.rows:,}"
    if one.kind == "prepare":
        tables = content["rows"]
        return f"{rows} interactions of {tables['users']:,} users with {tables['items']:,} items"
    if one.kind == "embed":
        return f"{rows} vectors of {content['width']} numbers"
    return f"{rows} {NOUNS[one.kind]}"


NOUNS = {"scenes": "scenes", "decide": "decision processes", "score": "predictions", "distill": "pairs"}


def _main_facts(one: StepReport) -> list[str]:
    content = one.content
    if one.kind == "prepare":
        return [f"{split} window from {format_time(time)}" for split, time in content["cuts"].items()]
    if one.kind == "scenes":
        return [f"exposure probe: {describe_probe(content['probe'])}"]
    return []


def _tables(content: Mapping[str, Any]) -> None:
    """Rows of the tables, rows left out, the windows, and the choices that they can give."""
    rows = [(in_words(name), f"{count:,}") for name, count in content["rows"].items()]
    show_table(("table", "rows"), rows)
    lost = [(in_words(reason), f"{count:,}") for reason, count in content["dropped"].items() if count]
    show_table(("rows left out", "number"), lost or [("none", "0")])
    if content["undated"]:
        say(f"  {content['undated']:,} interactions are undated: they count as earlier than all others.\n")
    if content["hidden"]:
        say(f"  Hidden without --snapshot, as of the end of the crawl: {', '.join(content['hidden'])}.\n")
    show_table(("window", "from"), [(split, format_time(time)) for split, time in content["cuts"].items()], "ll")
    choices = content["choices"]
    reasons = list(dict.fromkeys(reason for counts in choices.values() for reason in counts))
    show_table(
        ("choices", *choices),
        [
            (_total_or_loss(reason), *(_signed(reason, counts.get(reason, 0)) for counts in choices.values()))
            for reason in reasons
            if any(counts.get(reason) for counts in choices.values())
        ],
    )


def _scenes(content: Mapping[str, Any]) -> None:
    """The way from choices to scenes, how the lists are made, what they give away, and the baselines."""
    counts = {reason: count for reason, count in content["counts"].items() if count}
    rows = [(_total_or_loss(reason), _signed(reason, count)) for reason, count in counts.items()]
    show_table(("choices", "number"), rows)
    for sentence in describe_exposure(content):
        say(f"  {sentence}")
    say()
    probe = content["probe"]
    measured = [
        (f"probe: {CLASSIFIERS[name]}", format_exact(accuracy, probe["exact"]), "")
        for name, accuracy in probe["classifiers"].items()
    ]
    if "time_aware" in probe:
        measured.append(("trees that know the time of the choice", format_estimate(probe["time_aware"]), ""))
    measured.append(("probe, permuted labels", format_estimate(probe["permuted"]), ""))
    models = [
        (name, format_estimate(found["argmax_accuracy"]), f"{found['accuracy']['value']:.3f}")
        for name, found in content["baselines"].items()
    ]
    title = f"Without a model; chance is {probe['chance']:.3f}"
    show_table(("", "arg-max accuracy [95 %]", "accuracy"), [*measured, None, *models], title=title)


def _answers(content: Mapping[str, Any]) -> None:
    """Scenes and decisions that were cut short or left out."""
    lost = [(in_words(reason), f"{count:,}") for reason, count in content["counts"].items() if count]
    if lost:
        show_table(("of these", "number"), lost)
    else:
        say("  Nothing was left out or cut off.")


def _total_or_loss(reason: str) -> str:
    """What is lost is set in under what it is lost from."""
    return in_words(reason) if reason in TOTALS else f"  {in_words(reason)}"


def _signed(reason: str, count: int) -> str:
    return f"{count:,}" if reason in TOTALS else f"−{count:,}" if count else "0"


DETAILS = {"prepare": _tables, "scenes": _scenes, "decide": _answers, "score": _answers, "distill": show_pairs}
"""Step -> what it shows of a new result."""
