"""What is reported of an evaluation: models and baselines measured, models compared, answers counted by reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.eval.baselines import uniform
from usermirrorer.eval.best_possible import expected
from usermirrorer.eval.scene_predictions import (
    ScenePredictions,
    after_calibration,
    measure,
    measure_scopes,
    paired,
    per_scene,
    without_prejudice,
)
from usermirrorer.intervals import FEWEST_USERS
from usermirrorer.llm.prompts import has_evidence


def evaluate(
    predictions: pl.DataFrame,
    scenes: pl.DataFrame,
    baselines: pl.DataFrame,
    probe: dict[str, Any] | str,
    best: Mapping[str, pl.DataFrame] | None = None,
    parents: Mapping[str, str] | None = None,
    train_users: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Everything that is reported of `predictions` (columns of PREDICTED and `model`) on `scenes`.

    `baselines` are (scene_id, baseline, probs); `best` maps a name to the (scene_id, probs) of a predictor that cannot
    be beaten; `probe` is the manifest's block, or a sentence on why there is none; `parents` maps a model's name to
    that of the model it was trained from; `train_users` are the (dataset, user_id) of the train split.
    """
    compared = {name: per_scene(rows, scenes) for name, rows in _by("baseline", baselines)}
    measured = {name: measure(predicted) for name, predicted in compared.items()}
    return {
        "scenes": {
            "n": len(scenes),
            "grouped": scenes["group_id"].count(),
            "evidence": int(pl.Series(map(has_evidence, scenes["text"]), dtype=pl.Boolean).sum()),
            "fingerprint": fingerprint(scenes),
            "users": scenes.select("dataset", "user_id").n_unique(),
            "by_dataset": _sizes(scenes, "dataset"),
            "by_options": _sizes(scenes, "choice_cnt"),
        },
        "no_intervals": _too_few_users(scenes),
        "chance": measure_scopes(per_scene(uniform(scenes), scenes))["macro"]["accuracy"]["value"],
        "probe": probe,
        "best_possible": {
            name: {**measure(per_scene(rows, scenes)), "expected": expected(rows)}
            for name, rows in (best or {}).items()
        },
        "baselines": measured,
        "strongest_baseline": max(measured, key=lambda name: measured[name]["macro"]["argmax_accuracy"]["value"]),
        "models": {name: _model(rows, scenes, compared, train_users) for name, rows in _by("model", predictions)},
        "comparisons": compare(predictions, scenes, parents or {}),
    }


def fingerprint(scenes: pl.DataFrame) -> str:
    """16 hex digits of the scenes and their choices: runs with the same fingerprint can be compared."""
    keys = json.dumps(sorted(scenes.select("scene_id", "dataset", "user_id", "item_pos").iter_rows()))
    return hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()


def compare(predictions: pl.DataFrame, scenes: pl.DataFrame, parents: Mapping[str, str]) -> list[dict[str, Any]]:
    """Paired differences b − a between every two models on the scenes both answered (context full), macro.

    `parent` is true if b was trained from a; such pairs come first.
    """
    full = predictions.filter(pl.col("context") == "full")
    by_model = {name: per_scene(rows, scenes) for name, rows in _by("model", full)}
    related = [(parent, name) for name, parent in parents.items() if {parent, name} <= by_model.keys()]
    others = [pair for pair in combinations(by_model, 2) if pair not in related and pair[::-1] not in related]
    return [
        {"a": a, "b": b, "parent": (a, b) in related, **paired(by_model[b], by_model[a])} for a, b in related + others
    ]


def _model(
    rows: pl.DataFrame,
    scenes: pl.DataFrame,
    baselines: Mapping[str, ScenePredictions],
    train_users: Sequence[tuple[str, str]] | None,
) -> dict[str, Any]:
    """All measures of one model: per context, and for `full` also calibrated, prior-corrected, per part, and against
    the baselines."""
    by_context = dict(_by("context", rows))
    result: dict[str, Any] = {
        "contexts": {name: measure(per_scene(part, scenes)) for name, part in by_context.items()},
        "counts": {name: _counts(part, scenes) for name, part in by_context.items()},
    }
    if "full" not in by_context:
        return result
    full = per_scene(by_context["full"], scenes)
    finished = by_context["full"].filter(~pl.col("unfinished"))
    if 0 < len(finished) < len(by_context["full"]):
        result["without_unfinished"] = measure_scopes(per_scene(finished, scenes))["macro"]
    result["calibrated"] = {"halves": list(full.fits), **measure(after_calibration(full))}
    corrected, changed = without_prejudice(full)
    if changed:
        left = int(full.grouped.sum()) - changed
        result["prior_corrected"] = {"scenes": changed, "incomplete": left, **measure(corrected)}
    result["parts"] = {
        name: measure_scopes(full.only(mask))["macro"]
        for name, mask in _parts(full, scenes, train_users).items()
        if mask.any()
    }
    result["user_gain"] = result["contexts"]["full"]["user_gain"]
    if result["user_gain"] is None and "swapped-history" in by_context:
        swapped = per_scene(by_context["swapped-history"], scenes)
        result["user_gain"] = paired(full, swapped).get("argmax_accuracy")
    result["against"] = {name: paired(full, baseline) for name, baseline in baselines.items()}
    return result


def _too_few_users(scenes: pl.DataFrame) -> str | None:
    """Why some intervals are missing, None if none is."""
    users = scenes.group_by("dataset").agg(pl.col("user_id").n_unique()).sort("dataset")
    few = [f"{name} has {count}" for name, count in users.iter_rows() if count < FEWEST_USERS]
    return f"no interval from fewer than {FEWEST_USERS} users: {', '.join(few)}" if few else None


def _by(column: str, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The values of a column in order of appearance, each with its rows."""
    return ((str(value), part) for (value,), part in rows.group_by([column], maintain_order=True))


def _parts(
    full: ScenePredictions, scenes: pl.DataFrame, train_users: Sequence[tuple[str, str]] | None
) -> dict[str, np.ndarray]:
    """Masks of scenes reported separately: by length of history and of list, with an option chosen later or not, of
    users with train scenes or not."""
    answered = scenes.filter(pl.col("scene_id").is_in(full.ids)).sort("scene_id")
    masks = _by_history(answered["history_len"])
    lengths = np.unique(full.counts)
    if len(lengths) > 1:
        masks |= {f"{n} options": full.counts == n for n in lengths}
    later = answered["later_chosen"]
    if later.null_count() == 0:
        chosen_later = (later.list.len() > 0).to_numpy()
        masks |= {"later_chosen": chosen_later, "none_later_chosen": ~chosen_later}
    if train_users is not None:
        known = set(train_users)
        warm = np.array([key in known for key in answered.select("dataset", "user_id").iter_rows()])
        masks |= {"warm_users": warm, "cold_users": ~warm}
    return masks


def _by_history(shown: pl.Series) -> dict[str, np.ndarray]:
    """Masks of the scenes with short, middling and long histories, thirds as far as ties allow; none if unknown."""
    if shown.null_count():
        return {}
    entries = shown.to_numpy()
    third = np.searchsorted(np.quantile(entries, [1 / 3, 2 / 3], method="inverted_cdf"), entries, side="left")
    masks = [third == number for number in np.unique(third)]
    if len(masks) == 1:
        return {}
    ends = [(entries[mask].min(), entries[mask].max()) for mask in masks]
    names = [f"history of {low}" if low == high else f"history of {low} to {high}" for low, high in ends]
    return dict(zip(names, masks, strict=True))


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
