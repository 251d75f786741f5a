"""Which pairs are kept: quotas over strata, balanced letters within each, and balanced items over all of them.

A stratum is (dataset, number of options). Its quota follows its share of the scenes. Within it, letters of the choice
are equally frequent as far as the pairs allow, and letters of the rejected option match them, so that no preference
for a letter tells chosen from rejected. Number and balance of letters come first. Then the rank of the scene counts,
and that an item is chosen as often as it is rejected, so that no preference for an item tells the two apart either.
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

SMALL = 0.02
"""Scores that differ by less are as good as equal: about the difference between a predictor that is 99 % sure and one
that is 99.5 % sure. To have an item chosen and rejected equally often is worth as much for every pair out of balance,
and a selection among scores that spread less than this follows nothing."""

MOST_ALIKE = 8
"""How many times the rows wanted are compared, where that many are as good as each other."""


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

    items = item_numbers(candidates)
    net = np.zeros(int(items.max(initial=-1)) + 1)
    weights = strata["scenes"].to_numpy()
    available = np.array([len(np.unique(scene[of == s])) for s in range(len(strata))], dtype=np.int64)
    given = quotas(weights, available, settings.num)
    kept = []
    for s in np.flatnonzero(given).tolist():
        rows = np.flatnonzero(of == s)
        letters = np.random.default_rng([settings.seed, s]).permutation(strata["choice_cnt"][s])
        sides = scene[rows], choice[rows], label[rows], items[rows]
        found = rows[balanced(*sides, value[rows], int(given[s]), letters, net)]
        for side, sign in enumerate((1, -1)):
            np.add.at(net, items[found, side], sign)
        kept.append(found)
    chosen = np.concatenate(kept)
    report = strata.with_columns(
        quota=quotas(weights, np.full(len(strata), settings.num), settings.num), available=available, kept=given
    )
    return candidates[chosen[np.lexsort((scene[chosen], keys[scene[chosen]]))]], report.to_dicts()


def item_numbers(pairs: pl.DataFrame) -> np.ndarray:
    """The chosen and the rejected item of each pair as numbers from 0: `(pairs, 2)`."""
    sides = [pairs.select("dataset", item=name) for name in ("item_id", "item_rejected")]
    numbers = pl.concat(sides).select(pl.struct("dataset", "item").rank("dense").cast(pl.Int64) - 1)
    return numbers.to_series().to_numpy().reshape(2, -1).T


def balanced(
    scene: np.ndarray,
    choice: np.ndarray,
    label: np.ndarray,
    items: np.ndarray,
    value: np.ndarray,
    quota: int,
    tie: np.ndarray,
    net: np.ndarray,
) -> np.ndarray:
    """The `quota` rows of one stratum, one per scene, with balanced letters, then by `value` and balance of items.

    Choices get equal quotas by letter, as far as the scenes allow; ties follow `tie`, a seeded order of the letters
    `(options,)`, so that no letter gains over many small strata. Rejected letters get the same counts: every excess
    costs more than any rearrangement of the rest can gain. `items` `(rows, 2)` are the numbers of the chosen and the
    rejected item, and `net` `(items,)` is how much more often each was chosen than rejected in other strata; every
    pair by which the two differ in the end costs `SMALL`.

    With letters alone this is a transportation problem, whose optimal vertices are integral, and dual simplex ends in
    a vertex. With items a few rows come out as fractions, so the letters' problem is solved again, for the selection
    that shares most with them.
    """
    from scipy.sparse import csr_array

    _, first = np.unique(scene, return_index=True)
    target = quotas(np.ones(len(tie)), np.bincount(choice[first], minlength=len(tie)), quota, tie)
    pool = contenders(choice, label, value, target)
    scene, choice, label, items, value = (array[pool] for array in (scene, choice, label, items, value))
    scenes, of_scene = np.unique(scene, return_inverse=True)
    rows, ones = np.arange(len(scene)), np.ones(len(scene))
    counts = tuple(
        csr_array((ones, (index, rows)), shape=(kinds, len(rows)))
        for index, kinds in ((of_scene, len(scenes)), (choice, len(tie)), (label, len(tie)))
    )
    shown, index = np.unique(items, return_inverse=True)
    signs = np.tile([1.0, -1.0], len(rows))
    by_item = csr_array((signs, (index.ravel(), np.repeat(rows, 2))), shape=(len(shown), len(rows)))
    shares = _best_shares(value, counts, target, by_item, net[shown])
    return pool[_best_shares(shares, counts, target, by_item[:0], net[:0]) > 0.5]


def contenders(choice: np.ndarray, label: np.ndarray, value: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rows that can be among the best, in order: without the others the programs below stay small.

    Of the rows with one choice and one rejected letter, at most as many are taken as the choice's `target`, each from
    another scene: if one below the first `target` rows is taken, one of these is of a scene that gives none, and to
    take it instead changes nothing but value and items. It can be better only if it costs less than what four items'
    balance is worth. Among more than `MOST_ALIKE` times `target` rows as good as that, the earlier ones stay.
    """
    kept = []
    order = np.lexsort((-value, label, choice))
    cells = choice[order] * (int(label.max(initial=0)) + 1) + label[order]
    for cell in np.split(order, np.flatnonzero(np.diff(cells)) + 1) if len(order) else []:
        wanted = int(target[choice[cell[0]]])
        if not wanted:
            continue
        if len(cell) > wanted:
            cell = cell[value[cell] >= value[cell[wanted - 1]] - 4 * SMALL]
        kept.append(cell[: MOST_ALIKE * wanted])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)


def _best_shares(
    value: np.ndarray, counts: tuple[Any, Any, Any], target: np.ndarray, by_item: Any, net: np.ndarray
) -> np.ndarray:
    """How much of each row to take, `(rows,)` in 0 to 1, for the highest sum of `value` less what imbalance costs.

    `counts` count rows by scene, letter of the choice and rejected letter; `by_item` counts chosen − rejected.
    """
    from scipy.optimize import linprog
    from scipy.sparse import block_array, csr_array, eye_array

    once, by_choice, by_label = counts
    options, items = len(target), len(net)
    penalty = 4.0 * options * (1.0 + np.ptp(value))
    none = csr_array((once.shape[0], 2 * items))
    solved = linprog(
        np.concatenate([-value, np.full(options, penalty), np.full(2 * items, SMALL)]),
        A_ub=block_array([[once, None, none], [by_label, -eye_array(options), None]]),
        b_ub=np.concatenate([np.ones(once.shape[0]), target]),
        A_eq=block_array(
            [
                [by_choice, csr_array((options, options)), None],
                [by_item, None, block_array([[-eye_array(items), eye_array(items)]])],
            ]
        ),
        b_eq=np.concatenate([target, -net]),
        bounds=(0, None),
        method="highs-ds",
    )
    return solved.x[: len(value)]
