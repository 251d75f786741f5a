"""The report as one HTML page without scripts or external resources, for light and dark screens, wide and narrow.

This module prepares table rows and plots; `templates/report.html.j2` lays them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from usermirrorer.eval.best_possible import FROM_TEXT
from usermirrorer.eval.scene_predictions import COMPARED
from usermirrorer.eval.svg import Row, dot_plot, position_plot, reliability_plot
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
from usermirrorer.llm.prompts import LABELS
from usermirrorer.wording import format_estimate


@dataclass(frozen=True)
class TableRow:
    """One row of a table; missing cells at its end stay empty. `kind` is a CSS class.

    A cell is a value, which may be followed by a space and its interval.
    """

    label: str
    cells: list[str]
    kind: str = ""


def page(metrics: dict[str, Any]) -> str:
    """The whole page of one or several evaluations of the same scenes."""
    environment = Environment(
        loader=PackageLoader("usermirrorer.eval"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    probe, models = metrics["probe"], metrics["models"]
    full = {name: model["contexts"]["full"] for name, model in models.items() if "full" in model["contexts"]}
    gains = [Row(name, model["user_gain"], "model") for name, model in models.items() if model.get("user_gain")]
    reliability = {name: one["reliability"] for name, one in full.items()}
    first_counts = next(iter(next(iter(models.values()))["counts"].values()))
    values = {
        **metrics,
        "probe": probe_line(metrics),
        "probe_warns": isinstance(probe, str) or probe["warning"],
        "remarks": remarks(metrics),
        "fits": fit_lines(metrics),
        "measures": list(MEASURES.values()),
        "compared": [MEASURES[key] for key in COMPARED],
        "headline": _headline(metrics),
        "accuracy_plots": _accuracy_plots(metrics, full),
        "user_gain": dot_plot(gains, {}, "User gain", signed=True) if gains else None,
        "differences": _differences(metrics),
        "reliability": reliability_plot(reliability, "Reliability") if full else None,
        "positions": _positions(full),
        "domains": _domains(full),
        "parts": _parts(models),
        "count_headings": [key.replace("_", " ") for key in first_counts],
        "counts": [
            TableRow(f"{name}, {context}", [str(count) for count in counts.values()])
            for name, model in models.items()
            for context, counts in model["counts"].items()
        ],
        "models": {name: {**model, "settings": _settings(model["settings"])} for name, model in models.items()},
    }
    return environment.get_template("report.html.j2").render(values)


def _headline(metrics: dict[str, Any]) -> list[TableRow]:
    rows = [TableRow("chance", [f"{metrics['chance']:.3f}"])]
    rows += [TableRow(label, format_estimates(measured)) for label, measured in baseline_rows(metrics)]
    for label, measured in model_rows(metrics):
        rows.append(TableRow(label, format_estimates(measured), "model" if label in metrics["models"] else ""))
    return rows


def _accuracy_plots(metrics: dict[str, Any], full: Mapping[str, Any]) -> dict[str, str]:
    """Title -> plot of all baselines and models."""
    lines = {"chance": metrics["chance"]}
    if FROM_TEXT in metrics["best_possible"]:
        lines[FROM_TEXT] = metrics["best_possible"][FROM_TEXT]["macro"]["argmax_accuracy"]["value"]
    plots = {}
    for measure, title in (("argmax_accuracy", "Arg-max accuracy"), ("accuracy", "Accuracy of sampled answers")):
        rows = [
            Row(name, one["macro"][measure], "probe" if name == PROBE else "baseline")
            for name, one in metrics["baselines"].items()
        ]
        rows += [Row(name, one["macro"][measure], "model") for name, one in full.items()]
        plots[title] = dot_plot(rows, lines, title)
    return plots


def _differences(metrics: dict[str, Any]) -> list[TableRow]:
    return [
        TableRow(label, [*(format_estimate(pair[key], signed=True) for key in COMPARED), str(pair["accuracy"]["n"])])
        for label, pair in difference_rows(metrics)
    ]


def _positions(full: Mapping[str, Any]) -> list[tuple[str, str, list[TableRow]]]:
    """For every number of options: the number, the plot, and each model's bias."""
    found = []
    for n in sorted({n for one in full.values() for n in one["positions"]}, key=int):
        series = {name: one["positions"][n] for name, one in full.items() if n in one["positions"]}
        rows = [TableRow(name, [format_estimate(full[name]["position_bias"][n])]) for name in series]
        found.append((n, position_plot(series, LABELS, f"Positions of {n}"), rows))
    return found


def _domains(full: Mapping[str, Any]) -> list[TableRow]:
    rows = []
    for name, one in full.items():
        scopes = {**one["domains"], "pooled": one["pooled"]} if len(one["domains"]) > 1 else {}
        rows += [TableRow(f"{name}, {scope}", format_estimates(measured)) for scope, measured in scopes.items()]
    return rows


def _parts(models: Mapping[str, Any]) -> list[TableRow]:
    rows = []
    for name, model in models.items():
        parts = dict(model.get("parts", {}))
        if "without_unfinished" in model:
            parts["without unfinished decisions"] = model["without_unfinished"]
        for part, measured in parts.items():
            cells = [*format_estimates(measured, COMPARED), str(measured["accuracy"]["n"])]
            rows.append(TableRow(f"{name}, {part.replace('_', ' ')}", cells))
    return rows


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    shared = {name: settings[name] for name in ("mode", "repeat", "seed", "anonymise")}
    return {name.replace("_", " "): value for name, value in {**shared, **settings["sampling"]}.items()}
