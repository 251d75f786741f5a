"""Models over items: popularity, content, item-kNN, GF-CF and friends, the baselines of every list.

Each is fitted on the choices before a window and scores a scene's options: the user's vector is folded in from that
user's earlier choices as of the scene; what is counted of an item is as of the time at which the options are
described. Item-kNN and GF-CF come in two forms: over the whole history, and with recent choices counting more.

A score must not depend on which other scenes and items are computed with it, but rounding in a sum does. So sums over
a history are integers (fixed point), and products of unit vectors are summed in float32 with 11 bits per factor, which
is exact: every partial sum is a multiple of 2^-22 and at most 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import sparse

from usermirrorer.data.items.histories import UserHistories
from usermirrorer.data.items.neighbours import Neighbours, co_occurrence, user_item
from usermirrorer.data.items.recency import DECAY_BITS, LATEST
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import Friends


WINDOW = 5000
"""Popularity counts this many of the latest choices."""

RANK = 64
LOW_PASS_WEIGHT = 0.3
"""Width of GF-CF's low-pass filter, and its weight beside the linear one."""

UNIT_BITS = 11
SUM_BITS = 16
"""Fractional bits of unit vectors and of vectors summed over a history."""

KNN_NEIGHBOURS = 100
LINEAR_NEIGHBOURS = 128
"""Neighbours kept for each item by item-kNN and by the linear filter of GF-CF."""


class ItemModel(Protocol):
    """Scores options for users as of a block of scenes; higher means more likely to be chosen."""

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        """Scores of the given items, `(scenes, options)`, under each decay of the history.

        `decays` is `(decays, 256)`; a model that is not `decaying` ignores it. Returns float32
        `(decays or 1, scenes, options)`; any value where `item` is -1.
        """
        ...


DECAYING = ("item-knn", "gf-cf")
"""Models that can weigh recent choices more."""


def fit_models(
    fitted: Log, log: Log, vectors: np.ndarray, friends: Friends | None = None, workers: int = 1
) -> dict[str, ItemModel]:
    """All models. `fitted` is the part of `log` before the window, `vectors` are `(items, width)`."""
    fits: dict[str, Callable[[], ItemModel]] = {
        "popularity": lambda: Popularity(log),
        "content": lambda: Content.of(vectors),
        "item-knn": lambda: item_knn(fitted),
        "gf-cf": lambda: GFCF.of(fitted),
    }
    if friends is not None:
        fits["friends"] = lambda: Social(log, friends)
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(fits, pool.map(lambda fit: fit(), fits.values()), strict=True))


def item_knn(fitted: Log) -> Neighbours:
    """The items that the same people chose most, for each item."""
    return Neighbours.of(co_occurrence(fitted), KNN_NEIGHBOURS)


@dataclass(frozen=True)
class Popularity:
    """How often each item was chosen among the last `WINDOW` choices."""

    log: Log

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        position, item = histories.shown_position[:, None], np.maximum(item, 0)
        before = self.log.by_item.count(item, position)
        recent = before - self.log.by_item.count(item, np.maximum(position - WINDOW, 0))
        return recent.astype(np.float32)[None]


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

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        return Directions.of(histories.summed(self.vectors)).cosines_of(self.directions, item)[None]


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
        vectors, degree = spectral_items(fitted)
        into = np.round(vectors / np.sqrt(np.maximum(degree, 1))[:, None] * 2 ** (SUM_BITS + 6)).astype(np.int32)
        linear = Neighbours.of(co_occurrence(fitted, per_user=True), LINEAR_NEIGHBOURS)
        return GFCF(linear, into, Directions.of(vectors * np.sqrt(degree)[:, None]))

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        scores = self.linear.option_scores(histories, item, decays)
        for number, user in enumerate(self._users(histories, decays)):
            cosine = user.cosines_of(self.directions, item)
            cosine *= LOW_PASS_WEIGHT * user.length[:, None]
            cosine *= self.directions.length[item]
            scores[number] += cosine
        return scores

    @cached_property
    def _exact_into(self) -> np.ndarray:
        """`into` as float64, in which products with whole weights are exact."""
        return self.into.astype(np.float64)

    def _users(self, histories: UserHistories, decays: np.ndarray) -> Iterator[Directions]:
        """The users' vectors under each decay."""
        unit = 2.0 ** (SUM_BITS + 6)
        latest = histories.latest(LATEST)
        for weights in decays:
            if weights[LATEST]:  # the whole history counts
                yield Directions.of(histories.summed(self.into) / unit)
                continue
            known = latest >= 0
            ends = np.append(0, np.cumsum(known.sum(axis=1)))
            decayed = np.broadcast_to(weights[:LATEST], known.shape)[known].astype(np.float64)
            weighed = sparse.csr_matrix((decayed, latest[known], ends), shape=(len(latest), len(self.into)))
            yield Directions.of(weighed @ self._exact_into / (unit * 2**DECAY_BITS))


def spectral_items(fitted: Log) -> tuple[np.ndarray, np.ndarray]:
    """Items by co-occurrence: the right singular vectors of D_U^-1/2 R D_I^-1/2, and degrees.

    `(items, rank)` and `(items,)`. R is binary: each user counts an item once.
    """
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
    return vectors, items


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
        """Counts for all items: float32 `(scenes, items)`."""
        row, friend = self.friends.of_users(histories.user)
        # A friend counts once for an item: by the first choice of the pair.
        until = self.log.by_user.count(friend, histories.shown_position[row])
        owner, event = self.log.by_user.between(friend, 0, until)
        kept = self.log.first_of_pair[event]
        cells = row[owner[kept]] * self.log.items + self.log.item[event[kept]]
        counts = np.bincount(cells, minlength=len(histories) * self.log.items)
        return counts.reshape(len(histories), self.log.items).astype(np.float32)

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(histories), np.maximum(item, 0), axis=1)[None]
