"""The measures of one evaluation as a table in the terminal."""

from __future__ import annotations

from typing import Any

from usermirrorer.measures import Estimate


COLUMNS = {
    "accuracy": "accuracy",
    "argmax_accuracy": "arg-max",
    "information_gain": "info gain (bits)",
    "mrr": "MRR",
    "ece": "ECE",
}


def format_estimate(estimate: Estimate | None, signed: bool = False) -> str:
    """`0.512 [0.480, 0.544]`, or a dash for None."""
    if estimate is None:
        return "–"
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(estimate["value"], estimate["low"], estimate["high"])


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


def print_table(metrics: dict[str, Any]) -> None:
    """Print chance, probe and baselines, then the models: macro means over domains with 95 % intervals."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 180  # logs are not wrapped
    table = Table(title=f"{metrics['source']}: {metrics['scenes']['n']} scenes, {metrics['scenes']['users']} users")
    table.add_column("", no_wrap=True)
    for heading in [*COLUMNS.values(), "user gain"]:
        table.add_column(heading, justify="right")
    blank = [""] * len(COLUMNS)
    table.add_row("chance", f"{metrics['chance']['value']:.3f}", *blank)
    if not isinstance(metrics["probe"], str) and "exposure probe" not in metrics["baselines"]:
        table.add_row("exposure probe", "", format_estimate(metrics["probe"]["accuracy"]), *blank[1:])
    for name, measured in metrics["baselines"].items():
        table.add_row(name, *_cells(measured["macro"]), "")
    if metrics["best_possible"]:
        table.add_row("best possible", *_cells(metrics["best_possible"]["macro"]), "")
    table.add_section()
    for name, model in metrics["models"].items():
        for context, measured in model["contexts"].items():
            gain = format_estimate(model.get("user_gain"), signed=True) if context == "full" else ""
            table.add_row(name if context == "full" else f"{name} ({context})", *_cells(measured["macro"]), gain)
        if "calibrated" in model:
            calibrated = model["calibrated"]
            table.add_row(f"{name} (T={calibrated['temperature']:.2f})", *_cells(calibrated["macro"]), "")
    console.print(table)
    console.print(probe_line(metrics), style="dim", highlight=False)
    for name, model in metrics["models"].items():
        for context, counts in model["counts"].items():
            console.print(f"{name}, {context}: {reasons(counts)}", style="dim", highlight=False)
        if "without_unfinished" in model:
            kept = format_estimate(model["without_unfinished"]["accuracy"])
            console.print(f"{name}: accuracy without unfinished rows {kept}", highlight=False)
    for note in metrics["notes"]:
        console.print(note, style="dim", highlight=False)


def _cells(measured: dict[str, Estimate]) -> list[str]:
    return [format_estimate(measured[key], signed=key == "information_gain") for key in COLUMNS]
