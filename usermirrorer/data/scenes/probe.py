"""How much the exposure gives away: classifiers that know nothing of the user, fitted on train scenes, tested on test.

The probe is the better of two: item identity (how often an item was the choice when it was shown) and boosted trees on
recent popularity, age, mutual similarity, position and every number shown. With permuted labels both must be at
chance. A third, `trees_with_log`, also gets how often each item was chosen in the whole log so far, which no reader of
a scene can see; it is reported for test scenes and is not part of the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Probe:
    """The probe's results and its better classifier."""

    summary: dict[str, Any]
    predict: Fitted


def fit_all(fits: Sequence[tuple[Fit, Features, Features | None]], workers: int) -> list[Fitted]:
    """Fit classifiers on train scenes, or across halves of the users if there are none.

    Each is (fit, features to predict, train features or None).
    """
    jobs, owner = [], []
    for number, (fit, features, train) in enumerate(fits):
        for part in [train] if train is not None else _other_halves(features):
            jobs.append((fit, part))
            owner.append(number)
    with ThreadPoolExecutor(workers) as pool:
        fitted = list(pool.map(lambda job: job[0](job[1]), jobs))
    return [
        Fitted(tuple(one for one, of in zip(fitted, owner, strict=True) if of == number))
        for number in range(len(fits))
    ]


def _other_halves(features: Features) -> list[Features]:
    """For each half of the users the scenes of the other half, or all scenes if it has none."""
    halves = [np.flatnonzero(features.user % 2 != half) for half in (0, 1)]
    return [select_scenes(features, scenes) if len(scenes) else features for scenes in halves]


def run_probe(features: Features, train: Features | None, workers: int = 1) -> Probe:
    """Test the probe on `features`, fitted on `train` or, without it, across halves of the users."""
    shuffled, shuffled_train = _permuted(features), _permuted(train) if train is not None else None
    fits: dict[str, tuple[Fit, Features, Features | None]] = {
        "identity": (identity, features, train),
        "trees": (trees, features, train),
        "permuted identity": (identity, shuffled, shuffled_train),
        "permuted trees": (trees, shuffled, shuffled_train),
    }
    if train is not None:
        fits["trees_with_log"] = (_trees_with_log, features, train)
    fitted = dict(zip(fits, fit_all(list(fits.values()), workers), strict=True))
    hits = np.stack([argmax_hit(matrix(fitted[n](fits[n][1]), features), fits[n][1].choice) for n in fits], axis=1)
    statistics = {name: column(number) for number, name in enumerate(fits)}
    found = scoped_intervals(hits, statistics, features.user, np.zeros(len(hits), dtype=np.int64))["pooled"]
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
    return Probe(summary, fitted[name])


def boosted_trees(train: Features, columns: Callable[[Features], np.ndarray]) -> Predict:
    """Gradient-boosted trees on `columns`, with probabilities normalised within scenes."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    model = HistGradientBoostingClassifier(
        max_iter=30, learning_rate=0.2, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    # OpenMP's limit is per thread. A single thread keeps the order of sums.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(columns(train), train.chosen)

    def predict(features: Features) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return softmax(model.decision_function(columns(features)), features)

    return predict


def softmax(values: np.ndarray, features: Features) -> np.ndarray:
    """Softmax within each scene: `(options,)`."""
    start, scene = features.start, features.scene
    weights = np.exp(values - np.maximum.reduceat(values, start)[scene])
    return weights / np.add.reduceat(weights, start)[scene]


def with_relative(columns: Mapping[str, np.ndarray], features: Features) -> np.ndarray:
    """Each column as it is, standardised within its scene, and as a rank there: float32 `(options, columns)`.

    Position and number of options mean nothing by comparison and stay as they are.
    """
    blocks = []
    for name, values in columns.items():
        blocks.append(values)
        if name not in ("position", "options"):
            blocks += [standardised(values, features), ranks(values, features)]
    return np.stack(blocks, axis=1, dtype=np.float32, casting="same_kind")


def trees(train: Features) -> Predict:
    return boosted_trees(train, lambda block: with_relative(block.user_free, block))


def _trees_with_log(train: Features) -> Predict:
    return boosted_trees(train, lambda block: with_relative({**block.user_free, **block.in_log}, block))


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
    return replace(
        features, choice=(np.random.default_rng(0).random(len(features.count)) * features.count).astype(np.int64)
    )


def matrix(probs: np.ndarray, features: Features) -> np.ndarray:
    """Flat probabilities as `(scenes, options)`, padded with zeros."""
    width = np.arange(int(features.count.max())) < features.count[:, None]
    padded = np.zeros(width.shape)
    padded[width] = probs
    return padded
