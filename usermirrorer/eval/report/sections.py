"""What a report says, section by section: the result in words, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usermirrorer.eval.best_possible import FROM_TEXT
from usermirrorer.eval.report.document import Commands, Example, Figure, Section, Table, TableRow
from usermirrorer.eval.report.headline import headline, ranked
from usermirrorer.eval.report.svg import Row, dot_plot, position_plot, reliability_plot
from usermirrorer.eval.report.training import training
from usermirrorer.eval.scene_predictions import COMPARED
from usermirrorer.eval.table import (
    MEASURES,
    PROBE,
    baseline_rows,
    difference_rows,
    fit_lines,
    format_estimates,
    model_rows,
    probe_line,
    remarks,
)
from usermirrorer.intervals import Estimate
from usermirrorer.llm.prompts import LABELS
from usermirrorer.wording import format_estimate


MAIN = ("argmax_accuracy", "calibrated_gain", "accuracy", "user_gain")
"""Measures of the first table; a later one has all."""


def sections(metrics: dict[str, Any]) -> list[Section]:
    """The report of one or several evaluations of the same scenes, as `report.merged` puts them together."""
    names = ranked(metrics)
    order = [*names, *(name for name in metrics["models"] if name not in names)]
    metrics = {**metrics, "models": {name: metrics["models"][name] for name in order}}
    full = {name: metrics["models"][name]["contexts"]["full"] for name in names}
    found = [
        Section("Result", headline(metrics)),
        _accuracy(metrics, full),
        _probe(metrics),
        *([_examples(names[0], metrics)] if names else []),
        _differences(metrics),
        training(metrics),
        *([_parts(names[0], metrics)] if names else []),
        _calibration(full),
        _positions(full),
        _measures(metrics),
        _domains(full),
        _counts(metrics),
        _provenance(metrics),
    ]
    return [section for section in found if section.words or section.parts]


def _accuracy(metrics: dict[str, Any], full: Mapping[str, Any]) -> Section:
    """Models first, baselines behind, the probe beside: as a plot and as a table."""
    lines = {"chance": metrics["chance"]}
    if FROM_TEXT in metrics["best_possible"]:
        lines[FROM_TEXT] = metrics["best_possible"][FROM_TEXT]["macro"]["argmax_accuracy"]["value"]
    models, others = dict(model_rows(metrics)), dict(baseline_rows(metrics))

    def place(name: str) -> tuple[bool, bool, float]:
        found = others[name]["argmax_accuracy"]
        return name == PROBE, name not in metrics["baselines"], -found["value"] if found else 0.0

    kinds = {name: (models[name], "model") for name in full}
    kinds |= {name: (others[name], "probe" if name == PROBE else "baseline") for name in sorted(others, key=place)}
    plotted = [
        Row(name, found, kind)
        for name, (measured, kind) in kinds.items()
        if (found := measured["argmax_accuracy"]) and (name in full or name in metrics["baselines"] or name == PROBE)
    ]
    rows = [TableRow(name, format_estimates(measured, MAIN), kind) for name, (measured, kind) in kinds.items()]
    rows.append(TableRow("chance", [f"{metrics['chance']:.3f}"]))
    words = [
        "Arg-max accuracy: how often the most probable option is the choice; the bar is the 95 % interval, which "
        "allows for users and shared lists. Calibrated gain: bits over a uniform guess once confidence is put right. "
        "Accuracy of sampled answers, the published measure: how often one sampled answer is right."
    ]
    if any(measured.get("user_gain") for measured, _ in kinds.values()):
        words.append(
            "User gain: (n · arg-max accuracy − 1) / (n − 1), 0 without looking at the user and 1 if always right."
            if metrics["scenes"]["grouped"]
            else "User gain: arg-max accuracy with the user's own history minus with another user's, scene by scene."
        )
    table = _without_empty(Table([MEASURES[key] for key in MAIN], rows))
    plot = dot_plot(plotted, lines, "Arg-max accuracy")
    return Section("Models and baselines", words, [Figure("Arg-max accuracy", plot, table, folded=False)])


def _probe(metrics: dict[str, Any]) -> Section:
    probe = metrics["probe"]
    words = [
        "How often the choice can be guessed from the options alone, without the user.",
        f"{probe_line(metrics)}.",
        *(f"Note: {remark}." for remark in remarks(metrics)),
    ]
    return Section("Does the exposure give the choice away?", words, warns=isinstance(probe, str) or probe["warning"])


def _examples(name: str, metrics: dict[str, Any]) -> Section:
    found = metrics["models"][name]["examples"]
    if not found:
        return Section("Scenes to read")
    kept = [domain for domain, free in metrics["redistribute_text"].items() if not free]
    words = [
        f"Scenes of {name}, as far as it has such: its surest hit, a hit and a miss like most, the choice that "
        "surprised it most, and one drawn by seed. Probabilities are means over its decision processes; the text is "
        "that of the first."
    ]
    if kept:
        words.append(
            f"As far as is known, the texts of {', '.join(kept)} may not be passed on, and so neither may this page."
        )
    return Section("Scenes to read", words, [Example(scene) for scene in found])


def _differences(metrics: dict[str, Any]) -> Section:
    rows = [
        TableRow(label, [*(format_estimate(pair[key], signed=True) for key in COMPARED), f"{pair['accuracy']['n']}"])
        for label, pair in difference_rows(metrics)
    ]
    if not rows:
        return Section("Differences")
    words = [
        "Of each model from the model it was trained from and from the strongest baseline, then between the other "
        "models, paired by scene. If an interval excludes 0, the two differ."
    ]
    return Section("Differences", words, [Table([*(MEASURES[key] for key in COMPARED), "scenes"], rows)])


def _parts(name: str, metrics: dict[str, Any]) -> Section:
    """The best model in parts of the scenes as a plot, the others as a table."""
    by_model = {model: _measured_parts(metrics["models"][model]) for model in ranked(metrics)}
    if len(by_model[name]) == 1:
        return Section("Parts of the scenes")
    words = [
        f"Arg-max accuracy of {name} in parts of the scenes; where lists differ in length, so does chance. Warm users "
        "have train scenes, cold users have none. Later chosen: the user chooses another of the options later."
    ]
    rows = {
        model: [
            TableRow(part, [*format_estimates(found, COMPARED), f"{found['accuracy']['n']:,}"])
            for part, found in parts.items()
        ]
        for model, parts in by_model.items()
    }
    headings = [*(MEASURES[key] for key in COMPARED), "scenes"]
    plotted = [Row(part, found["argmax_accuracy"], "model") for part, found in by_model[name].items()]
    plot = dot_plot(plotted, {"chance": metrics["chance"]}, f"{name} in parts of the scenes")
    others = [Table(headings, rows[model], model) for model in rows if model != name]
    return Section("Parts of the scenes", words, [Figure(name, plot, Table(headings, rows[name])), *others])


def _measured_parts(model: Mapping[str, Any]) -> dict[str, Mapping[str, Estimate]]:
    """Part -> its measures, all scenes first, then the domains if there are several."""
    full = model["contexts"]["full"]
    parts = {"all scenes": full["macro"], **(full["domains"] if len(full["domains"]) > 1 else {})}
    parts |= {part.replace("_", " "): found for part, found in model["parts"].items()}
    if "without_unfinished" in model:
        parts["finished decisions only"] = model["without_unfinished"]
    return parts


def _calibration(full: Mapping[str, Any]) -> Section:
    if not full:
        return Section("Calibration")
    words = [
        "Share of hits against confidence, in a few bins of equal mass with 95 % intervals. On the diagonal, "
        "confidence equals the share of hits."
    ]
    series = {name: one["reliability"] for name, one in full.items()}
    bins = max(map(len, series.values()))
    rows = [
        TableRow(name, [f"{found['confidence']:.2f} → {format_estimate(found['hit'])}" for found in points])
        for name, points in series.items()
    ]
    table = Table([f"bin {number}" for number in range(1, bins + 1)], rows)
    return Section("Calibration", words, [Figure("Reliability", reliability_plot(series, "Reliability"), table)])


def _positions(full: Mapping[str, Any]) -> Section:
    """For every number of options: the mean prediction by position, and each model's bias."""
    parts = []
    for n in sorted({n for one in full.values() for n in one["positions"]}, key=int):
        series = {name: one["positions"][n] for name, one in full.items() if n in one["positions"]}
        rows = [
            TableRow(name, [format_estimate(full[name]["position_bias"][n]), *(f"{share:.3f}" for share in shares)])
            for name, shares in series.items()
        ]
        table = Table(["total variation from uniform", *LABELS[: int(n)]], rows)
        parts.append(Figure(f"{n} options", position_plot(series, LABELS, f"Positions of {n}"), table))
    if not parts:
        return Section("Position bias")
    words = ["Mean probability of each position. In sound scenes, choices are uniform over positions."]
    return Section("Position bias", words, parts)


