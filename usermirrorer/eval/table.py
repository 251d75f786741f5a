"""The measures of one evaluation as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usermirrorer.console import say, warn
from usermirrorer.console.tables import Row, show_table
from usermirrorer.intervals import Estimate
from usermirrorer.wording import describe_probe, format_estimate, in_words


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
    """What the exposure alone gives away, or why it is not known, with the warning that this may deserve."""
    return " – WARNING: ".join([_probe(metrics), *metric_warnings(metrics)])


def metric_warnings(metrics: dict[str, Any]) -> list[str]:
    """What whoever reads the numbers has to know first."""
    probe = metrics["probe"]
    return ["the exposure gives the choice away"] if not isinstance(probe, str) and probe["warning"] else []


def _probe(metrics: dict[str, Any]) -> str:
    probe = metrics["probe"]
    return probe if isinstance(probe, str) else f"exposure probe: {describe_probe(probe)}"


def remarks(metrics: dict[str, Any]) -> list[str]:
    """What a reader of the numbers has to know of these scenes."""
    scenes, found = metrics["scenes"], list(metrics["notes"])
    if scenes["grouped"]:
        which = "all scenes" if scenes["grouped"] == scenes["n"] else f"the {scenes['grouped']} scenes of groups"
        found.append(
            f"in {which}, everybody in a group sees the same list of n and takes another of its items: all accuracy "
            "above 1/n is owed to the user"
        )
    if scenes["evidence"]:
        which = "every scene" if scenes["evidence"] == scenes["n"] else f"{scenes['evidence']:,} scenes"
        found.append(
            f"the options of {which} carry evidence, a word for how strongly item-kNN leads to them from the person's "
            "history: models start from what collaborative filtering knows"
        )
    return found + ([metrics["no_intervals"]] if metrics["no_intervals"] else [])


def baseline_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Estimate | None]]]:
    """Label and macro measures of everything that models are compared with, except chance."""
    if not isinstance(metrics["probe"], str) and PROBE not in metrics["baselines"]:
        yield PROBE, {"argmax_accuracy": metrics["probe"]["accuracy"]}
    for name, measured in metrics["baselines"].items():
        yield name, _macro(measured)
    for name, measured in metrics["best_possible"].items():
        yield name, _macro(measured)
        scenes = measured["macro"]["accuracy"]["n"]
        own = {key: _value(one, scenes) for key, one in measured["expected"].items()}
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


def show_metrics(metrics: dict[str, Any]) -> None:
    """Show chance, probe and baselines, then the models: macro means over domains with 95 % intervals."""
    measured = [("chance", {"argmax_accuracy": _value(metrics["chance"])}), *baseline_rows(metrics)]
    models = [*model_rows(metrics)]
    keys = [key for key in TERMINAL if any(found.get(key) for _, found in measured + models)]
    rows: list[Row] = [(label, *format_estimates(found, keys)) for label, found in measured]
    rows += [None, *((label, *format_estimates(found, keys)) for label, found in models)]
    title = f"{metrics['scenes']['n']:,} scenes of {metrics['scenes']['users']:,} users"
    show_table(("", *(MEASURES[key] for key in keys)), rows, title=title)
    differences = [
        (label, *(format_estimate(pair[key], signed=True) for key in TERMINAL[:3]))
        for label, pair in difference_rows(metrics)
    ]
    show_table(("", *(MEASURES[key] for key in TERMINAL[:3])), differences, title="Differences, paired by scene")
    counts = {
        name if context == "full" else f"{name}, {context}": counts
        for name, model in metrics["models"].items()
        for context, counts in model["counts"].items()
    }
    reasons = next(iter(counts.values()))
    answers = [(in_words(one), *(f"{found[one]:,}" for found in counts.values())) for one in reasons]
    show_table(("answers", *counts), [row for row in answers if set(row[1:]) != {"0"}])
    for name, model in metrics["models"].items():
        if "without_unfinished" in model:
            kept = format_estimate(model["without_unfinished"]["accuracy"])
            say(f"  {name}: accuracy of sampled answers without those that name no option {kept}")
    for line in [*remarks(metrics), *fit_lines(metrics), _probe(metrics)]:
        say(f"  {line}")
    for warning in metric_warnings(metrics):
        warn(warning)


def _value(value: float, scenes: int = 0) -> Estimate:
    """What is known without an error."""
    return Estimate(value=value, low=None, high=None, n=scenes)


def _macro(measured: Mapping[str, Any]) -> Mapping[str, Estimate | None]:
    return {**measured["macro"], "user_gain": measured["user_gain"]}
