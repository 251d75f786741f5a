"""One predictor on many scenes, and every measure of it with error bars: per domain, macro (the headline) and pooled.

Models and baselines go through the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from usermirrorer import intervals, measures
from usermirrorer.calibration import Fit, cross_calibrated, prior_corrected
from usermirrorer.intervals import Estimate, Scoped, Statistic


BINS = 15
"""Of the calibration error."""

READABLE_BINS = 6
"""Of the reliability that people look at: few, so that each has an interval that says something."""

KEYS = ("scene_id", "dataset", "user_id", "item_pos", "group_id")
PER_SCENE = ("argmax_accuracy", "calibrated_gain", "accuracy", "information_gain", "mrr", "brier")
"""Measures that are means of one value per scene, in the order of `ScenePredictions.columns`."""

COMPARED = PER_SCENE[:3]
"""The headline; also what paired differences are taken of."""


@dataclass(frozen=True)
class ScenePredictions:
    """One predictor's probabilities for each scene, in order of scene_id.

    `probs` is the mean over decision processes, `(scenes, options)`, padded with zeros, and `calibrated` the same
    after `cross_calibrated`; the rest is `(scenes,)`. `groups` are numbers from 0; where `grouped` is false, a scene
    has a number of its own because it shares its list with nobody.
    """

    ids: np.ndarray
    domains: np.ndarray
    users: np.ndarray
    groups: np.ndarray
    grouped: np.ndarray
    choice: np.ndarray
    counts: np.ndarray
    probs: np.ndarray
    calibrated: np.ndarray
    fits: tuple[Fit, ...]
    """What was fitted on each half of the users; empty if there is only one user."""

    def columns(self) -> np.ndarray:
        """The values of PER_SCENE, `(scenes, 6)`. mean_j p_j(choice) is p̄(choice), so p̄ gives the accuracy."""
        return np.column_stack(
            [
                measures.argmax_hit(self.probs, self.choice),
                measures.information_gain(self.calibrated, self.choice, self.counts),
                measures.choice_probability(self.probs, self.choice),
                measures.information_gain(self.probs, self.choice, self.counts),
                measures.reciprocal_rank(self.probs, self.choice, self.counts),
                measures.brier(self.probs, self.choice),
            ]
        )

    def only(self, rows: np.ndarray) -> ScenePredictions:
        """These scenes (a mask or their rows), calibrated as before."""
        arrays = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "fits"}
        return replace(self, **arrays)


def per_scene(predictions: pl.DataFrame, scenes: pl.DataFrame) -> ScenePredictions:
    """Join one predictor's rows (scene_id, probs; any number per scene) with the scenes by id, and calibrate."""
    joined = predictions.select("scene_id", "probs").join(scenes.select(KEYS), on="scene_id").sort("scene_id")
    each = joined.unique("scene_id", maintain_order=True)
    rows, counts = measures.padded(joined["probs"].to_list())
    _, first, row_scene = np.unique(joined["scene_id"].to_numpy(), return_index=True, return_inverse=True)
    probs, counts, choice = measures.mean_by(rows, row_scene), counts[first], each["item_pos"].to_numpy()
    people = each.select(pl.struct("dataset", "user_id").rank("dense")).to_series().to_numpy().astype(np.int64) - 1
    calibrated, fits = cross_calibrated(probs, choice, counts, np.bincount(row_scene), people)
    return ScenePredictions(
        ids=each["scene_id"].to_numpy(),
        domains=each["dataset"].to_numpy(),
        users=people,
        groups=each.select(pl.coalesce("group_id", "scene_id").rank("dense")).to_series().to_numpy().astype(int) - 1,
        grouped=each["group_id"].is_not_null().to_numpy(),
        choice=choice,
        counts=counts,
        probs=probs,
        calibrated=calibrated,
        fits=tuple(fits),
    )


def after_calibration(predicted: ScenePredictions) -> ScenePredictions:
    """The calibrated predictions in place of the raw ones."""
    return replace(predicted, probs=predicted.calibrated)


def without_prejudice(predicted: ScenePredictions) -> tuple[ScenePredictions, int]:
    """`prior_corrected` predictions, calibrated anew, and the number of scenes in whole groups, which this changed."""
    probs, changed = prior_corrected(predicted.probs, predicted.counts, predicted.groups)
    one = np.ones(len(probs))
    calibrated, fits = cross_calibrated(probs, predicted.choice, predicted.counts, one, predicted.users)
    return replace(predicted, probs=probs, calibrated=calibrated, fits=tuple(fits)), int(changed.sum())


