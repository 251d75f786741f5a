"""Models over items: popularity, content, item-kNN, GF-CF, and friends. They propose distractors and are baselines.

Each is fitted on what precedes a window and asked about users as of a scene: a user's vector is folded in from that
user's own earlier choices. `scores` has shape `(scenes, items)`, `options` looks at given items only.

The score of a pair must not depend on which other scenes and items it is computed with, and the rounding of sums does.
So whatever is summed over a history is an integer (a fixed-point number), and products of unit vectors are summed in
float32 with 11 bits a side, which is exact: every partial sum is a multiple of 2^-22 that is at most 1.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from usermirrorer.data.items.histories import Asked
from usermirrorer.data.items.neighbours import Neighbours, co_occurrence, user_item
from usermirrorer.data.log.events import Log, ragged_ranges
from usermirrorer.data.log.side_tables import Friends


WINDOW = 5000
"""Recent popularity counts the last so many choices before the scene; natural exposures draw from them."""

RANK = 64
LOW_PASS_WEIGHT = 0.3
UNIT_BITS = 11
SUM_BITS = 16

KNN_NEIGHBOURS = 100
LINEAR_NEIGHBOURS = 128
"""The linear filter of GF-CF keeps the strongest so many of each item."""


class CandidateModel(Protocol):
    def scores(self, asked: Asked) -> np.ndarray: ...

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray: ...


def fit_models(
    fitted: Log, log: Log, vectors: np.ndarray, friends: Friends | None = None, workers: int = 1
) -> dict[str, CandidateModel]:
    """All candidate models. `fitted` is the part of `log` before the window, `vectors` are `(items, width)`."""
    fits: dict[str, Callable[[], CandidateModel]] = {
        "popularity": lambda: Popularity(log),
        "content": lambda: Content.of(vectors),
        "item-knn": lambda: ItemKNN(Neighbours.of(co_occurrence(fitted), KNN_NEIGHBOURS)),
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

    def scores(self, asked: Asked) -> np.ndarray:
        low = np.maximum(asked.position - WINDOW, 0)
        counts = np.empty((len(asked), self.log.items), dtype=np.float32)
        for row, (a, b) in enumerate(zip(low.tolist(), asked.position.tolist(), strict=True)):
            counts[row] = np.bincount(self.log.item[a:b], minlength=self.log.items)
        return counts

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray:
        position, item = asked.position[:, None], np.maximum(item, 0)
        before = self.log.by_item.count(item, position)
        return (before - self.log.by_item.count(item, np.maximum(position - WINDOW, 0))).astype(np.float32)


@dataclass(frozen=True)
class Directions:
    """Vectors as unit directions and lengths, so that their products are exact: `(rows, width)` and `(rows,)`."""

    unit: np.ndarray
    length: np.ndarray

    @staticmethod
    def of(vectors: np.ndarray) -> Directions:
        length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
        unit = vectors / np.maximum(length, 1e-12)[:, None]
        return Directions((np.round(unit * 2**UNIT_BITS) / 2**UNIT_BITS).astype(np.float32), length.astype(np.float32))

    def cosines(self, others: Directions) -> np.ndarray:
        """`(rows, other rows)`"""
        return self.unit @ others.unit.T

    def cosines_of(self, others: Directions, item: np.ndarray) -> np.ndarray:
        """Of each row with the other rows listed beside it, -1 where there is none: `(rows, options)`."""
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

    def scores(self, asked: Asked) -> np.ndarray:
        return Directions.of(asked.summed(self.vectors)).cosines(self.directions)

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray:
        return Directions.of(asked.summed(self.vectors)).cosines_of(self.directions, item)


@dataclass(frozen=True)
class ItemKNN:
    """Sum of the cosine similarities to the user's earlier choices, over each item's nearest neighbours."""

    neighbours: Neighbours

    def scores(self, asked: Asked) -> np.ndarray:
        return self.neighbours.scores(asked)

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray:
        return self.neighbours.options(asked, item)


@dataclass(frozen=True)
class GFCF:
    """GF-CF (Shen et al., CIKM 2021, eq. 6): linear filter plus ideal low-pass filter of the item graph.

    The linear filter R~^T R~ keeps the `LINEAR_NEIGHBOURS` strongest entries of each item.
    """

    linear: Neighbours
    into: np.ndarray
    """D_I^-1/2 V, int32 `(items, rank)`, in units of 2^-(SUM_BITS + 6)"""
    back: Directions
    """D_I^1/2 V, `(items, rank)`"""

    @property
    def directions(self) -> Directions:
        """What the items' co-occurrence alone says of them, for similarities between items."""
        return self.back

    @staticmethod
    def of(fitted: Log) -> GFCF:
        """Fit on a log; each user counts an item once."""
        chosen = user_item(fitted)
        users, items = (np.asarray(chosen.sum(axis=axis)).ravel() for axis in (1, 0))
        left, right = (1 / np.sqrt(np.maximum(degree, 1)) for degree in (users, items))
        normalised = (sparse.diags(left) @ chosen @ sparse.diags(right)).tocsr().astype(np.float32)
        # Only what has events goes into the decomposition: items that come later must not change a single bit.
        vectors = np.zeros((fitted.items, RANK))
        active = normalised[np.flatnonzero(users)][:, np.flatnonzero(items)]
        rank = min(RANK, max(min(active.shape) - 1, 0))
        if rank:
            vectors[items > 0, :rank] = _right_vectors(active, rank)
        into = np.round(vectors * right[:, None] * 2 ** (SUM_BITS + 6)).astype(np.int32)
        linear = Neighbours.of(co_occurrence(fitted, per_user=True), LINEAR_NEIGHBOURS)
        return GFCF(linear, into, Directions.of(vectors * np.sqrt(items)[:, None]))

    def scores(self, asked: Asked) -> np.ndarray:
        user = self._user(asked)
        cosine = user.cosines(self.back)
        cosine *= LOW_PASS_WEIGHT * user.length[:, None]
        cosine *= self.back.length
        cosine += self.linear.scores(asked)
        return cosine

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray:
        user = self._user(asked)
        cosine = user.cosines_of(self.back, item)
        cosine *= LOW_PASS_WEIGHT * user.length[:, None]
        cosine *= self.back.length[item]
        return cosine + self.linear.options(asked, item)

    def _user(self, asked: Asked) -> Directions:
        return Directions.of(asked.summed(self.into) / 2.0 ** (SUM_BITS + 6))


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

    def scores(self, asked: Asked) -> np.ndarray:
        row, friend = self.friends.of_users(asked.user)
        # A friend counts once for an item: only the first choice of a pair does.
        grouped, first = self.log.by_user, self.log.first_of_pair
        owner, index = ragged_ranges(grouped.start[friend], grouped.count(friend, asked.position[row]))
        events = grouped.events[index]
        kept = first[events]
        cells = row[owner[kept]] * self.log.items + self.log.item[events[kept]]
        counts = np.bincount(cells, minlength=len(asked) * self.log.items)
        return counts.reshape(len(asked), self.log.items).astype(np.float32)

    def options(self, asked: Asked, item: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(asked), np.maximum(item, 0), axis=1)
