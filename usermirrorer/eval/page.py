"""The report as one HTML page without scripts or outside resources, for light and dark screens, wide and narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from usermirrorer.eval.svg import Row, dot_plot, position_plot, reliability_plot
from usermirrorer.eval.table import probe_line, shown
from usermirrorer.llm.prompts import LABELS
from usermirrorer.measures import Estimate


STYLE = """
:root { color-scheme: light dark; --ink: #1a1f27; --soft: #5d6775; --line: #dfe3e8; --paper: #ffffff; --back: #f5f6f8;
  --warn: #9a3412; --warnback: #fff1e6; --base: #7c8794; --probe: #c2410c;
  --s0: #2563a8; --s1: #c2571a; --s2: #2c8a57; --s3: #8a4fa3; --s4: #a8862a; --s5: #3c8d99; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #323a45; --paper: #1a1f26;
  --back: #12161b; --warn: #fdba74; --warnback: #3a2416; --base: #8b96a4; --probe: #f59e5b;
  --s0: #6ea8e6; --s1: #eb9560; --s2: #67c493; --s3: #c191d8; --s4: #d9bb66; --s5: #72c2cd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.55 system-ui, Roboto, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 28px 16px 64px; }
h1 { font-size: 1.55rem; margin: 0 0 2px; letter-spacing: -0.01em; }
h2 { font-size: 1.05rem; margin: 0 0 2px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); font-size: 0.9rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin-top: 16px; }
.warning { background: var(--warnback); color: var(--warn); border-color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.88rem; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr.model td { font-weight: 600; } tr:last-child td { border-bottom: 0; }
.ci { color: var(--soft); font-size: 0.8em; font-weight: 400; display: block; line-height: 1.2; }
svg { width: 100%; min-width: 520px; max-width: 760px; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11px; } svg .value { font-weight: 600; }
svg .grid { stroke: var(--line); } svg .reference { stroke: var(--soft); stroke-dasharray: 4 3; }
svg .bar { stroke-width: 3; stroke-linecap: round; opacity: 0.55; }
svg .bar.model { stroke: var(--s0); } svg .dot.model { fill: var(--s0); }
svg .bar.baseline { stroke: var(--base); } svg .dot.baseline { fill: var(--base); }
svg .bar.probe { stroke: var(--probe); } svg .dot.probe { fill: var(--probe); }
svg .curve { fill: none; stroke-width: 2; opacity: 0.8; }
""" + "".join(
    f"svg .point.series{i} {{ fill: var(--s{i}); }} svg .curve.series{i} {{ stroke: var(--s{i}); }}\n"
    for i in range(6)
)

MEASURES = {
    "accuracy": "accuracy",
    "argmax_accuracy": "arg-max",
    "information_gain": "info gain, bits",
    "mrr": "MRR",
    "brier": "Brier",
    "ece": "ECE",
}

PROBE = "exposure probe"
"""The name of the probe among the baselines; the manifest has its arg-max accuracy."""


def page(metrics: dict[str, Any]) -> str:
    """The whole page of one or several evaluations of the same scenes."""
    scenes = metrics["scenes"]
    options = ", ".join(f"{n} options: {size}" for n, size in scenes["by_options"].items())
    datasets = ", ".join(f"{name}: {size}" for name, size in scenes["by_dataset"].items())
    sections = [
        _probe(metrics), _headline(metrics), _accuracy(metrics), _user_gain(metrics), _comparisons(metrics),
        _calibration(metrics), _positions(metrics), _domains(metrics), _parts(metrics), _counts(metrics),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>User simulator evaluation</title>'
        f"<style>{STYLE}</style></head><body><main><h1>User simulator evaluation</h1>"
        f'<p class="soft">{escape(str(metrics["source"]))} · {scenes["n"]} scenes of {scenes["users"]} users · '
        f"{escape(datasets)} · {escape(options)}</p>{''.join(sections)}</main></body></html>\n"
    )


def _probe(metrics: dict[str, Any]) -> str:
    probe = metrics["probe"]
    alarming = isinstance(probe, str) or probe.get("warning")
    content = f"<p>{escape(probe_line(metrics))}</p>"
    told = "What can be guessed from the options shown without looking at the user. " + "".join(metrics["notes"])
    return _section("Does the exposure give the choice away?", told, content, "warning" if alarming else "")


def _headline(metrics: dict[str, Any]) -> str:
    rows = [("", ["chance", f"{metrics['chance']['value']:.3f}"])]
    if not isinstance(metrics["probe"], str) and PROBE not in metrics["baselines"]:
        rows.append(("", [PROBE, "", _cell(metrics["probe"]["accuracy"])]))
    rows += [("", [name, *_cells(measured["macro"])]) for name, measured in metrics["baselines"].items()]
    if metrics["best_possible"]:
        rows.append(("", ["best possible", *_cells(metrics["best_possible"]["macro"])]))
    for name, model in metrics["models"].items():
        for context, measured in model["contexts"].items():
            label = name if context == "full" else f"{name}, {context}"
            rows.append(("model" if context == "full" else "", [label, *_cells(measured["macro"])]))
        if "calibrated" in model:
            label = f"{name} at temperature {model['calibrated']['temperature']:.2f}"
            rows.append(("", [label, *_cells(model["calibrated"]["macro"])]))
    told = (
        "Mean over domains, 95 % intervals over users. Accuracy is the mean probability given to the choice, what one "
        "sampled answer hits; it rewards sharpness, arg-max accuracy does not. Information gain: over a uniform guess."
    )
    return _section("Measures", told, _table(["", *MEASURES.values()], rows))


def _accuracy(metrics: dict[str, Any]) -> str:
    best = metrics["best_possible"]
    lines = {"chance": metrics["chance"]["value"]}
    if best:
        lines["best possible"] = best["macro"]["argmax_accuracy"]["value"]
    plots = []
    for measure, title in (("argmax_accuracy", "Arg-max accuracy"), ("accuracy", "Accuracy")):
        rows = [
            Row(name, one["macro"][measure], "probe" if name == PROBE else "baseline")
            for name, one in metrics["baselines"].items()
        ]
        rows += [Row(name, one["macro"][measure], "model") for name, one in _full(metrics).items()]
        plots.append(f"<h2>{title}</h2>{_plot(dot_plot(rows, lines, title))}")
    told = "Dot: value; bar: 95 % interval."
    if best:
        told += " The line of the best possible is the arg-max accuracy of the posterior, which bounds both."
    return _section("Accuracy", told, "".join(plots))


def _user_gain(metrics: dict[str, Any]) -> str:
    rows = [Row(name, one["user_gain"], "model") for name, one in metrics["models"].items() if one.get("user_gain")]
    told = "Arg-max accuracy with the user's own history minus with another user's, on the same scenes."
    return _section("User gain", told, _plot(dot_plot(rows, {}, "User gain", signed=True))) if rows else ""


def _comparisons(metrics: dict[str, Any]) -> str:
    heads = ["paired by user", "accuracy", "arg-max", "info gain, bits", "scenes"]
    pairs = [(f"{pair['b']} − {pair['a']}", pair) for pair in metrics["comparisons"]]
    measured = metrics["baselines"]
    best = max(measured, key=lambda name: measured[name]["macro"]["argmax_accuracy"]["value"])
    against = {name: one["against"][best] for name, one in metrics["models"].items() if "against" in one}
    pairs += [(f"{name} − {best}", pair) for name, pair in against.items()]
    rows = [
        ("", [label, *(_cell(pair[key], True) for key in list(MEASURES)[:3]), str(pair["accuracy"]["n"])])
        for label, pair in pairs
        if "accuracy" in pair
    ]
    told = "Between models, and from the strongest baseline to each. An interval without 0 is a difference."
    return _section("Differences", told, _table(heads, rows)) if rows else ""


def _calibration(metrics: dict[str, Any]) -> str:
    series = {name: one["reliability"] for name, one in _full(metrics).items()}
    told = "Hits against confidence in bins of equal mass; on the diagonal a predictor is as sure as it is right."
    return _section("Calibration", told, _plot(reliability_plot(series, "Reliability"))) if series else ""


def _positions(metrics: dict[str, Any]) -> str:
    full = _full(metrics)
    lengths = sorted({n for one in full.values() for n in one["positions"]}, key=int)
    parts = []
    for n in lengths:
        series = {name: one["positions"][n] for name, one in full.items() if n in one["positions"]}
        rows = [("", [name, _cell(full[name]["position_bias"][n])]) for name in series]
        parts.append(f"<h2>{n} options</h2>{_plot(position_plot(series, LABELS, f'Positions of {n}'))}")
        parts.append(_table(["", "total variation from uniform"], rows))
    told = "Mean probability of every position. Choices are uniform over positions where the scenes are sound."
    return _section("Position bias", told, "".join(parts)) if parts else ""


def _domains(metrics: dict[str, Any]) -> str:
    rows = []
    for name, one in _full(metrics).items():
        scopes = {**one["domains"], "pooled": one["pooled"]} if len(one["domains"]) > 1 else {}
        rows += [("", [f"{name}, {scope}", *_cells(measured)]) for scope, measured in scopes.items()]
    composition = ", ".join(f"{name} {size}" for name, size in metrics["scenes"]["by_dataset"].items())
    return _section("Domains", f"Pooled over {composition}.", _table(["", *MEASURES.values()], rows)) if rows else ""


def _parts(metrics: dict[str, Any]) -> str:
    rows = []
    for name, model in metrics["models"].items():
        parts = dict(model.get("parts", {}))
        if "without_unfinished" in model:
            parts["without unfinished decisions"] = model["without_unfinished"]
        for part, measured in parts.items():
            cells = [_cell(measured[key]) for key in ("accuracy", "argmax_accuracy")]
            rows.append(("", [f"{name}, {part.replace('_', ' ')}", *cells, str(measured["accuracy"]["n"])]))
    told = "Warm users have train scenes, cold ones have none; later chosen: the user takes another option later."
    return _section("Parts of the scenes", told, _table(["", "accuracy", "arg-max", "scenes"], rows)) if rows else ""


def _counts(metrics: dict[str, Any]) -> str:
    rows = []
    for name, model in metrics["models"].items():
        for context, counts in model["counts"].items():
            rows.append(("", [f"{name}, {context}", *(str(count) for count in counts.values())]))
    heads = [key.replace("_", " ") for key in next(iter(next(iter(metrics["models"].values()))["counts"].values()))]
    read = ", ".join(f"{count} {name}" for name, count in metrics["read"].items())
    asked = "".join(
        f"<p class='soft'>{escape(name)}: {escape(model['spec'])}, prompt {model['prompt']}, "
        f"{escape(_settings(model['settings']))}</p>"
        for name, model in metrics["models"].items()
    )
    told = f"Scenes in the source: {read}. Nothing is filled in: too long scenes have no answer."
    return _section("Counts and settings", told, _table(["", *heads], rows) + asked)


def _settings(settings: Mapping[str, Any]) -> str:
    names = ("mode", "repeat", "seed", "anonymise")
    told = {**{name: settings[name] for name in names}, **settings["sampling"]}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())


def _full(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: one["contexts"]["full"] for name, one in metrics["models"].items() if "full" in one["contexts"]}


def _cells(measured: Mapping[str, Estimate]) -> list[str]:
    return [_cell(measured[key], key == "information_gain") for key in MEASURES]


def _cell(estimate: Estimate, signed: bool = False) -> str:
    value, interval = shown(estimate, signed).split(" ", 1)
    return f'{value}<span class="ci">{interval}</span>'


def _table(heads: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    """Rows are (class, cells); the first cell is text, the others are already HTML; short rows are filled."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f'<tr class="{kind}"><td>{escape(cells[0])}</td>'
        + "".join(f"<td>{cell}</td>" for cell in [*cells[1:], *[""] * (len(heads) - len(cells))])
        + "</tr>"
        for kind, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(svg: str) -> str:
    return f'<div class="scroll">{svg}</div>'


def _section(title: str, told: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2><p class="soft">{escape(told)}</p>{content}</section>'
