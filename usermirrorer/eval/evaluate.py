"""What is reported of an evaluation: models and baselines measured, models compared, answers counted by reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from usermirrorer import measures
from usermirrorer.eval.baselines import uniform
from usermirrorer.eval.scene_predictions import KEYS, ScenePredictions, measure, measure_scopes, paired, per_scene


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

    `baselines` and `best` (the best possible predictor, if it is known) are (scene_id, baseline, probs); `probe` is
    the manifest's block, or a sentence on why there is none; `train` holds predictions and scenes of the train split,
    to fit each model's one temperature; `train_users` are the (dataset, user_id) of the train split.
    """
    compared = {name: per_scene(rows, scenes) for name, rows in _by("baseline", baselines)}
    models = {}
    for name, rows in _by("model", predictions):
        temperature = None if train is None else _temperature(train[0].filter(pl.col("model") == name), train[1])
        models[name] = _model(rows, scenes, compared, temperature, train_users, draws, seed)
    return {
        "scenes": {
            "n": len(scenes),
            "fingerprint": fingerprint(scenes),
            "users": scenes.select("dataset", "user_id").n_unique(),
            "by_dataset": _sizes(scenes, "dataset"),
            "by_options": _sizes(scenes, "choice_cnt"),
        },
        "chance": measure_scopes(per_scene(uniform(scenes), scenes), draws, seed)["macro"]["accuracy"],
        "probe": probe,
        "best_possible": None if best is None else measure(per_scene(best, scenes), draws, seed),
        "baselines": {name: measure(predicted, draws, seed) for name, predicted in compared.items()},
        "models": models,
        "comparisons": compare(predictions, scenes, draws, seed),
    }


def fingerprint(scenes: pl.DataFrame) -> str:
    """16 hex digits of the scenes and their choices: runs with the same fingerprint can be compared."""
    keys = json.dumps(sorted(scenes.select(KEYS).iter_rows()))
    return hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()


def compare(predictions: pl.DataFrame, scenes: pl.DataFrame, draws: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """Paired differences b − a between every two models on the scenes both answered (context full), macro."""
    full = predictions.filter(pl.col("context") == "full")
    by_model = {name: per_scene(rows, scenes) for name, rows in _by("model", full)}
    return [{"a": a, "b": b, **paired(by_model[b], by_model[a], draws, seed)} for a, b in combinations(by_model, 2)]


def _model(
    rows: pl.DataFrame,
    scenes: pl.DataFrame,
    baselines: Mapping[str, ScenePredictions],
    temperature: float | None,
    train_users: Sequence[tuple[str, str]] | None,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """All measures of one model: per context, and for `full` also calibrated, per part, and against the baselines."""
    by_context = dict(_by("context", rows))
    result: dict[str, Any] = {
        "contexts": {name: measure(per_scene(part, scenes), draws, seed) for name, part in by_context.items()},
        "counts": {name: _counts(part, scenes) for name, part in by_context.items()},
    }
    if "full" not in by_context:
        return result
    full = per_scene(by_context["full"], scenes)
    finished = by_context["full"].filter(~pl.col("unfinished"))
    if 0 < len(finished) < len(by_context["full"]):
        result["without_unfinished"] = measure_scopes(per_scene(finished, scenes), draws, seed)["macro"]
    if temperature is not None:
        tempered = replace(full, probs=measures.apply_temperature(full.probs, full.counts, temperature))
        result["calibrated"] = {"temperature": temperature, **measure(tempered, draws, seed)}
    result["parts"] = {
        name: measure_scopes(full.only(mask), draws, seed)["macro"]
        for name, mask in _parts(full, scenes, train_users).items()
        if mask.any()
    }
    if "swapped-history" in by_context:
        swapped = per_scene(by_context["swapped-history"], scenes)
        result["user_gain"] = paired(full, swapped, draws, seed).get("argmax_accuracy")
    result["against"] = {name: paired(full, baseline, draws, seed) for name, baseline in baselines.items()}
    return result


def _by(column: str, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The values of a column in order of appearance, each with its rows."""
    return ((str(value), part) for (value,), part in rows.group_by([column], maintain_order=True))


def _parts(
    full: ScenePredictions, scenes: pl.DataFrame, train_users: Sequence[tuple[str, str]] | None
) -> dict[str, np.ndarray]:
    """Masks of scenes reported separately: with an option chosen later or not, of users with train scenes or not."""
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


def _temperature(predictions: pl.DataFrame, scenes: pl.DataFrame) -> float:
    full = per_scene(predictions.filter(pl.col("context") == "full"), scenes)
    return measures.fit_temperature(full.probs, full.choice, full.counts)


def _counts(rows: pl.DataFrame, scenes: pl.DataFrame) -> dict[str, int]:
    """Scenes and rows by reason. `too_long` scenes have no row; `disagrees` rows name an option and favour another."""
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