def _measures(metrics: dict[str, Any]) -> Section:
    """All measures of everything, variants of the models included."""
    rows = [
        TableRow(label, format_estimates(measured), "model" if label in metrics["models"] else "")
        for label, measured in model_rows(metrics)
    ]
    rows += [TableRow(label, format_estimates(measured)) for label, measured in baseline_rows(metrics)]
    words = [
        "Means over domains. ECE comes with its null: what perfect calibration would show on as many scenes. "
        "Calibrated: each half of the users has its confidence put right by the other. Prior-corrected: less what the "
        "model says of a list whoever looks at it.",
        *(f"{line}." for line in fit_lines(metrics)),
    ]
    return Section("All measures", words, [_without_empty(Table(list(MEASURES.values()), rows))])


def _domains(full: Mapping[str, Any]) -> Section:
    rows = []
    for name, one in full.items():
        scopes: Mapping[str, Mapping[str, Estimate | None]] = (
            {**one["domains"], "pooled": one["pooled"]} if len(one["domains"]) > 1 else {}
        )
        rows += [TableRow(f"{name}, {scope}", format_estimates(measured)) for scope, measured in scopes.items()]
    return Section("Domains", [], [_without_empty(Table(list(MEASURES.values()), rows))] if rows else [])


def _without_empty(table: Table) -> Table:
    """The table without the columns in which no row has anything."""
    kept = [i for i in range(len(table.headings)) if any(row.cells[i : i + 1] not in ([], [""]) for row in table.rows)]
    rows = [TableRow(row.label, [row.cells[i] for i in kept if i < len(row.cells)], row.kind) for row in table.rows]
    return Table([table.headings[i] for i in kept], rows, table.title)


