"""Baselines on the same scenes: each model over items, position, the probe, and a reference model over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from usermirrorer.data.artefacts.schema import BASELINES, id_column, list_column
from usermirrorer.data.scenes.cross_fit import Fitted, fit_all, once_per_list
from usermirrorer.data.scenes.features import KINDS, Features
from usermirrorer.data.scenes.trees import boosted_trees
from usermirrorer.data.scenes.within_lists import matrix, softmax, standardised
from usermirrorer.intervals import column, pooled_intervals
from usermirrorer.measures import argmax_hit, choice_probability


SHARPNESS = (0.01, 30.0)
"""Bounds of the factor in the softmax of a model's scores, fitted by log loss on train scenes."""


@dataclass(frozen=True)
class Baselines:
    """Fitted parts of the baselines. Without train scenes, classifiers are fitted across halves."""

    positions: Mapping[int, np.ndarray]
    """Number of options → share of choices at each position"""
    sharpness: Mapping[str, float]
    """Model over items → factor of its softmax"""
    probe: Fitted
    reference: Fitted


def fit_baselines(sample: Features, train: Features | None, probe: Fitted, workers: int) -> Baselines:
    """Fit on `train` or, without it, on the `sample` of scenes."""
    fitted_on = train if train is not None else sample
    [reference] = fit_all([(partial(boosted_trees, kinds=list(KINDS)), sample, train)], workers)
    return Baselines(
        positions={int(n): _positions(fitted_on, int(n)) for n in np.unique(fitted_on.count)},
        sharpness={
            name: _fit_sharpness(standardised(values, fitted_on), fitted_on)
            for name, values in fitted_on.scores.items()
        },
        probe=probe,
        reference=reference,
    )


def baseline_probs(features: Features, fitted: Baselines) -> dict[str, np.ndarray]:
    """Probability of every option under every baseline, `(options,)` each."""
    probs = {
        "uniform": 1 / np.repeat(features.count, features.count),
        "best position": _best_position(features, fitted.positions),
    }
    for name, values in features.scores.items():
        probs[name] = softmax(fitted.sharpness[name] * standardised(values, features), features)
    probs["exposure probe"] = once_per_list(fitted.probe, features)
    probs["reference"] = fitted.reference(features)
    return {name: np.round(values, 6) for name, values in probs.items()}


def baseline_names(fitted: Baselines) -> list[str]:
    """Names in the order of `baseline_probs`."""
    return ["uniform", "best position", *fitted.sharpness, "exposure probe", "reference"]


def baseline_table(features: Features, probs: Mapping[str, np.ndarray]) -> pa.Table:
    """The rows of the baselines artefact, ordered by (scene, baseline)."""
    scenes = len(features.count)
    order = np.argsort(np.tile(np.arange(scenes), len(probs)), kind="stable")
    lists = list_column(pa.array(np.concatenate(list(probs.values()))), np.tile(features.count, len(probs)))
    ids = id_column(np.tile(features.scene_id, len(probs)))
    return pa.Table.from_arrays([ids, pa.array(np.repeat(list(probs), scenes)), lists], schema=BASELINES).take(order)


def hits(features: Features, probs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probability and arg-max hit of the choice under every baseline: float32 `(scenes, 2 × baselines)`."""
    columns = []
    for values in probs.values():
        padded = matrix(values, features)
        columns += [choice_probability(padded, features.choice), argmax_hit(padded, features.choice)]
    return np.stack(columns, axis=1).astype(np.float32)


def accuracies(found: np.ndarray, user: np.ndarray, group: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Accuracy and arg-max accuracy of each baseline with intervals; `found` comes from `hits`."""
    measures = ("accuracy", "argmax_accuracy")
    labels = [f"{measure} {name}" for name in names for measure in measures]
    statistics = {label: column(number) for number, label in enumerate(labels)}
    every = pooled_intervals(found, statistics, user, group)
    return {name: {measure: every[f"{measure} {name}"] for measure in measures} for name in names}


def _positions(features: Features, options: int) -> np.ndarray:
    """Smoothed share of choices at each position of lists of this length."""
    seen = np.bincount(features.choice[features.count == options], minlength=options).astype(float)
    return (seen + 1) / (seen.sum() + options)


def _best_position(features: Features, positions: Mapping[int, np.ndarray]) -> np.ndarray:
    """These shares for lists of the same length; uniform for a length not seen."""
    return np.concatenate([positions.get(n, np.full(n, 1 / n)) for n in features.count.tolist()])


def _fit_sharpness(standard: np.ndarray, features: Features) -> float:
    """The factor in a softmax of standardised scores with the least log loss, which is convex in it."""
    from scipy.optimize import minimize_scalar

    def loss(log_factor: float) -> float:
        chosen = softmax(np.exp(log_factor) * standard, features)[features.chosen]
        return float(-np.log(chosen + 1e-12).mean())

    found = minimize_scalar(loss, bounds=np.log(SHARPNESS), method="bounded", options={"xatol": 0.02})
    return float(np.exp(found.x))
