"""Models over items: popularity, content, item-kNN, GF-CF and friends. They propose distractors and are baselines.

Each is fitted on the log before a window and scores items for a user as of a scene: the user's vector is folded in
from that user's earlier choices. `scores` gives all items, `option_scores` only the given ones.

A score must not depend on which other scenes and items are computed with it, but rounding in a sum does. So sums over
a history are integers (fixed point), and products of unit vectors are summed in float32 with 11 bits per factor, which
is exact: every partial sum is a multiple of 2^-22 and at most 1.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from usermirrorer.data.items.histories import UserHistories
from usermirrorer.data.items.neighbours import Neighbours, co_occurrence, user_item
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import Friends


WINDOW = 5000
"""Recent choices are the last so many before the scene: popularity counts them, `natural` draws from them."""

RANK = 64
LOW_PASS_WEIGHT = 0.3
"""Width of GF-CF's low-pass filter, and its weight beside the linear one."""

UNIT_BITS = 11
SUM_BITS = 16
"""Fractional bits of unit vectors and of vectors summed over a history."""

KNN_NEIGHBOURS = 100
LINEAR_NEIGHBOURS = 128
"""Neighbours kept for each item by item-kNN and by the linear filter of GF-CF."""


class CandidateModel(Protocol):
    """Scores items for users as of a block of scenes; higher means more likely to be chosen."""

    def scores(self, histories: UserHistories) -> np.ndarray:
        """Scores of all items: float32 `(scenes, items)`."""
        ...

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        """Scores of the given items, `(scenes, options)`; any value where `item` is -1."""
        ...


def fit_models(
    fitted: Log, log: Log, vectors: np.ndarray, friends: Friends | None = None, workers: int = 1
) -> dict[str, CandidateModel]:
    """All candidate models. `fitted` is the part of `log` before the window, `vectors` are `(items, width)`."""
    fits: dict[str, Callable[[], CandidateModel]] = {
        "popularity": lambda: Popularity(log),
        "content": lambda: Content.of(vectors),
        "item-knn": lambda: Neighbours.of(co_occurrence(fitted), KNN_NEIGHBOURS),
        "gf-cf": lambda: GFCF.of(fitted),
    }
    if friends is not None:
        fits["friends"] = lambda: Social(log, friends)
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(fits, pool.map(lambda fit: fit(), fits.values()), strict=True))


@dataclass(frozen=True)
class Popularity:
    """How often each item was chosen among the last `WINDOW` choices."""

    log: Log

    def scores(self, histories: UserHistories) -> np.ndarray:
        low = np.maximum(histories.position - WINDOW, 0)
        counts = np.empty((len(histories), self.log.items), dtype=np.float32)
        for row, (a, b) in enumerate(zip(low.tolist(), histories.position.tolist(), strict=True)):
            counts[row] = np.bincount(self.log.item[a:b], minlength=self.log.items)
        return counts

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        position, item = histories.position[:, None], np.maximum(item, 0)
        before = self.log.by_item.count(item, position)
        return (before - self.log.by_item.count(item, np.maximum(position - WINDOW, 0))).astype(np.float32)


@dataclass(frozen=True)
class Directions:
    """Vectors as unit directions `(rows, width)` and lengths `(rows,)`, so that products of directions are exact."""

    unit: np.ndarray
    length: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray) -> Directions:
        length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
        unit = vectors / np.maximum(length, 1e-12)[:, None]
        return Directions((np.round(unit * 2**UNIT_BITS) / 2**UNIT_BITS).astype(np.float32), length.astype(np.float32))

    def cosines(self, others: Directions) -> np.ndarray:
        """Cosine of every pair: `(rows, other rows)`."""
        return self.unit @ others.unit.T

    def cosines_of(self, others: Directions, item: np.ndarray) -> np.ndarray:
        """Cosine of each row with the rows of `others` listed in `item`, 0 where that is -1: `(rows, options)`."""
        found = np.zeros(item.shape, dtype=np.float32)
        for column in range(item.shape[1]):
            rows = np.flatnonzero(item[:, column] >= 0)
            found[rows, column] = np.einsum("sd,sd->s", self.unit[rows], others.unit[item[rows, column]])
        return found


