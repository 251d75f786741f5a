"""The measures of one evaluation as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usermirrorer.measures import Estimate


PROBE = "exposure probe"
"""The probe's name among the baselines; the manifest has its arg-max accuracy."""

MEASURES = {
    "accuracy": "accuracy",
    "argmax_accuracy": "arg-max",
    "information_gain": "info gain (bits)",
    "mrr": "MRR",
    "brier": "Brier",
    "ece": "ECE",
}


def format_estimate(estimate: Estimate | None, signed: bool = False) -> str:
    """`0.512 [0.480, 0.544]`, or a dash for None."""
    if estimate is None:
        return "–"
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(estimate["value"], estimate["low"], estimate["high"])


def format_estimates(measured: Mapping[str, Estimate], keys: Iterable[str] = MEASURES) -> list[str]:
    """`format_estimate` of each named measure; empty text for those that were not measured."""
    return [format_estimate(measured[key], key == "information_gain") if key in measured else "" for key in keys]


def probe_line(metrics: dict[str, Any]) -> str:
    """What the exposure alone gives away, or why it is not known."""
    probe = metrics["probe"]
    if isinstance(probe, str):
        return probe
    warning = " – WARNING: the exposure gives the choice away" if probe.get("warning") else ""
    return f"exposure probe {format_estimate(probe['accuracy'])}, chance {metrics['chance']['value']:.3f}{warning}"


def reasons(counts: dict[str, int]) -> str:
    """What happened to the scenes and the decision processes, in words."""
    scenes = f"{counts['answered']} of {counts['scenes']} scenes answered, {counts['too_long']} too long"
    rows = f"{counts['unfinished']} of {counts['rows']} decisions unfinished, {counts['cut_off']} cut off"
    return f"{scenes}, {counts['shed']} with history shed; {rows}, {counts['disagrees']} favour another label"


def baseline_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, dict[str, Estimate]]]:
    """Label and macro measures of everything that models are compared with, except chance."""
    if not isinstance(metrics["probe"], str) and PROBE not in metrics["baselines"]:
        yield PROBE, {"argmax_accuracy": metrics["probe"]["accuracy"]}
    for name, measured in metrics["baselines"].items():
        yield name, measured["macro"]
    if metrics["best_possible"]:
        yield "best possible", metrics["best_possible"]["macro"]


def model_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, dict[str, Estimate]]]:
    """Label and macro measures of every model: in each context (`full` under its own name), and calibrated."""
    for name, model in metrics["models"].items():
        for context, measured in model["contexts"].items():
            yield name if context == "full" else f"{name}, {context}", measured["macro"]
        if "calibrated" in model:
            calibrated = model["calibrated"]
            yield f"{name} at temperature {calibrated['temperature']:.2f}", calibrated["macro"]


def print_table(metrics: dict[str, Any]) -> None:
    """Print chance, probe and baselines, then the models: macro means over domains with 95 % intervals."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 180  # logs are not wrapped
    table = Table(title=f"{metrics['source']}: {metrics['scenes']['n']} scenes, {metrics['scenes']['users']} users")
    table.add_column("", no_wrap=True)
    shown = {name: heading for name, heading in MEASURES.items() if name != "brier"}
    for heading in [*shown.values(), "user gain"]:
        table.add_column(heading, justify="right")
    table.add_row("chance", f"{metrics['chance']['value']:.3f}")
    for label, measured in baseline_rows(metrics):
        table.add_row(label, *format_estimates(measured, shown))
    table.add_section()
    models = metrics["models"]
    for label, measured in model_rows(metrics):
        gain = format_estimate(models[label].get("user_gain"), signed=True) if label in models else ""
        table.add_row(label, *format_estimates(measured, shown), gain)
    console.print(table)
    console.print(probe_line(metrics), style="dim", highlight=False)
    for name, model in models.items():
        for context, counts in model["counts"].items():
            console.print(f"{name}, {context}: {reasons(counts)}", style="dim", highlight=False)
        if "without_unfinished" in model:
            kept = format_estimate(model["without_unfinished"]["accuracy"])
            console.print(f"{name}: accuracy without unfinished rows {kept}", highlight=False)
    for note in metrics["notes"]:
        console.print(note, style="dim", highlight=False)
