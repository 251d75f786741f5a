"""Item-item similarity as short lists: the strongest neighbours of each item (item-kNN)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from usermirrorer.data.items.histories import NEVER, UserHistories
from usermirrorer.data.items.ranking import highest
from usermirrorer.data.items.recency import DECAY_BITS
from usermirrorer.data.log.events import Log


WEIGHT_BITS = 20
"""Fractional bits of weights: sums of them are exact."""

BLOCK_ITEMS = 512
"""Items whose similarities to all others are in memory at a time while fitting."""


@dataclass(frozen=True)
class Neighbours:
    """The strongest neighbours of each item."""

    item: np.ndarray
    """int32 `(items, neighbours)`"""
    weight: np.ndarray
    """int32 `(items, neighbours)`, in units of 2^-WEIGHT_BITS; 0 where an item has fewer"""

    @staticmethod
    def of(rows: Iterator[np.ndarray], most: int) -> Neighbours:
        """Keep the `most` largest positive entries of each row; `rows` are blocks of an `(items, items)` matrix."""
        items, weights = [], []
        for block in rows:
            block[block <= 0] = -np.inf
            nearest = highest(block, most)
            values = np.where(nearest < 0, 0, np.take_along_axis(block, nearest, axis=1)).astype(np.float64)
            items.append(np.maximum(nearest, 0).astype(np.int32))
            weights.append(np.round(values * 2**WEIGHT_BITS).astype(np.int32))
        return Neighbours(np.concatenate(items), np.concatenate(weights))

    def option_scores(self, histories: UserHistories, item: np.ndarray, decays: np.ndarray) -> np.ndarray:
        """Sum of each item's weights to the items of the history, times their decay: float32 `(decays, *item.shape)`.

        `item` is `(scenes, options)`; the score is 0 where it is -1. Each row of `decays` (see `recency.decay`) gives
        the weight of an item by how many choices ago it was chosen.
        """
        of, _, ago, weight = self._in_histories(histories, item)
        scores = np.zeros((len(decays), item.size), dtype=np.float32)
        for number, decay in enumerate(decays):
            # Whole numbers below 2^53: these sums are exact.
            sums = np.bincount(of, weight * decay[ago], minlength=item.size)
            scores[number] = sums * 2.0 ** -(WEIGHT_BITS + DECAY_BITS)
        return scores.reshape(len(decays), *item.shape)

    def leads(self, histories: UserHistories, item: np.ndarray, decay: np.ndarray, latest: np.ndarray) -> np.ndarray:
        """The item of the history that adds most to each item's score, -1 if none does: int64 `(scenes, options)`.

        Only the `latest` choices, `(scenes,)`, can lead. `decay`, `(256,)`, is one row of those of `option_scores`; of
        equal items the one with the lower row leads.
        """
        of, neighbour, ago, weight = self._in_histories(histories, item)
        added = np.where(ago < latest[of // item.shape[1]], weight * decay[ago], 0)
        strongest = np.lexsort((neighbour, -added, of))
        strongest = strongest[added[strongest] > 0]
        option, first = np.unique(of[strongest], return_index=True)
        leads = np.full(item.size, -1, dtype=np.int64)
        leads[option] = neighbour[strongest[first]]
        return leads.reshape(item.shape)

    def _in_histories(
        self, histories: UserHistories, item: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every neighbour of an option that the user has chosen: the option's place in `item`, the neighbour, how many
        choices ago it was, and its weight, `(neighbours found,)` each. They are few."""
        shown = np.flatnonzero(item >= 0)
        row, option = shown // item.shape[1], item.ravel()[shown]
        neighbour, weight = self.item[option], self.weight[option]
        ago = histories.recency.ravel().take(neighbour + (row * histories.log.items)[:, None]).ravel()
        found = np.flatnonzero(ago != NEVER)
        of = shown[found // self.item.shape[1]]
        return of, neighbour.ravel()[found], ago[found], weight.ravel()[found].astype(np.float64)


def user_item(log: Log) -> sparse.csr_matrix:
    """Binary float32 `(users, items)` matrix of a log."""
    matrix = sparse.csr_matrix((np.ones(len(log), np.float32), (log.user, log.item)), shape=(log.users, log.items))
    matrix.data[:] = 1.0
    return matrix


def co_occurrence(log: Log, per_user: bool = False) -> Iterator[np.ndarray]:
    """Blocks of rows of the item-item matrix D_I^-1/2 R^T R D_I^-1/2: float32 `(BLOCK_ITEMS, items)`.

    Without `per_user` these are the cosines of the columns of binary R, and an item is not its own neighbour. With it,
    each user weighs 1 / (number of items) and an item is its own neighbour: the linear filter of GF-CF.
    """
    chosen = user_item(log)
    norm = 1 / np.sqrt(np.maximum(np.asarray(chosen.sum(axis=0)).ravel(), 1))
    left = chosen
    if per_user:
        left = (sparse.diags(1 / np.maximum(np.asarray(chosen.sum(axis=1)).ravel(), 1)) @ chosen).astype(np.float32)
    left, right = left.tocsr().T.tocsr(), chosen.tocsr()
    for begin in range(0, log.items, BLOCK_ITEMS):
        block = np.asarray((left[begin : begin + BLOCK_ITEMS] @ right).todense(), dtype=np.float32)
        block *= norm[begin : begin + BLOCK_ITEMS, None].astype(np.float32)
        block *= norm.astype(np.float32)
        if not per_user:
            np.fill_diagonal(block[:, begin : begin + BLOCK_ITEMS], 0)
        yield block
