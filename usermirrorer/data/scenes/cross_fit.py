"""Classifiers of options, fitted on train scenes or, without any, on one half of the scenes for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from usermirrorer.data.log.events import ragged_ranges, runs
from usermirrorer.data.scenes.features import Features


Predict = Callable[[Features], np.ndarray]
"""Features → the probability of every option, `(options,)`."""

Fit = Callable[[Features], Predict]


@dataclass(frozen=True)
class Fitted:
    """A classifier fitted on train scenes or, without any, two that each predict the half left out.

    Halves are of groups if scenes have them, else of users: a group's members share one list, so whoever knows the
    choices of some has an advantage with the others.
    """

    halves: tuple[Predict, ...]

    def __call__(self, features: Features) -> np.ndarray:
        if len(self.halves) == 1:
            return self.halves[0](features)
        probs = np.empty(int(features.count.sum()))
        half = _half(features)
        for number, predict in enumerate(self.halves):
            scenes = np.flatnonzero(half == number)
            if len(scenes):
                probs[np.repeat(half == number, features.count)] = predict(features.take(scenes))
        return probs


def fit_all(fits: Iterable[tuple[Fit, Features, Features | None]], workers: int) -> list[Fitted]:
    """Fit classifiers, each given as (fit, features to predict, train features)."""
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            [pool.submit(fit, part) for part in ([train] if train is not None else _other_halves(features))]
            for fit, features, train in fits
        ]
        return [Fitted(tuple(job.result() for job in halves)) for halves in jobs]


def once_per_list(predict: Predict, features: Features) -> np.ndarray:
    """Predictions that are the same for all who see a list, each list predicted once: `(options,)`."""
    if not features.grouped:
        return predict(features)
    first, list_row = runs(features.group)
    lists = features.take(first)
    return predict(lists)[ragged_ranges(lists.start[list_row], features.count)[1]]


def _half(features: Features) -> np.ndarray:
    return (features.group % np.uint64(2)).astype(np.int64) if features.grouped else features.user % 2


def _other_halves(features: Features) -> list[Features]:
    """For each half the scenes of the other, or all scenes if there are none."""
    half = _half(features)
    halves = [np.flatnonzero(half != number) for number in (0, 1)]
    return [features.take(scenes) if len(scenes) else features for scenes in halves]
