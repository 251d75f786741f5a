"""Ranks items by score: highest first, ties in item order."""

from __future__ import annotations

import numpy as np


MANY_TIES = 4
"""A row is sorted in full if more than this many times `depth` items score as high as the last wanted one."""

FEW = 8
"""If no more than one in so many items has a score, all of these are sorted."""


def highest(scores: np.ndarray, depth: int) -> np.ndarray:
    """The top `depth` items of each row, padded with -1: int64 `(rows, depth)`.

    `scores` is float32 `(rows, items)`, -inf for excluded items.
    """
    rows, items = scores.shape
    ranked = np.full((rows, depth), -1, dtype=np.int64)
    if depth >= items:
        _rank_whole(scores, np.arange(rows), ranked)
        return ranked
    few = np.isfinite(scores).sum() * FEW <= scores.size
    least = np.full(rows, -np.inf, dtype=scores.dtype)
    if not few:
        # Only items that score at least as high as the last wanted one are sorted. Among few items that would cost
        # more than it saves: a partition is slow if most values are equal.
        least = np.partition(scores, items - depth, axis=1)[:, items - depth]
    cells = np.flatnonzero(scores >= np.maximum(least, np.finfo(np.float32).min)[:, None])
    row, item = cells // items, cells % items
    count = np.bincount(row, minlength=rows)
    tied = (count > MANY_TIES * depth) & (not few)
    if tied.any():
        _rank_whole(scores, np.flatnonzero(tied), ranked)
        kept = ~tied[row]
        row, item, cells = row[kept], item[kept], cells[kept]
        count = np.where(tied, 0, count)
    order = np.lexsort((item, -scores.ravel()[cells], row))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    first = place < depth
    ranked[row[order][first], place[first]] = item[order][first]
    return ranked


def _rank_whole(scores: np.ndarray, rows: np.ndarray, ranked: np.ndarray) -> None:
    """Rank the given rows of `scores` by a full sort, into `ranked`."""
    found = np.argsort(-scores[rows], axis=1, kind="stable")[:, : ranked.shape[1]]
    allowed = np.isfinite(np.take_along_axis(scores[rows], found, axis=1))
    ranked[rows, : found.shape[1]] = np.where(allowed, found, -1)