def _counts(metrics: dict[str, Any]) -> Section:
    models = metrics["models"]
    headings = [key.replace("_", " ") for key in next(iter(next(iter(models.values()))["counts"].values()))]
    rows = [
        TableRow(f"{name}, {context}", [f"{count:,}" for count in counts.values()])
        for name, model in models.items()
        for context, counts in model["counts"].items()
    ]
    read = ", ".join(f"{count:,} {name}" for name, count in metrics["read"].items())
    words = [f"Scenes in the source: {read}. Nothing is filled in: scenes that are too long have no answer."]
    return Section("Counts", words, [Table(headings, rows)])


def _provenance(metrics: dict[str, Any]) -> Section:
    """Settings, versions, dates and commands."""
    words = []
    for name, model in metrics["models"].items():
        settings = model["settings"]
        shown = {key: settings[key] for key in ("mode", "repeat", "seed", "anonymise")} | settings["sampling"]
        listed = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())
        words.append(f"{name}: {model['spec']}, prompt {model['prompt']}, {listed}.")
    for directory, run in metrics["runs"].items():
        versions = ", ".join(f"{library} {version}" for library, version in run["versions"].items())
        words.append(f"{directory}: evaluated {run['finished_at']} with {versions}.")
    commands = [*dict.fromkeys(run["command"] for run in metrics["runs"].values()), metrics["command"]]
    return Section("How this was made", words, [Commands(commands)])