def measure(predicted: ScenePredictions) -> dict[str, Any]:
    """Every measure of one predictor: those of `measure_scopes`, user gain, position bias, mean probabilities,
    reliability."""
    by_length = {n: predicted.only(predicted.counts == n) for n in np.unique(predicted.counts)}
    bias = Statistic(measures.position_bias_of, least=0.0)
    interval = partial(intervals.interval, pooled=True, statistic=bias)
    return {
        **measure_scopes(predicted),
        "user_gain": user_gain(predicted),
        "position_bias": {
            str(n): interval(part.probs[:, :n], part.users, part.domains, part.groups) for n, part in by_length.items()
        },
        "positions": {str(n): part.probs[:, :n].mean(axis=0).tolist() for n, part in by_length.items()},
        "reliability": _reliability(predicted),
    }


def measure_scopes(predicted: ScenePredictions) -> Scoped:
    """PER_SCENE, `ece` with intervals and its null; every scope has the calibration error's bins of all scenes."""
    gaps = measures.calibration_gaps(predicted.probs, predicted.choice, BINS)
    statistics = {name: intervals.column(i) for i, name in enumerate(PER_SCENE)}
    statistics["ece"] = Statistic(lambda means: measures.ece_of(means[..., len(PER_SCENE) :]), least=0.0)
    scoped = _intervals(np.column_stack([predicted.columns(), gaps]), statistics, predicted)
    bins = measures.confidence_bins(predicted.probs, BINS)
    nulls = {}
    for name, scope in scoped["domains"].items():
        inside = predicted.domains == name
        nulls[name] = measures.expected_ece(predicted.probs[inside], bins[inside])
        scope["ece_null"] = _exact(nulls[name], int(inside.sum()))
    scoped["macro"]["ece_null"] = _exact(float(np.mean(list(nulls.values()))), len(bins))
    scoped["pooled"]["ece_null"] = _exact(measures.expected_ece(predicted.probs, bins), len(bins))
    return scoped


def user_gain(predicted: ScenePredictions) -> Estimate | None:
    """(n · arg-max accuracy − 1) / (n − 1) over the scenes of groups, macro, with its interval; None without any.

    Everybody in a group is shown the same list and takes another of its n options. A predictor that does not look at
    the user is therefore right once in n times, and gains 0; one that is always right gains 1.
    """
    if not predicted.grouped.any():
        return None
    inside = predicted.only(predicted.grouped)
    gain = (inside.counts * measures.argmax_hit(inside.probs, inside.choice) - 1) / (inside.counts - 1)
    return intervals.interval(gain, inside.users, inside.domains, inside.groups)


def paired(a: ScenePredictions, b: ScenePredictions) -> dict[str, Estimate]:
    """a − b of COMPARED, macro, on the scenes that both have; empty without any."""
    _, of_a, of_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    if not len(of_a):
        return {}
    a, b = a.only(of_a), b.only(of_b)
    statistics = {name: intervals.column(i) for i, name in enumerate(COMPARED)}
    return _intervals(a.columns() - b.columns(), statistics, a)["macro"]


def _intervals(columns: np.ndarray, statistics: Mapping[str, Statistic], predicted: ScenePredictions) -> Scoped:
    return intervals.scoped_intervals(columns, statistics, predicted.users, predicted.domains, predicted.groups)


def _exact(value: float, scenes: int) -> Estimate:
    """A value that is computed, not estimated."""
    return {"value": value, "low": None, "high": None, "n": scenes}


def _reliability(predicted: ScenePredictions) -> list[dict[str, Any]]:
    """Mean confidence, and the share of hits with its interval, in few bins of equal mass, all domains together."""
    bins = measures.confidence_bins(predicted.probs, READABLE_BINS)
    confidence, hit = predicted.probs.max(axis=1), measures.argmax_hit(predicted.probs, predicted.choice)
    return [
        {
            "confidence": float(confidence[inside].mean()),
            "hit": intervals.interval(
                hit[inside], predicted.users[inside], groups=predicted.groups[inside], pooled=True
            ),
        }
        for inside in (bins == b for b in np.unique(bins))
    ]
