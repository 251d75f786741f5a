"""How much the exposure gives away: classifiers that know nothing of the user, fitted on train scenes, tested on test.

The probe is the best of three: item identity (how often an item was the choice when it was shown), boosted trees over
everything user-free that can be counted, and the words of the options. Which is best is decided on halves of the train
scenes. With permuted labels it must be at chance.

In groups, everybody who sees a list is told the same by these classifiers, and each option is the choice of one of
them, so their accuracy is the mean of 1/n exactly. What remains to be measured is what the time of the choice adds:
trees that also read it are reported as `time_aware`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from usermirrorer.data.scenes.cross_fit import Fit, Fitted, Predict, fit_all, once_per_list
from usermirrorer.data.scenes.features import Features
from usermirrorer.data.scenes.trees import boosted_trees
from usermirrorer.data.scenes.within_lists import matrix, softmax
from usermirrorer.intervals import Estimate, column, pooled_intervals
from usermirrorer.measures import argmax_hit


WARN_ABOVE_CHANCE = 0.05
"""An interval that begins further above chance than this is a warning."""

PRIOR = 2.0
"""Pseudo-observations at chance for each item."""

SAMPLE_SCENES = 12_288
"""Most scenes that classifiers are fitted and tested on: the first ones, since ids are hashes."""

TRAIN_SAMPLE_SCENES = 4096
"""The same for the probe of train scenes, an early warning: the one that counts is tested on test scenes."""

MOST_WORDS = 4096


def classifiers(words: sparse.csr_matrix, grouped: bool) -> dict[str, Fit]:
    """The three classifiers; `words` are those of the items, `(items, words)`.

    Without groups the trees also read when the user chose.
    """
    kinds = ["user_free"] if grouped else ["user_free", "scene_time"]
    return {
        "identity": identity,
        "trees": partial(boosted_trees, kinds=kinds),
        "words": partial(of_words, words=words),
    }


def run_probe(
    features: Features, train: Features | None, best: str | None, words: sparse.csr_matrix, workers: int = 1
) -> tuple[dict[str, Any], Fitted]:
    """Test the probe on `features`, fitted on `train` or, without it, across halves.

    `best` names the classifier that did best on train scenes; without it, on these. Returns the results and the best
    classifier.
    """
    fits = classifiers(words, features.grouped)
    jobs = dict(fits)
    if features.grouped:
        jobs["time_aware"] = partial(boosted_trees, kinds=["user_free", "scene_time"])
    fitted = dict(zip(jobs, fit_all([(fit, features, train) for fit in jobs.values()], workers), strict=True))
    hits = {name: _hits(fitted[name], features, once=name in fits) for name in jobs}
    best = best or max(fits, key=lambda name: hits[name].mean())
    shuffled, shuffled_train = _permuted(features), None if train is None else _permuted(train)
    [permuted] = fit_all([(fits[best], shuffled, shuffled_train)], workers)
    hits["permuted"] = _hits(permuted, shuffled, once=False)
    found = _estimates(hits, features)
    chance = float((1 / features.count).mean())
    accuracy = found[best]
    summary = {
        "accuracy": accuracy,
        "classifier": best,
        "classifiers": {name: found[name] for name in fits},
        "permuted": found["permuted"],
        **({"time_aware": found["time_aware"]} if features.grouped else {}),
        "exact": features.grouped,
        "chance": chance,
        "scenes": len(features.count),
        "fitted_on": "train scenes" if train is not None else "the other half",
        "warning": _begins_above(found.get("time_aware", accuracy), chance + WARN_ABOVE_CHANCE),
    }
    return summary, fitted[best]


def _hits(predict: Predict, features: Features, once: bool) -> np.ndarray:
    probs = once_per_list(predict, features) if once else predict(features)
    return argmax_hit(matrix(probs, features), features.choice)


def _estimates(hits: dict[str, np.ndarray], features: Features) -> dict[str, Estimate]:
    statistics = {name: column(number) for number, name in enumerate(hits)}
    return pooled_intervals(np.stack(list(hits.values()), axis=1), statistics, features.user, features.group)


def _begins_above(estimate: Estimate, bound: float) -> bool:
    """Whether the interval lies above the bound; without an interval nothing can be said."""
    return estimate["low"] is not None and estimate["low"] > bound


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


def of_words(train: Features, words: sparse.csr_matrix) -> Predict:
    """Logistic regression on the words of an option."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.1, max_iter=200).fit(words[train.item], train.chosen)
    return lambda features: softmax(model.decision_function(words)[features.item], features)


def item_words(texts: list[str]) -> sparse.csr_matrix:
    """Which words each item's text has: float64 `(items, MOST_WORDS)`; words are hashed."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=MOST_WORDS, binary=True, norm=None, alternate_sign=False).transform(texts)


def _permuted(features: Features) -> Features:
    """The same scenes with a random option as the choice."""
    draws = np.random.default_rng(0).random(len(features.count))
    return replace(features, choice=(draws * features.count).astype(np.int64))