@dataclass(frozen=True)
class Content:
    """Cosine between an item's text vector and the mean vector of the user's earlier choices."""

    vectors: np.ndarray
    """int32 `(items, width)`, in units of 2^-SUM_BITS"""
    directions: Directions

    @staticmethod
    def of(vectors: np.ndarray) -> Content:
        return Content(np.round(vectors.astype(np.float64) * 2**SUM_BITS).astype(np.int32), Directions.of(vectors))

    def scores(self, histories: UserHistories) -> np.ndarray:
        return Directions.of(histories.summed(self.vectors)).cosines(self.directions)

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        return Directions.of(histories.summed(self.vectors)).cosines_of(self.directions, item)


@dataclass(frozen=True)
class GFCF:
    """GF-CF (Shen et al., CIKM 2021, eq. 6): linear filter plus ideal low-pass filter of the item graph.

    The linear filter R~^T R~ keeps the `LINEAR_NEIGHBOURS` strongest entries of each item.
    """

    linear: Neighbours
    into: np.ndarray
    """D_I^-1/2 V, int32 `(items, rank)`, in units of 2^-(SUM_BITS + 6)"""
    directions: Directions
    """D_I^1/2 V, `(items, rank)`: the items by co-occurrence"""

    @staticmethod
    def of(fitted: Log) -> GFCF:
        """Fit on a log; each user counts an item once."""
        chosen = user_item(fitted)
        users, items = (np.asarray(chosen.sum(axis=axis)).ravel() for axis in (1, 0))
        left, right = (1 / np.sqrt(np.maximum(degree, 1)) for degree in (users, items))
        normalised = (sparse.diags(left) @ chosen @ sparse.diags(right)).tocsr().astype(np.float32)
        # Only users and items with events are decomposed: items that appear later must not change a single bit.
        vectors = np.zeros((fitted.items, RANK))
        active = normalised[np.flatnonzero(users)][:, np.flatnonzero(items)]
        rank = min(RANK, max(min(active.shape) - 1, 0))
        if rank:
            vectors[items > 0, :rank] = _right_vectors(active, rank)
        into = np.round(vectors * right[:, None] * 2 ** (SUM_BITS + 6)).astype(np.int32)
        linear = Neighbours.of(co_occurrence(fitted, per_user=True), LINEAR_NEIGHBOURS)
        return GFCF(linear, into, Directions.of(vectors * np.sqrt(items)[:, None]))

    def scores(self, histories: UserHistories) -> np.ndarray:
        user = self._user(histories)
        cosine = user.cosines(self.directions)
        cosine *= LOW_PASS_WEIGHT * user.length[:, None]
        cosine *= self.directions.length
        cosine += self.linear.scores(histories)
        return cosine

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        user = self._user(histories)
        cosine = user.cosines_of(self.directions, item)
        cosine *= LOW_PASS_WEIGHT * user.length[:, None]
        cosine *= self.directions.length[item]
        return cosine + self.linear.option_scores(histories, item)

    def _user(self, histories: UserHistories) -> Directions:
        return Directions.of(histories.summed(self.into) / 2.0 ** (SUM_BITS + 6))


def _right_vectors(matrix: sparse.csr_matrix, rank: int) -> np.ndarray:
    """The first right singular vectors, `(columns, rank)`: subspace iteration (Halko et al., SIAM Review 2011)."""
    width = min(rank + 16, *matrix.shape)
    columns = matrix.T.tocsr()
    basis = np.random.default_rng(0).standard_normal((matrix.shape[1], width)).astype(np.float32)
    for _ in range(6):
        basis = np.linalg.qr(columns @ (matrix @ np.linalg.qr(basis)[0]))[0]
    return basis @ np.linalg.svd(matrix @ basis, full_matrices=False)[2][:rank].T


@dataclass(frozen=True)
class Social:
    """How many of the user's friends had chosen each item before."""

    log: Log
    friends: Friends

    def scores(self, histories: UserHistories) -> np.ndarray:
        row, friend = self.friends.of_users(histories.user)
        # A friend counts once for an item: by the first choice of the pair.
        until = self.log.by_user.count(friend, histories.position[row])
        owner, event = self.log.by_user.between(friend, 0, until)
        kept = self.log.first_of_pair[event]
        cells = row[owner[kept]] * self.log.items + self.log.item[event[kept]]
        counts = np.bincount(cells, minlength=len(histories) * self.log.items)
        return counts.reshape(len(histories), self.log.items).astype(np.float32)

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(histories), np.maximum(item, 0), axis=1)
