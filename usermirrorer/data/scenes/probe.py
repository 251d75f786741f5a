"""How much the exposure gives away: classifiers that know nothing of the user, fitted on train scenes, tested on test.

The probe is the better of two: item identity (how often an item was the choice when it was shown) and boosted trees on
recent popularity, age, mutual similarity, position and every number shown. With permuted labels both must be at
chance. A third, `trees_with_log`, also gets how often each item was chosen in the whole log so far, which no reader of
a scene can see; it is reported for test scenes and is not part of the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from usermirrorer.data.scenes.features import Features, ranks, select_scenes, standardised
from usermirrorer.measures import argmax_hit, column, scoped_intervals


WARN_ABOVE_CHANCE = 0.05
"""A probe whose accuracy is further above chance than this is a warning."""

PRIOR = 2.0
"""Pseudo-observations at chance for each item."""

SAMPLE_SCENES = 12_288
"""Most scenes that classifiers are fitted and tested on: the first ones, since ids are hashes."""

TRAIN_SAMPLE_SCENES = 4096
"""The same for the probe of train scenes, an early warning: the one that counts is tested on test scenes."""

Predict = Callable[[Features], np.ndarray]
Fit = Callable[[Features], Predict]
"""Fits a classifier: features → a function from features to the probability of every option, `(options,)`."""


@dataclass(frozen=True)
class Fitted:
    """A classifier fitted on train scenes or, without any, two that each predict the half of users left out."""

    halves: tuple[Predict, ...]

    def __call__(self, features: Features) -> np.ndarray:
        if len(self.halves) == 1:
            return self.halves[0](features)
        probs = np.empty(int(features.count.sum()))
        half = features.user % 2
        for number, predict in enumerate(self.halves):
            scenes = np.flatnonzero(half == number)
            if len(scenes):
                probs[np.repeat(half == number, features.count)] = predict(select_scenes(features, scenes))
        return probs


def fit_all(fits: Iterable[tuple[Fit, Features, Features | None]], workers: int) -> list[Fitted]:
    """Fit classifiers, each given as (fit, features to predict, train features).

    Without train features they are fitted across halves of the users.
    """
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            [pool.submit(fit, part) for part in ([train] if train is not None else _other_halves(features))]
            for fit, features, train in fits
        ]
        return [Fitted(tuple(job.result() for job in halves)) for halves in jobs]


def _other_halves(features: Features) -> list[Features]:
    """For each half of the users the scenes of the other half, or all scenes if it has none."""
    halves = [np.flatnonzero(features.user % 2 != half) for half in (0, 1)]
    return [select_scenes(features, scenes) if len(scenes) else features for scenes in halves]


def run_probe(features: Features, train: Features | None, workers: int = 1) -> tuple[dict[str, Any], Fitted]:
    """Test the probe on `features`, fitted on `train` or, without it, across halves of the users.

    Returns its results and the better classifier.
    """
    shuffled, shuffled_train = _permuted(features), _permuted(train) if train is not None else None
    trees = partial(boosted_trees, kinds=["user_free"])
    fits: dict[str, tuple[Fit, Features, Features | None]] = {
        "identity": (identity, features, train),
        "trees": (trees, features, train),
        "permuted identity": (identity, shuffled, shuffled_train),
        "permuted trees": (trees, shuffled, shuffled_train),
    }
    if train is not None:
        fits["trees_with_log"] = (partial(boosted_trees, kinds=["user_free", "in_log"]), features, train)
    fitted = dict(zip(fits, fit_all(fits.values(), workers), strict=True))
    hits = [argmax_hit(matrix(fitted[name](shown), shown), shown.choice) for name, (_, shown, _) in fits.items()]
    statistics = {name: column(number) for number, name in enumerate(fits)}
    domain = np.zeros(len(features.user), dtype=np.int64)
    found = scoped_intervals(np.stack(hits, axis=1), statistics, features.user, domain)["pooled"]
    name = max(("identity", "trees"), key=lambda key: found[key]["value"])
    chance = float((1 / features.count).mean())
    summary = {
        "accuracy": found[name],
        "classifier": name,
        "identity": found["identity"],
        "trees": found["trees"],
        "permuted": {"identity": found["permuted identity"], "trees": found["permuted trees"]},
        **({"trees_with_log": found["trees_with_log"]} if train is not None else {}),
        "chance": chance,
        "scenes": len(features.count),
        "fitted_on": "train scenes" if train is not None else "the other half of the users",
        "warning": bool(found[name]["value"] > chance + WARN_ABOVE_CHANCE),
    }
    return summary, fitted[name]


def boosted_trees(train: Features, kinds: Sequence[str]) -> Predict:
    """Gradient-boosted trees on features of these kinds, with probabilities normalised within scenes."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    model = HistGradientBoostingClassifier(
        max_iter=30, learning_rate=0.2, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    # OpenMP's limit is per thread. A single thread keeps the order of sums.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(_with_relative(train, kinds), train.chosen)

    def predict(features: Features) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return softmax(model.decision_function(_with_relative(features, kinds)), features)

    return predict


def softmax(values: np.ndarray, features: Features) -> np.ndarray:
    """Softmax within each scene: `(options,)`."""
    start, scene = features.start, features.scene
    weights = np.exp(values - np.maximum.reduceat(values, start)[scene])
    return weights / np.add.reduceat(weights, start)[scene]


def _with_relative(features: Features, kinds: Sequence[str]) -> np.ndarray:
    """Each feature as it is, standardised within its scene, and as a rank there: float32 `(options, columns)`.

    Position and number of options mean nothing by comparison and stay as they are.
    """
    columns = []
    for kind in kinds:
        for name, values in getattr(features, kind).items():
            columns.append(values)
            if name not in ("position", "options"):
                columns += [standardised(values, features), ranks(values, features)]
    return np.stack(columns, axis=1, dtype=np.float32, casting="same_kind")


def identity(train: Features) -> Predict:
    """How often an item was the choice, against how often it would have been by chance."""
    items, index = np.unique(train.item, return_inverse=True)
    expected = np.bincount(index, weights=1 / np.repeat(train.count, train.count))
    chosen = np.bincount(index, weights=train.chosen)
    odds = np.log((chosen + PRIOR) / (expected + PRIOR))

    def predict(features: Features) -> np.ndarray:
        at = np.minimum(np.searchsorted(items, features.item), len(items) - 1)
        return softmax(np.where(items[at] == features.item, odds[at], 0.0), features)

    return predict


def _permuted(features: Features) -> Features:
    """The same scenes with a random option as the choice."""
    draws = np.random.default_rng(0).random(len(features.count))
    return replace(features, choice=(draws * features.count).astype(np.int64))


def matrix(probs: np.ndarray, features: Features) -> np.ndarray:
    """Flat probabilities as `(scenes, options)`, padded with zeros."""
    width = np.arange(int(features.count.max())) < features.count[:, None]
    padded = np.zeros(width.shape)
    padded[width] = probs
    return padded
