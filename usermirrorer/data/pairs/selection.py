"""Which pairs are kept: quotas over strata, and balanced letters within each.

A stratum is (dataset, number of options). Its quota follows its share of the scenes. Within it, letters of the choice
are equally frequent as far as there are pairs, and letters of the rejected option match them, so that no preference
for a letter tells chosen from rejected. Number and balance come first, the rank of the scene second.
"""

from __future__ import annotations

from typing import Any

import numpy as np


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
    stratum: np.ndarray,
    weights: np.ndarray,
    options: np.ndarray,
    scene: np.ndarray,
    choice: np.ndarray,
    label: np.ndarray,
    rank: np.ndarray,
    entropy: np.ndarray,
    num: int,
    seed: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Rows to keep, at most one per scene, and each stratum's quota, available scenes and kept pairs.

    A row is a candidate pair, `(rows,)`: the `stratum` and `scene` it belongs to, the letters of the choice and of the
    rejected option (`label`), the scene's `rank` in [-1, 1] (high is kept first) and the normalised `entropy` of the
    rejected decision. `weights` and `options` are `(strata,)`: number of scenes, and options per scene.
    """
    available = np.array([len(np.unique(scene[stratum == s])) for s in range(len(weights))], dtype=np.int64)
    quota = quotas(weights, np.full(len(weights), max(num, 1)), num)
    given = quotas(weights, available, num)
    kept, report = [], []
    for s in np.flatnonzero(weights):
        rows = np.flatnonzero(stratum == s)
        report.append(
            {"scenes": int(weights[s]), "quota": int(quota[s]), "available": int(available[s]), "kept": int(given[s])}
        )
        if given[s]:
            value = rank[rows] - REJECTED_ENTROPY_WEIGHT * entropy[rows]
            letters = np.random.default_rng([seed, int(s)]).permutation(int(options[s]))
            kept.append(rows[balanced(scene[rows], choice[rows], label[rows], value, int(given[s]), letters)])
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64), report


def balanced(
    scene: np.ndarray, choice: np.ndarray, label: np.ndarray, value: np.ndarray, quota: int, tie: np.ndarray
) -> np.ndarray:
    """The `quota` rows of one stratum, one per scene, with balanced letters and then the highest sum of `value`.

    Choices get equal quotas by letter, as far as there are scenes; ties follow `tie`, a seeded order of the letters
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
