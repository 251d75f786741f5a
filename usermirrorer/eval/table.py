"""The measures of one evaluation as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usermirrorer.intervals import Estimate
from usermirrorer.wording import describe_probe, format_estimate


PROBE = "exposure probe"
"""The probe's name among the baselines; the manifest has its arg-max accuracy."""

MEASURES = {
    "argmax_accuracy": "arg-max accuracy",
    "calibrated_gain": "calibrated gain (bits)",
    "accuracy": "accuracy of sampled answers",
    "user_gain": "user gain",
    "information_gain": "raw gain (bits)",
    "mrr": "MRR",
    "brier": "Brier",
    "ece": "ECE (its null)",
}
"""The headline first: in the order of `scene_predictions.COMPARED`."""

TERMINAL = ("argmax_accuracy", "calibrated_gain", "accuracy", "user_gain", "information_gain", "ece")

SIGNED = ("calibrated_gain", "information_gain", "user_gain")


def format_estimates(measured: Mapping[str, Estimate | None], keys: Iterable[str] = MEASURES) -> list[str]:
    """`format_estimate` of each named measure; empty text for those that were not measured."""
    cells = []
    for key in keys:
        estimate, null = measured.get(key), measured.get("ece_null")
        if key == "ece" and estimate and null:
            cells.append(f"{estimate['value']:.3f} ({null['value']:.3f})")
        else:
            cells.append(format_estimate(estimate, key in SIGNED) if estimate else "")
    return cells


def probe_line(metrics: dict[str, Any]) -> str:
    """What the exposure alone gives away, or why it is not known."""
    probe = metrics["probe"]
    if isinstance(probe, str):
        return probe
    warning = " – WARNING: the exposure gives the choice away" if probe["warning"] else ""
    return f"exposure probe: {describe_probe(probe)}{warning}"


def remarks(metrics: dict[str, Any]) -> list[str]:
    """What a reader of the numbers has to know of these scenes."""
    scenes, found = metrics["scenes"], list(metrics["notes"])
    if scenes["grouped"]:
        which = "all scenes" if scenes["grouped"] == scenes["n"] else f"the {scenes['grouped']} scenes of groups"
        found.append(
            f"in {which}, everybody in a group sees the same list of n and takes another of its items: all accuracy "
            "above 1/n is owed to the user"
        )
    return found + ([metrics["no_intervals"]] if metrics["no_intervals"] else [])


def reasons(counts: dict[str, int]) -> str:
    """What happened to the scenes and the decision processes, in words."""
    scenes = f"{counts['answered']} of {counts['scenes']} scenes answered, {counts['too_long']} too long"
    rows = f"{counts['unfinished']} of {counts['rows']} decisions unfinished, {counts['cut_off']} cut off"
    return f"{scenes}, {counts['shed']} with history shed; {rows}, {counts['disagrees']} favour another label"


def baseline_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Estimate | None]]]:
    """Label and macro measures of everything that models are compared with, except chance."""
    if not isinstance(metrics["probe"], str) and PROBE not in metrics["baselines"]:
        yield PROBE, {"argmax_accuracy": metrics["probe"]["accuracy"]}
    for name, measured in metrics["baselines"].items():
        yield name, _macro(measured)
    for name, measured in metrics["best_possible"].items():
        yield name, _macro(measured)
        scenes = measured["macro"]["accuracy"]["n"]
        own = {key: Estimate(value=one, low=None, high=None, n=scenes) for key, one in measured["expected"].items()}
        yield f"{name}, expected", own


def model_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Estimate | None]]]:
    """Label and macro measures of every model: in each context (`full` under its own name), calibrated, corrected."""
    for name, model in metrics["models"].items():
        for context, measured in model["contexts"].items():
            if context == "full":
                yield name, {**measured["macro"], "user_gain": model["user_gain"]}
            else:
                yield f"{name}, {context}", _macro(measured)
        for kind in ("calibrated", "prior_corrected"):
            if kind in model:
                yield f"{name}, {kind.replace('_', '-')}", _macro(model[kind])


def difference_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Estimate]]]:
    """Label and paired differences: models from their parents, from the strongest baseline, and from one another."""
    strongest = metrics["strongest_baseline"]
    pairs = [pair for pair in metrics["comparisons"] if "accuracy" in pair]
    yield from ((f"{pair['b']} − {pair['a']}, its parent", pair) for pair in pairs if pair["parent"])
    for name, model in metrics["models"].items():
        if model.get("against", {}).get(strongest):
            yield f"{name} − {strongest}, the strongest baseline", model["against"][strongest]
    yield from ((f"{pair['b']} − {pair['a']}", pair) for pair in pairs if not pair["parent"])


def fit_lines(metrics: dict[str, Any]) -> list[str]:
    """What was fitted to calibrate each model, and how many of its scenes the prior correction left as they were."""
    lines = []
    for name, model in metrics["models"].items():
        fits = [
            f"smoothing {fit['smoothing']:.2f}, temperature {fit['temperature']:.2f}"
            for fit in model.get("calibrated", {}).get("halves", ())
        ]
        if fits:
            lines.append(f"{name}: fitted on either half of the users: {'; '.join(fits)}")
        if model.get("prior_corrected", {}).get("incomplete"):
            left = model["prior_corrected"]["incomplete"]
            lines.append(f"{name}: {left} scenes of groups with a member unanswered are not prior-corrected")
    return lines


def print_table(metrics: dict[str, Any]) -> None:
    """Print chance, probe and baselines, then the models: macro means over domains with 95 % intervals."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 200  # logs are not wrapped
    title = f"{metrics['source']}: {metrics['scenes']['n']} scenes, {metrics['scenes']['users']} users"
    table, differences = Table(title=title), Table(title="Differences, paired by scene")
    for shown, keys in ((table, TERMINAL), (differences, TERMINAL[:3])):
        shown.add_column("", no_wrap=True)
        for key in keys:
            shown.add_column(MEASURES[key], justify="right")
    table.add_row("chance", f"{metrics['chance']:.3f}")
    for label, measured in baseline_rows(metrics):
        table.add_row(label, *format_estimates(measured, TERMINAL))
    table.add_section()
    for label, measured in model_rows(metrics):
        table.add_row(label, *format_estimates(measured, TERMINAL))
    for label, pair in difference_rows(metrics):
        differences.add_row(label, *(format_estimate(pair[key], signed=True) for key in TERMINAL[:3]))
    console.print(table, differences)
    lines = [probe_line(metrics), *fit_lines(metrics)]
    for name, model in metrics["models"].items():
        lines += [f"{name}, {context}: {reasons(counts)}" for context, counts in model["counts"].items()]
        if "without_unfinished" in model:
            kept = format_estimate(model["without_unfinished"]["accuracy"])
            lines.append(f"{name}: accuracy without unfinished rows {kept}")
    for line in [*remarks(metrics), *lines]:
        console.print(line, style="dim", highlight=False)


def _macro(measured: Mapping[str, Any]) -> Mapping[str, Estimate | None]:
    return {**measured["macro"], "user_gain": measured["user_gain"]}
