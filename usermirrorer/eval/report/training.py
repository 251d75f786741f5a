"""How the evaluated models were trained, as a section of the report: the funnel of their pairs, and their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from usermirrorer.eval.report.document import Figure, Section, Table, TableRow
from usermirrorer.eval.report.svg import curve_plot


def training(metrics: dict[str, Any]) -> Section:
    """The funnel of the pairs and the curves of every model that was trained here."""
    trained = {name: model["training"] for name, model in metrics["models"].items() if model["training"]}
    if not trained:
        return Section("Training", ["No model here has a record of its training (usermirrorer.json)."])
    words: list[str] = []
    parts: list[Table | Figure] = []
    funnels: dict[str, Mapping[str, Mapping[str, int]]] = {}
    for name, record in trained.items():
        data, run = record["data"], record["run"]
        steps = f"; {run['steps']:,} steps of {run['global_batch']} pairs" if run else "; the run did not finish"
        words.append(
            f"{name}: {str(record['method']).upper()} of {record['base']} on {data['kept']:,} of {data['rows']:,} "
            f"rows of {data['path']}{steps}."
        )
        if isinstance(record["pairs"], str):
            words.append(f"{name}: no funnel of its pairs, as {record['pairs']}.")
        else:
            funnels.setdefault(data["path"], record["pairs"])
        if not record["curves"]:
            words.append(f"{name}: no curves, as its directory has no log (trainer_state.json).")
    for path, funnel in funnels.items():
        stages = list(next(iter(funnel.values())))
        rows = [TableRow(domain, [f"{counts[stage]:,}" for stage in stages]) for domain, counts in funnel.items()]
        parts.append(Table([stage.replace("_", " ") for stage in stages], rows, f"From scenes to the pairs of {path}"))
    logged = [(record["method"], curve) for record in trained.values() for curve in record["curves"]]
    for method, curve in dict.fromkeys(logged):  # the losses of two methods can't be compared
        series = {
            name: record["curves"][curve]
            for name, record in trained.items()
            if record["method"] == method and curve in record["curves"]
        }
        title = f"{str(method).upper()}: {curve.replace('/', ', ').replace('_', ' ')}"
        parts.append(Figure(title, curve_plot(series, title), _curve_table(series)))
    return Section("Training", words, parts)


def _curve_table(series: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    """What was logged at up to eight steps, spread evenly."""
    steps = sorted({int(step) for points in series.values() for step, _ in points})
    shown = sorted({steps[round(i * (len(steps) - 1) / 7)] for i in range(8)})
    rows = []
    for name, points in series.items():
        values = {int(step): f"{value:.3g}" for step, value in points}
        rows.append(TableRow(name, [values.get(step, "") for step in shown]))
    return Table([f"step {step}" for step in shown], rows)
