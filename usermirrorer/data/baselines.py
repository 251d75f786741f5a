"""Baselines on the same scenes: each candidate model, position, the probe, and a reference model over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from usermirrorer.data.features import Features, relative
from usermirrorer.data.probe import Probe, boosted_trees, matrix, out_of_sample, softmax, with_relative
from usermirrorer.data.schema import BASELINES
from usermirrorer.data.store import SHARD_ROWS, open_step
from usermirrorer.measures import argmax_hit, choice_probability, interval


SHARPNESS = np.geomspace(0.01, 30.0, 60)
"""Grid on which the sharpness of a score's softmax is fitted (log loss on train scenes)."""


def baseline_probs(features: Features, train: Features | None, probe: Probe) -> dict[str, np.ndarray]:
    """Probability of every option under every baseline, flat over options. Whatever is fitted is fitted on `train`."""
    fitted_on = train if train is not None else features
    probs = {
        "uniform": 1 / np.repeat(features.count, features.count),
        "best position": _best_position(features, fitted_on),
    }
    for name in features.scores:
        standard = relative(features.scores[name], features)[0]
        sharpness = _fit_sharpness(relative(fitted_on.scores[name], fitted_on)[0], fitted_on)
        probs[name] = softmax(sharpness * standard, features)
    probs["exposure probe"] = probe.probs
    probs["reference"] = out_of_sample(features, train, _reference)
    return {name: np.round(values, 6) for name, values in probs.items()}


def write_baselines(
    features: Features, train: Features | None, probe: Probe, directory: Path, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the baselines artefact, rows by (scene, baseline); returns each one's accuracies with intervals."""
    probs = baseline_probs(features, train, probe)
    with open_step(directory, {**recipe, "step": "baselines"}, BASELINES) as step:
        if step.complete:
            return step.content["accuracy"]
        ids = np.char.decode(features.scene_id, "ascii")
        order = np.argsort(np.tile(np.arange(len(ids)), len(probs)), kind="stable")
        offsets = np.append(0, np.cumsum(np.tile(features.count, len(probs))))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(np.concatenate(list(probs.values()))))
        table = pa.Table.from_arrays(
            [pa.array(np.tile(ids, len(probs))), pa.array(np.repeat(list(probs), len(ids))), lists], schema=BASELINES
        ).take(order)
        for shard, begin in enumerate(range(0, len(table), SHARD_ROWS)):
            step.write_shard(shard, table.slice(begin, SHARD_ROWS))
        accuracy = {name: _accuracies(features, values) for name, values in probs.items()}
        step.finish(rows=len(table), accuracy=accuracy)
        return accuracy


def _reference(train: Features, features: Features) -> np.ndarray:
    return boosted_trees(train, features, lambda block: with_relative({**block.user_free, **block.scores}, block))


def _best_position(features: Features, train: Features) -> np.ndarray:
    """The share of train choices at each position of lists of the same length; uniform for a length not seen."""
    probs = np.empty(int(features.count.sum()))
    for n in np.unique(features.count):
        seen = np.bincount(train.choice[train.count == n], minlength=n).astype(float)
        shares = (seen + 1) / (seen.sum() + n)
        probs[np.repeat(features.count == n, features.count)] = np.tile(shares, int((features.count == n).sum()))
    return probs


def _fit_sharpness(standard: np.ndarray, features: Features) -> float:
    """The factor before a softmax of standardised scores with the least log loss."""
    losses = [-np.log(softmax(factor * standard, features)[features.chosen] + 1e-12).mean() for factor in SHARPNESS]
    return float(SHARPNESS[int(np.argmin(losses))])


def _accuracies(features: Features, probs: np.ndarray) -> dict[str, Any]:
    padded = matrix(probs, features)
    return {
        "accuracy": dict(interval(choice_probability(padded, features.choice), features.user)),
        "argmax_accuracy": dict(interval(argmax_hit(padded, features.choice), features.user)),
    }
