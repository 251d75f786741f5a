"""From predictions to measures with error bars: per domain, macro (the headline) and pooled.

Models and baselines go through the same functions. All intervals resample users within domain (`measures.resample`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from usermirrorer import measures
from usermirrorer.measures import Estimate, Scoped


BINS = 15
KEYS = ("scene_id", "dataset", "user_id", "item_pos")
PER_SCENE = ("accuracy", "argmax_accuracy", "information_gain", "mrr", "brier")
"""Measures that are means of one value per scene, in the order of `Answers.columns`."""


@dataclass(frozen=True)
class Answers:
    """What one predictor says of each scene, in order of scene_id.

    `probs` is the mean over decision processes, `(scenes, options)`, padded with zeros; the rest is `(scenes,)`.
    """

    ids: np.ndarray
    domains: np.ndarray
    users: np.ndarray
    choice: np.ndarray
    probs: np.ndarray
    counts: np.ndarray

    def columns(self) -> np.ndarray:
        """The values of PER_SCENE, `(scenes, 5)`. mean_j p_j(choice) is p̄(choice), so accuracy is read from p̄."""
        return np.column_stack(
            [
                measures.choice_probability(self.probs, self.choice),
                measures.argmax_hit(self.probs, self.choice),
                measures.information_gain(self.probs, self.choice, self.counts),
                measures.reciprocal_rank(self.probs, self.choice, self.counts),
                measures.brier(self.probs, self.choice),
            ]
        )

    def only(self, mask: np.ndarray) -> Answers:
        return Answers(**{name: getattr(self, name)[mask] for name in self.__dataclass_fields__})


def answers(predictions: pl.DataFrame, scenes: pl.DataFrame) -> Answers:
    """Join one predictor's rows (scene_id, probs; any number per scene) with the scenes by id."""
    joined = predictions.select("scene_id", "probs").join(scenes.select(KEYS), on="scene_id").sort("scene_id")
    each = joined.unique("scene_id", maintain_order=True)
    probs, counts = measures.padded(joined["probs"].to_list())
    _, first, group = np.unique(joined["scene_id"].to_numpy(), return_index=True, return_inverse=True)
    return Answers(
        ids=each["scene_id"].to_numpy(),
        domains=each["dataset"].to_numpy(),
        users=each["user_id"].to_numpy(),
        choice=each["item_pos"].to_numpy(),
        probs=measures.mean_by(probs, group),
        counts=counts[first],
    )


