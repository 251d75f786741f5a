"""One predictor on many scenes, and every measure of it with error bars: per domain, macro (the headline) and pooled.

Models and baselines go through the same functions. All intervals resample users within domain (`measures.resample`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from usermirrorer import measures
from usermirrorer.measures import Estimate, Scoped


BINS = 15
KEYS = ("scene_id", "dataset", "user_id", "item_pos")
PER_SCENE = ("accuracy", "argmax_accuracy", "information_gain", "mrr", "brier")
"""Measures that are means of one value per scene, in the order of `ScenePredictions.columns`."""


@dataclass(frozen=True)
class ScenePredictions:
    """One predictor's probabilities for each scene, in order of scene_id.

    `probs` is the mean over decision processes, `(scenes, options)`, padded with zeros; the rest is `(scenes,)`.
    """

    ids: np.ndarray
    domains: np.ndarray
    users: np.ndarray
    choice: np.ndarray
    probs: np.ndarray
    counts: np.ndarray

    def columns(self) -> np.ndarray:
        """The values of PER_SCENE, `(scenes, 5)`. mean_j p_j(choice) is p̄(choice), so p̄ gives the accuracy."""
        return np.column_stack(
            [
                measures.choice_probability(self.probs, self.choice),
                measures.argmax_hit(self.probs, self.choice),
                measures.information_gain(self.probs, self.choice, self.counts),
                measures.reciprocal_rank(self.probs, self.choice, self.counts),
                measures.brier(self.probs, self.choice),
            ]
        )

    def only(self, mask: np.ndarray) -> ScenePredictions:
        return ScenePredictions(**{name: getattr(self, name)[mask] for name in self.__dataclass_fields__})


def per_scene(predictions: pl.DataFrame, scenes: pl.DataFrame) -> ScenePredictions:
    """Join one predictor's rows (scene_id, probs; any number per scene) with the scenes by id."""
    joined = predictions.select("scene_id", "probs").join(scenes.select(KEYS), on="scene_id").sort("scene_id")
    each = joined.unique("scene_id", maintain_order=True)
    probs, counts = measures.padded(joined["probs"].to_list())
    _, first, group = np.unique(joined["scene_id"].to_numpy(), return_index=True, return_inverse=True)
    return ScenePredictions(
        ids=each["scene_id"].to_numpy(),
        domains=each["dataset"].to_numpy(),
        users=each["user_id"].to_numpy(),
        choice=each["item_pos"].to_numpy(),
        probs=measures.mean_by(probs, group),
        counts=counts[first],
    )


def measure(predicted: ScenePredictions, draws: int, seed: int) -> dict[str, Any]:
    """Every measure of one predictor: those of `measure_scopes`, position bias, mean probabilities, reliability."""
    by_length = {n: predicted.only(predicted.counts == n) for n in np.unique(predicted.counts)}
    bias = partial(measures.interval, draws=draws, seed=seed, pooled=True, statistic=measures.position_bias_of)
    return {
        **measure_scopes(predicted, draws, seed),
        "position_bias": {
            str(n): bias(part.probs[:, :n], part.users, domains=part.domains) for n, part in by_length.items()
        },
        "positions": {str(n): part.probs[:, :n].mean(axis=0).tolist() for n, part in by_length.items()},
        "reliability": _reliability(predicted),
    }


def measure_scopes(predicted: ScenePredictions, draws: int, seed: int) -> Scoped:
    """PER_SCENE and `ece` with intervals; every scope has the bins of the calibration error of all scenes."""
    gaps = measures.calibration_gaps(predicted.probs, predicted.choice, BINS)
    statistics = {name: measures.column(i) for i, name in enumerate(PER_SCENE)}
    statistics["ece"] = lambda means: measures.ece_of(means[..., len(PER_SCENE) :])
    columns = np.column_stack([predicted.columns(), gaps])
    return measures.scoped_intervals(columns, statistics, predicted.users, predicted.domains, draws, seed)


def paired(a: ScenePredictions, b: ScenePredictions, draws: int, seed: int) -> dict[str, Estimate]:
    """a − b of accuracy, arg-max accuracy and information gain, macro, on the scenes both have; empty without any."""
    common = np.intersect1d(a.ids, b.ids)
    a, b = a.only(np.isin(a.ids, common)), b.only(np.isin(b.ids, common))
    if not len(common):
        return {}
    differences = a.columns() - b.columns()
    statistics = {name: measures.column(PER_SCENE.index(name)) for name in PER_SCENE[:3]}
    return measures.scoped_intervals(differences, statistics, a.users, a.domains, draws, seed)["macro"]


def _reliability(predicted: ScenePredictions) -> list[dict[str, float]]:
    """Mean confidence and hits of every bin of the calibration error."""
    bins = measures.confidence_bins(predicted.probs, BINS)
    confidence, hit = predicted.probs.max(axis=1), measures.argmax_hit(predicted.probs, predicted.choice)
    return [
        {"confidence": float(confidence[inside].mean()), "hit": float(hit[inside].mean()), "n": int(inside.sum())}
        for inside in (bins == b for b in np.unique(bins))
    ]
