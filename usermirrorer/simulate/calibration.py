"""The confidence of a model as an evaluation measured it, for lists that nobody has chosen from yet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from usermirrorer import measures
from usermirrorer.calibration import calibrate, fit_calibration
from usermirrorer.errors import UserError
from usermirrorer.eval.card import PREDICTIONS
from usermirrorer.eval.saved import METRICS, read_predictions, read_saved
from usermirrorer.steps import SimulateSettings


@dataclass(frozen=True)
class Calibration:
    """Smoothing a and temperature T of `votes` decision processes m: p ∝ (m·p̄ + a)^(1/T)."""

    smoothing: float
    temperature: float
    votes: int
    scenes: int
    """Scenes that both were fitted on."""

    def of(self, probs: np.ndarray) -> np.ndarray:
        """The mean prediction p̄ of one list, calibrated: `(options,)`."""
        counts, votes = np.array([len(probs)]), np.array([self.votes])
        return calibrate(probs[None, :], counts, votes, self.smoothing, self.temperature)[0]


def read_calibration(directory: Path, model: str, mode: str, prompt: str, settings: SimulateSettings) -> Calibration:
    """Fitted by log loss on all scenes of an evaluation of the same model under the same conditions.

    `eval` itself fits on one half of the users and reads on the other; for lists that it has not seen, all of its
    scenes serve. Of more decision processes per scene than are asked for, the first are taken. Raises UserError if
    there is no evaluation, if it has not the model, or if the model answered it in another way.
    """
    if not (directory / METRICS).is_file() or not (directory / PREDICTIONS).is_file():
        raise UserError(
            f"calibration {directory}: no evaluation here; give a directory that `usermirrorer eval` wrote"
        )
    measured: dict[str, Any] = read_saved(directory, METRICS)["settings"]
    names = [name for name, spec in measured["models"].items() if _same(spec, model)]
    if not names:
        others = ", ".join(measured["models"].values())
        raise UserError(f"calibration {directory}: it has not measured {model}, only {others}; evaluate this model")
    deliberate, repeat = mode == "decision", measured["repeats"][names[0]]
    wanted = {"mode": mode, "prompt": prompt, "anonymise": False, **asdict(settings.sampling)}
    theirs = {"mode": measured["modes"][names[0]], "prompt": measured["prompts"][names[0]]}
    found = {**measured, **theirs, **measured["sampling"]}
    for key in wanted if deliberate else ("mode", "prompt", "anonymise"):
        if found[key] != wanted[key]:
            raise UserError(
                f"calibration {directory}: {names[0]} was measured with {key} {found[key]}, not {wanted[key]}; "
                f"use the same, or evaluate it so"
            )
    if "full" not in measured["contexts"]:
        raise UserError(f"calibration {directory}: measured without --context full; evaluate it so")
    votes = settings.samples if deliberate else 1
    if votes > repeat:
        raise UserError(
            f"calibration {directory}: measured with {repeat} decision processes per scene, fewer than "
            f"samples {votes}; ask for at most {repeat}, or evaluate with --repeat {votes}"
        )
    rows = read_predictions(directory).filter(
        (pl.col("model") == names[0]) & (pl.col("context") == "full") & (pl.col("sample") < votes)
    )
    if rows.is_empty():
        raise UserError(f"calibration {directory}: {names[0]} answered no scene there; evaluate it again")
    return _fit(rows.sort("scene_id", "sample"), votes)


def _fit(rows: pl.DataFrame, votes: int) -> Calibration:
    probs, counts = measures.padded(rows["probs"].to_list())
    _, first, scene = np.unique(rows["scene_id"].to_numpy(), return_index=True, return_inverse=True)
    choice = rows["item_pos"].to_numpy()[first]
    smoothing, temperature = fit_calibration(
        measures.mean_by(probs, scene), choice, counts[first], np.full(len(first), votes)
    )
    return Calibration(smoothing, temperature, votes, len(first))


def _same(spec: str, other: str) -> bool:
    """Whether two SPECs name one model, by whatever backend and path."""
    one, two = (name.partition(":")[2] for name in (spec, other))
    return one == two or (Path(one).is_dir() and Path(one).resolve() == Path(two).resolve())
