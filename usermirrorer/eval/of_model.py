"""What an evaluation says of one model, for that model's card: its row beside the strongest baseline and chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usermirrorer.errors import UserError
from usermirrorer.eval.saved import METRICS, read_saved
from usermirrorer.eval.table import MEASURES, PROBE, baseline_rows, difference_rows, model_rows, probe_line, remarks
from usermirrorer.intervals import Estimate
from usermirrorer.llm.paths import model_digest
from usermirrorer.wording import format_estimate


ON_CARDS = ("argmax_accuracy", "calibrated_gain", "user_gain")


def evaluation_of(directory: Path, model: Path) -> dict[str, Any]:
    """The part of a model's card that an evaluation fills: `scenes`, `asked`, `headings`, `rows`, `remarks`.

    Raises UserError if the evaluation did not measure the model with the files that it has now.
    """
    metrics = read_saved(directory, METRICS)
    settings = metrics["settings"]
    digest = model_digest(str(model))
    names = [name for name, found in settings.get("digests", {}).items() if found == digest]
    if not names:
        measured = ", ".join(f"{name} ({spec})" for name, spec in settings["models"].items())
        raise UserError(
            f"{directory} did not measure {model} as it is now, but {measured}; run `usermirrorer eval` on it"
        )
    name, strongest = names[0], metrics["strongest_baseline"]
    models, baselines = dict(model_rows(metrics)), dict(baseline_rows(metrics))
    if name not in models:
        raise UserError(f"{directory} did not show {model} whole scenes; run `usermirrorer eval` with --context full")
    differences = dict(difference_rows(metrics))
    against = f"{name} − {strongest}, the strongest baseline"
    rows = [("this model", *_cells(models[name]))]
    rows += [("strongest baseline: " + strongest, *_cells(baselines[strongest]))]
    if against in differences:
        rows.append(("this model − strongest baseline, paired by scene", *_cells(differences[against], signed=True)))
    if PROBE in baselines and strongest != PROBE:
        rows.append((PROBE, *_cells(baselines[PROBE])))
    rows.append(("chance", f"{metrics['chance']:.3f}", *[""] * (len(ON_CARDS) - 1)))
    scenes, mode, prompt = metrics["scenes"], settings["modes"][name], settings["prompts"][name]
    answers = f"{settings['repeats'][name]} decision processes a scene" if mode == "decision" else "the label alone"
    return {
        "scenes": f"{scenes['n']:,} scenes of {scenes['users']:,} users, `{metrics['source']}`",
        "asked": f"Asked with the instruction `{prompt}`, {answers}",
        "headings": [MEASURES[key] for key in ON_CARDS],
        "rows": rows,
        "remarks": [*remarks(metrics), probe_line(metrics)],
    }


def _cells(measured: Mapping[str, Estimate | None], signed: bool = False) -> list[str]:
    """Estimates of ON_CARDS, gains with their sign; empty where not measured."""
    return [
        format_estimate(measured[key], signed or key != "argmax_accuracy") if measured.get(key) else ""
        for key in ON_CARDS
    ]
