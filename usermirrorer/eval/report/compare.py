"""Compare evaluations of the same scenes: summary.json for programs, a page and its Markdown for people."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.errors import UserError
from usermirrorer.eval.evaluate import compare
from usermirrorer.eval.parents import parents
from usermirrorer.eval.report.headline import headline
from usermirrorer.eval.report.page import markdown, page
from usermirrorer.eval.saved import EXAMPLES, METRICS, RUN, read_predictions, read_saved
from usermirrorer.eval.scene_predictions import KEYS
from usermirrorer.eval.table import remarks


def report(dirs: Sequence[Path], out: Path) -> Path:
    """Write OUT/report.html, OUT/report.md and OUT/summary.json from directories that `eval` wrote; return the page.

    Models keep their names; if two runs use the same name, the second gets its directory's as a prefix. Raises
    UserError if a directory holds no evaluation or the runs answered different scenes.
    """
    if not dirs:
        raise UserError("no directory to report on: pass one or more that `usermirrorer eval` wrote")
    found = merged(dirs)
    found["command"] = shlex.join(["usermirrorer", "report", *map(str, dirs), "--out", str(out)])
    text = json.dumps(summary(found), indent=1, ensure_ascii=False) + "\n"
    written = {"summary.json": text, "report.md": markdown(found), "report.html": page(found)}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in written.items():
        write_bytes(out / name, content.encode())
    return out / "report.html"


def merged(dirs: Sequence[Path]) -> dict[str, Any]:
    """The metrics of several evaluations of the same scenes as those of one, with what lies beside them.

    Every model has its `spec`, `prompt`, `settings`, `bases`, `training` and `examples`; `runs` has the record of
    every directory.
    """
    runs = [(directory, read_saved(directory, METRICS)) for directory in dirs]
    records = {str(directory): read_saved(directory, RUN) for directory in dirs}
    first = runs[0][1]
    models: dict[str, Any] = {}
    predictions = []
    related: dict[str, str] = {}
    redistribute: dict[str, bool] = {}
    for directory, metrics in runs:
        if metrics["scenes"]["fingerprint"] != first["scenes"]["fingerprint"]:
            raise UserError(f"{directory} and {dirs[0]} answered different scenes: report them separately")
        rows = read_predictions(directory)
        texts, settings = read_saved(directory, EXAMPLES), metrics["settings"]
        redistribute |= texts["redistribute_text"]
        names = {name: name if name not in models else f"{directory.name}/{name}" for name in metrics["models"]}
        related |= {names[b]: names[a] for b, a in parents(settings["models"], settings["bases"]).items()}
        for name, measured in metrics["models"].items():
            unique = names[name]
            if unique in models:
                raise UserError(f"{directory} is given twice: pass every run once")
            models[unique] = {
                **measured,
                "spec": settings["models"][name],
                "prompt": settings["prompts"][name],
                "bases": settings["bases"][name],
                "settings": settings | {"mode": settings["modes"][name], "repeat": settings["repeats"][name]},
                "training": metrics["training"][name],
                "examples": texts["models"].get(name, []),
            }
            predictions.append(rows.filter(pl.col("model") == name).with_columns(model=pl.lit(unique)))
    answered = pl.concat(predictions)
    specs, bases = ({name: model[key] for name, model in models.items()} for key in ("spec", "bases"))
    # A parent of the same run answered with the same settings, so it comes before one of another run.
    comparisons = compare(answered, answered.select(KEYS).unique("scene_id"), {**parents(specs, bases), **related})
    more = {"models": models, "comparisons": comparisons, "runs": records, "redistribute_text": redistribute}
    return {**first, **more}


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The headline in words, macro measures of the full context, and what to compare them with.

    `best_possible` is empty if it is not known. Its arg-max accuracy also bounds a model's accuracy.
    """
    strongest = metrics["strongest_baseline"]
    return {
        "headline": headline(metrics),
        "scenes": metrics["scenes"],
        "remarks": remarks(metrics),
        "chance": metrics["chance"],
        "best_possible": {
            name: {**one["macro"], "expected": one["expected"]} for name, one in metrics["best_possible"].items()
        },
        "probe": metrics["probe"],
        "models": {name: _headline(model, strongest) for name, model in metrics["models"].items()},
        "baselines": {
            name: {**one["macro"], "user_gain": one["user_gain"]} for name, one in metrics["baselines"].items()
        },
        "strongest_baseline": strongest,
        "comparisons": metrics["comparisons"],
    }


def _headline(model: dict[str, Any], strongest: str) -> dict[str, Any]:
    full = model["contexts"].get("full", {}).get("macro", {})
    extra = {
        "user_gain": model.get("user_gain"),
        "calibrated": {"halves": model["calibrated"]["halves"], **model["calibrated"]["macro"]}
        if "calibrated" in model
        else None,
        "prior_corrected": model["prior_corrected"]["macro"] if "prior_corrected" in model else None,
        "against_strongest_baseline": model.get("against", {}).get(strongest),
        "without_unfinished": model.get("without_unfinished"),
        "counts": model["counts"].get("full"),
    }
    return {**full, **{name: value for name, value in extra.items() if value is not None}}
