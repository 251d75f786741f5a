"""How much the exposure gives away: classifiers that know nothing of the user, fitted on train scenes, read on test.

Two make the probe: item identity (how often an item was the choice where it was shown) and boosted trees on recent
popularity, age, mutual similarity, position and every number that is shown. The same with permuted labels must be at
chance. A third, `trees_with_log`, also reads how often each item was chosen in the whole log so far, which no reader
of a scene can see; it is reported beside, and is not part of the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from usermirrorer.data.features import Features, relative
from usermirrorer.measures import argmax_hit, interval


WARN_ABOVE_CHANCE = 0.05
PRIOR = 2.0
"""Pseudo-observations at chance that an item's record begins with."""

FOLDS = 2


@dataclass(frozen=True)
class Probe:
    """What the probe found. `probs` are the better classifier's, flat over options."""

    summary: dict[str, Any]
    name: str
    probs: np.ndarray


def run_probe(features: Features, train: Features | None) -> Probe:
    """Read the probe on `features`, fitted on `train`, or across halves of the users where there is none."""
    classifiers = {"identity": _identity, "trees": _trees}
    fitted = {name: out_of_sample(features, train, fit) for name, fit in classifiers.items()}
    accuracy = {name: _accuracy(features, probs, features.choice) for name, probs in fitted.items()}
    shuffled, shuffled_train = _permuted(features), _permuted(train) if train is not None else None
    permuted = {
        name: _accuracy(shuffled, out_of_sample(shuffled, shuffled_train, fit), shuffled.choice)
        for name, fit in classifiers.items()
    }
    with_log = out_of_sample(features, train, _trees_with_log)
    name = max(accuracy, key=lambda key: accuracy[key]["value"])
    chance = float((1 / features.count).mean())
    summary = {
        "accuracy": accuracy[name],
        "classifier": name,
        **accuracy,
        "permuted": permuted,
        "trees_with_log": _accuracy(features, with_log, features.choice),
        "chance": chance,
        "fitted_on": "train scenes" if train is not None else "the other half of the users",
        "warning": accuracy[name]["value"] > chance + WARN_ABOVE_CHANCE,
    }
    return Probe(summary, name, fitted[name])


def out_of_sample(
    features: Features, train: Features | None, fit: Callable[[Features, Features], np.ndarray]
) -> np.ndarray:
    """Predictions of `fit(train, features)`; without `train`, each half of the users is predicted from the other."""
    if train is not None:
        return fit(train, features)
    users, person = np.unique(features.user, return_inverse=True)
    half = np.random.default_rng(0).permutation(len(users))[person] % FOLDS
    probs = np.empty(int(features.count.sum()))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(half == fold), np.flatnonzero(half != fold)
        if len(outside) == 0:
            outside = inside
        probs[_options_of(features, inside)] = fit(take(features, outside), take(features, inside))
    return probs


def take(features: Features, scenes: np.ndarray) -> Features:
    """The features of some scenes."""
    rows = _options_of(features, scenes)
    return Features(
        features.scene_id[scenes], features.user[scenes], features.count[scenes], features.choice[scenes],
        features.item[rows],
        {name: values[rows] for name, values in features.user_free.items()},
        {name: values[rows] for name, values in features.in_log.items()},
        {name: values[rows] for name, values in features.scores.items()},
    )  # fmt: skip


def boosted_trees(train: Features, features: Features, columns: Callable[[Features], np.ndarray]) -> np.ndarray:
    """Probability of every option from gradient-boosted trees on `columns`, normalised within scenes: `(options,)`."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    model = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    # One thread: several wait for each other wherever the cores are busy, and the sums stay in one order.
    with threadpool_limits(1):
        model.fit(columns(train), train.chosen)
        odds = model.decision_function(columns(features))
    return softmax(odds, features)


def softmax(values: np.ndarray, features: Features) -> np.ndarray:
    """Softmax within each scene: `(options,)`."""
    start, scene = features.start, features.scene
    weights = np.exp(values - np.maximum.reduceat(values, start)[scene])
    return weights / np.add.reduceat(weights, start)[scene]


def with_relative(columns: Mapping[str, np.ndarray], features: Features) -> np.ndarray:
    """Each column as it is, standardised within its scene, and as a rank there: `(options, 3 × columns)`."""
    blocks = [block for values in columns.values() for block in (values, *relative(values, features))]
    return np.stack(blocks, axis=1)


def _trees(train: Features, features: Features) -> np.ndarray:
    return boosted_trees(train, features, lambda block: with_relative(block.user_free, block))


def _trees_with_log(train: Features, features: Features) -> np.ndarray:
    return boosted_trees(train, features, lambda block: with_relative({**block.user_free, **block.in_log}, block))


def _identity(train: Features, features: Features) -> np.ndarray:
    items, index = np.unique(train.item, return_inverse=True)
    expected = np.bincount(index, weights=1 / np.repeat(train.count, train.count))
    chosen = np.bincount(index, weights=train.chosen)
    odds = np.log((chosen + PRIOR) / (expected + PRIOR))
    at = np.minimum(np.searchsorted(items, features.item), len(items) - 1)
    return softmax(np.where(items[at] == features.item, odds[at], 0.0), features)


def _permuted(features: Features) -> Features:
    """The same scenes with a random option in the place of the choice."""
    choice = (np.random.default_rng(0).random(len(features.count)) * features.count).astype(np.int64)
    return Features(
        features.scene_id, features.user, features.count, choice, features.item,
        features.user_free, features.in_log, features.scores,
    )  # fmt: skip


def _accuracy(features: Features, probs: np.ndarray, choice: np.ndarray) -> dict[str, Any]:
    """Arg-max accuracy with its interval, users resampled."""
    return dict(interval(argmax_hit(matrix(probs, features), choice), features.user))


def matrix(probs: np.ndarray, features: Features) -> np.ndarray:
    """Flat probabilities as `(scenes, options)`, padded with zeros."""
    width = np.arange(int(features.count.max())) < features.count[:, None]
    padded = np.zeros(width.shape)
    padded[width] = probs
    return padded


def _options_of(features: Features, scenes: np.ndarray) -> np.ndarray:
    """Rows of the options of some scenes, in the order of the scenes."""
    from usermirrorer.data.log import ragged_ranges

    return ragged_ranges(features.start[scenes], features.count[scenes])[1]
