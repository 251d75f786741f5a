"""Which pairs are kept: quotas over strata, and balanced letters within each.

A stratum is (dataset, number of options). Its quota follows its share of the scenes. Within it, letters of the choice
are equally frequent as far as the pairs allow, and letters of the rejected option match them, so that no preference
for a letter tells chosen from rejected. Number and balance come first, the rank of the scene second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from usermirrorer.measures import normalised
from usermirrorer.seeds import Stream, scene_keys, uniforms
from usermirrorer.steps import DistillSettings


REJECTED_ENTROPY_WEIGHT = 1e-3
"""Weight of a rejected decision's normalised entropy beside the scene's rank: small enough to only break ties."""


def quotas(weights: np.ndarray, caps: np.ndarray, num: int, tie: np.ndarray | None = None) -> np.ndarray:
    """Divide `num` by `weights` `(strata,)`, largest remainders first; integers `(strata,)`, none above its cap.

    What exceeds a stratum's cap goes to the others by their weights. The sum is `num`, or that of `caps` if it is
    less. Without full strata each quota differs from its exact share by less than one. Equal remainders are served in
    the order of `tie`. Weights are whole numbers; a stratum of weight 0 gets nothing.
    """
    weights, caps = np.asarray(weights, dtype=np.int64), np.asarray(caps, dtype=np.int64)
    given = np.zeros(len(weights), dtype=np.int64)
    left, open_ = num, (weights > 0) & (caps > 0)
    while open_.any():
        total = weights[open_].sum()
        full = open_ & (left * weights >= caps * total)
        if not full.any():
            given[open_] = left * weights[open_] // total
            remainder = np.where(open_, left * weights % total, -1)
            order = np.lexsort((np.arange(len(weights)) if tie is None else tie, -remainder))
            given[order[: left - given[open_].sum()]] += 1
            break
        given[full] = caps[full]
        left -= int(caps[full].sum())
        open_ &= ~full
    return given


def select(
    scenes: pl.DataFrame, candidates: pl.DataFrame, settings: DistillSettings
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The candidate pairs to keep, at most one per scene, and each stratum's quota, available scenes and kept pairs.

    Their order depends only on (seed, scene_id). `scenes` are all scenes with scored decisions.
    """
    stratum = ["dataset", "choice_cnt"]
    strata = scenes.group_by(stratum).agg(scenes=pl.len().cast(pl.Int64)).sort(stratum)
    of = candidates.join(strata.with_row_index("_row"), on=stratum, maintain_order="left")["_row"].to_numpy()
    ids, scene = np.unique(candidates["scene_id"].to_numpy().astype("S16"), return_inverse=True)
    keys = scene_keys(settings.seed, ids)
    by_score = settings.selector == "uncertainty"
    rank = candidates["score"].to_numpy() if by_score else uniforms(keys, Stream.SELECT, 1)[scene, 0]
    choice, label, options, entropy = (
        candidates[name].to_numpy() for name in ("item_pos", "label", "choice_cnt", "entropy_rejected")
    )
    value = rank - REJECTED_ENTROPY_WEIGHT * normalised(entropy, options)

    weights = strata["scenes"].to_numpy()
    available = np.array([len(np.unique(scene[of == s])) for s in range(len(strata))], dtype=np.int64)
    given = quotas(weights, available, settings.num)
    kept = []
    for s in np.flatnonzero(given).tolist():
        rows = np.flatnonzero(of == s)
        letters = np.random.default_rng([settings.seed, s]).permutation(strata["choice_cnt"][s])
        kept.append(rows[balanced(scene[rows], choice[rows], label[rows], value[rows], int(given[s]), letters)])
    chosen = np.concatenate(kept)
    report = strata.with_columns(
        quota=quotas(weights, np.full(len(strata), settings.num), settings.num), available=available, kept=given
    )
    return candidates[chosen[np.lexsort((scene[chosen], keys[scene[chosen]]))]], report.to_dicts()


def balanced(
    scene: np.ndarray, choice: np.ndarray, label: np.ndarray, value: np.ndarray, quota: int, tie: np.ndarray
) -> np.ndarray:
    """The `quota` rows of one stratum, one per scene, with balanced letters and then the highest sum of `value`.

    Choices get equal quotas by letter, as far as the scenes allow; ties follow `tie`, a seeded order of the letters
    `(options,)`, so that no letter gains over many small strata. Rejected letters get the same counts: every excess
    costs more than any rearrangement of `value` can gain. This is a transportation problem, whose optimal vertices are
    integral, and dual simplex ends in a vertex.
    """
    from scipy.optimize import linprog
    from scipy.sparse import block_array, csr_array, eye_array

    options = len(tie)
    scenes, first, of_scene = np.unique(scene, return_index=True, return_inverse=True)
    target = quotas(np.ones(options), np.bincount(choice[first], minlength=options), quota, tie)

    rows, ones = np.arange(len(scene)), np.ones(len(scene))
    once = csr_array((ones, (of_scene, rows)), shape=(len(scenes), len(scene)))
    by_choice = csr_array((ones, (choice, rows)), shape=(options, len(scene)))
    by_label = csr_array((ones, (label, rows)), shape=(options, len(scene)))
    penalty = 4.0 * options * (1.0 + np.ptp(value))
    solved = linprog(
        np.concatenate([-value, np.full(options, penalty)]),
        A_ub=block_array([[once, None], [by_label, -eye_array(options)]]),
        b_ub=np.concatenate([np.ones(len(scenes)), target]),
        A_eq=block_array([[by_choice, csr_array((options, options))]]),
        b_eq=target,
        bounds=(0, None),
        method="highs-ds",
    )
    return np.flatnonzero(solved.x[: len(scene)] > 0.5)
