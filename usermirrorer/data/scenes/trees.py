"""Gradient-boosted trees that rank the options of a list: a classifier of the probe, and the reference model."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from usermirrorer.data.scenes.cross_fit import Predict
from usermirrorer.data.scenes.features import Features
from usermirrorer.data.scenes.within_lists import softmax, standardised
from usermirrorer.errors import StepFailed


ROUNDS = 60

LEAST_CURVATURE = 1e-6

PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.15,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "max_bin": 63,
    # One thread keeps the order of sums; several fits run side by side.
    "num_threads": 1,
    "deterministic": True,
    "feature_pre_filter": False,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}

NOT_COMPARED = ("position", "options", "history")
"""Numbers that mean nothing by comparison with the other options'."""


def import_lightgbm() -> None:
    """Import it before it is needed. Raises StepFailed if the system lacks OpenMP, which its wheel does not have."""
    try:
        importlib.import_module("lightgbm")
    except OSError as error:
        raise StepFailed(f"LightGBM cannot be loaded ({error}): install the system's package libgomp1") from None


def boosted_trees(train: Features, kinds: Sequence[str]) -> Predict:
    """Fit LightGBM on the features of these kinds; returns a function to the probability of every option."""
    import lightgbm

    chosen, columns = train.chosen, _table(train, kinds)
    if not (np.nanmax(columns, axis=0, initial=-np.inf) > np.nanmin(columns, axis=0, initial=np.inf)).any():
        return lambda features: 1 / np.repeat(features.count, features.count)  # nothing to split on

    def listwise(scores: np.ndarray, data: lightgbm.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and curvature of the log loss of the choice under a softmax within its list."""
        probs = softmax(scores, train)
        return probs - chosen, np.maximum(probs * (1 - probs), LEAST_CURVATURE)

    data = lightgbm.Dataset(columns, chosen)
    model = lightgbm.train({**PARAMETERS, "objective": listwise}, data, ROUNDS)
    return lambda features: softmax(np.asarray(model.predict(_table(features, kinds), num_threads=1)), features)


def _table(features: Features, kinds: Sequence[str]) -> np.ndarray:
    """Each number as it is and, if it can be compared, against the list's others: float32 `(options, columns)`."""
    columns = []
    for kind in kinds:
        for name, values in getattr(features, kind).items():
            columns.append(values)
            if kind != "scene_time" and name not in NOT_COMPARED:
                columns.append(standardised(values, features))
    return np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")