def evaluate(
    predictions: pl.DataFrame,
    scenes: pl.DataFrame,
    baselines: pl.DataFrame,
    probe: dict[str, Any] | str,
    best: pl.DataFrame | None = None,
    train: tuple[pl.DataFrame, pl.DataFrame] | None = None,
    train_users: Sequence[tuple[str, str]] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that is reported of `predictions` (columns of PREDICTED and `model`) on `scenes`.

    `baselines` and `best` (the best possible predictor, where it is known) are (scene_id, baseline, probs); `probe`
    is the manifest's block, or a sentence saying why there is none; `train` holds predictions and scenes of the train
    split, to fit each model's one temperature; `train_users` are the (dataset, user_id) of the train split.
    """
    chance = pl.DataFrame(
        {"scene_id": scenes["scene_id"], "probs": [[1 / n] * n for n in scenes["choice_cnt"].to_list()]}
    )
    models = {}
    for (name,), rows in predictions.group_by(["model"], maintain_order=True):
        temperature = None if train is None else _temperature(train[0].filter(pl.col("model") == name), train[1])
        models[str(name)] = _model(rows, scenes, baselines, temperature, train_users, draws, seed)
    return {
        "scenes": {
            "n": len(scenes),
            "fingerprint": fingerprint(scenes),
            "users": scenes.select("dataset", "user_id").n_unique(),
            "by_dataset": _sizes(scenes, "dataset"),
            "by_options": _sizes(scenes, "choice_cnt"),
        },
        "chance": _scoped(answers(chance, scenes), draws, seed)["macro"]["accuracy"],
        "probe": probe,
        "best_possible": None if best is None else _measured(answers(best, scenes), draws, seed),
        "baselines": {
            str(name): _measured(answers(rows, scenes), draws, seed)
            for (name,), rows in baselines.group_by(["baseline"], maintain_order=True)
        },
        "models": models,
        "comparisons": compare(predictions, scenes, draws, seed),
    }


def fingerprint(scenes: pl.DataFrame) -> str:
    """16 hex digits of the scenes and their choices: runs with the same ones can be compared."""
    keys = json.dumps(sorted(scenes.select(KEYS).iter_rows()))
    return hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()


def compare(predictions: pl.DataFrame, scenes: pl.DataFrame, draws: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Paired differences b − a between every two models on the scenes both answered (context full), macro."""
    full = predictions.filter(pl.col("context") == "full")
    by_model = {str(name): answers(rows, scenes) for (name,), rows in full.group_by(["model"], maintain_order=True)}
    return [{"a": a, "b": b, **paired(by_model[b], by_model[a], draws, seed)} for a, b in combinations(by_model, 2)]


def paired(a: Answers, b: Answers, draws: int, seed: int) -> dict[str, Estimate]:
    """a − b of accuracy, arg-max accuracy and information gain, macro, on the scenes both have; empty without any."""
    common = np.intersect1d(a.ids, b.ids)
    a, b = a.only(np.isin(a.ids, common)), b.only(np.isin(b.ids, common))
    if not len(common):
        return {}
    differences = a.columns() - b.columns()
    statistics = {name: measures.column(PER_SCENE.index(name)) for name in PER_SCENE[:3]}
    return measures.scoped_intervals(differences, statistics, a.users, a.domains, draws, seed)["macro"]


def _model(
    rows: pl.DataFrame,
    scenes: pl.DataFrame,
    baselines: pl.DataFrame,
    temperature: float | None,
    train_users: Sequence[tuple[str, str]] | None,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """All measures of one model: by context, and of `full` also the parts that need a look of their own."""
    by_context = {str(name): part for (name,), part in rows.group_by(["context"], maintain_order=True)}
    result: dict[str, Any] = {
        "contexts": {name: _measured(answers(part, scenes), draws, seed) for name, part in by_context.items()},
        "counts": {name: _counts(part, scenes) for name, part in by_context.items()},
    }
    if "full" not in by_context:
        return result
    full = answers(by_context["full"], scenes)
    finished = by_context["full"].filter(~pl.col("unfinished"))
    if 0 < len(finished) < len(by_context["full"]):
        result["without_unfinished"] = _scoped(answers(finished, scenes), draws, seed)["macro"]
    if temperature is not None:
        tempered = replace(full, probs=measures.apply_temperature(full.probs, full.counts, temperature))
        result["calibrated"] = {"temperature": temperature, **_measured(tempered, draws, seed)}
    result["parts"] = {
        name: _scoped(full.only(mask), draws, seed)["macro"]
        for name, mask in _parts(full, scenes, train_users).items()
        if mask.any()
    }
    if "swapped-history" in by_context:
        swapped = answers(by_context["swapped-history"], scenes)
        result["user_gain"] = paired(full, swapped, draws, seed).get("argmax_accuracy")
    result["against"] = {
        str(name): paired(full, answers(part, scenes), draws, seed)
        for (name,), part in baselines.group_by(["baseline"], maintain_order=True)
    }
    return result


def _parts(
    full: Answers, scenes: pl.DataFrame, train_users: Sequence[tuple[str, str]] | None
) -> dict[str, np.ndarray]:
    """Masks of scenes reported apart: with an option the user chooses later, and of users with train scenes or not."""
    masks: dict[str, np.ndarray] = {}
    later = scenes.filter(pl.col("scene_id").is_in(full.ids)).sort("scene_id")["later_chosen"]
    if later.null_count() == 0:
        chosen_later = (later.list.len() > 0).to_numpy()
        masks |= {"later_chosen": chosen_later, "none_later_chosen": ~chosen_later}
    if train_users is not None:
        known = set(train_users)
        warm = np.array([key in known for key in zip(full.domains, full.users, strict=True)])
        masks |= {"warm_users": warm, "cold_users": ~warm}
    return masks


def _measured(given: Answers, draws: int, seed: int) -> dict[str, Any]:
    """Every measure of one predictor."""
    lengths = np.unique(given.counts)
    return {
        **_scoped(given, draws, seed),
        "position_bias": {
            str(n): measures.interval(
                given.probs[given.counts == n, :n],
                given.users[given.counts == n],
                draws,
                seed,
                given.domains[given.counts == n],
                pooled=True,
                statistic=measures.position_bias_of,
            )
            for n in lengths
        },
        "positions": {str(n): given.probs[given.counts == n, :n].mean(axis=0).tolist() for n in lengths},
        "reliability": _reliability(given),
    }


def _scoped(given: Answers, draws: int, seed: int) -> Scoped:
    """Measures with intervals; the bins of the calibration error are those of all scenes, in every scope."""
    gaps = measures.calibration_gaps(given.probs, given.choice, BINS)
    statistics = {name: measures.column(i) for i, name in enumerate(PER_SCENE)}
    statistics["ece"] = lambda means: measures.ece_of(means[..., len(PER_SCENE) :])
    columns = np.column_stack([given.columns(), gaps])
    return measures.scoped_intervals(columns, statistics, given.users, given.domains, draws, seed)


def _reliability(given: Answers) -> list[dict[str, float]]:
    """Mean confidence and hits of every bin of the calibration error."""
    bins = measures.confidence_bins(given.probs, BINS)
    confidence, hit = given.probs.max(axis=1), measures.argmax_hit(given.probs, given.choice)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "hit": float(hit[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def _temperature(predictions: pl.DataFrame, scenes: pl.DataFrame) -> float:
    full = answers(predictions.filter(pl.col("context") == "full"), scenes)
    return measures.fit_temperature(full.probs, full.choice, full.counts)


def _counts(rows: pl.DataFrame, scenes: pl.DataFrame) -> dict[str, int]:
    """What happened, by reason. `too_long` scenes have no row; `disagrees` wrote one option and favours another."""
    favoured = pl.col("probs").list.arg_max()
    return {
        "scenes": len(scenes),
        "answered": rows["scene_id"].n_unique(),
        "too_long": len(scenes) - rows["scene_id"].n_unique(),
        "shed": rows.filter(pl.col("shed") > 0)["scene_id"].n_unique(),
        "rows": len(rows),
        "unfinished": int(rows["unfinished"].sum()),
        "cut_off": int((rows["finish_reason"] == "length").sum()),
        "disagrees": len(rows.filter(pl.col("behavior").is_not_null() & (pl.col("behavior") != favoured))),
    }


def _sizes(scenes: pl.DataFrame, by: str) -> dict[str, int]:
    return {str(name): size for name, size in scenes.group_by(by).len().sort(by).iter_rows()}
