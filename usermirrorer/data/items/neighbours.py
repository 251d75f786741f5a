"""Item-item similarity as short lists: the strongest neighbours of each item (item-kNN)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from usermirrorer.data.items.histories import UserHistories
from usermirrorer.data.items.ranking import highest
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

    def scores(self, histories: UserHistories) -> np.ndarray:
        """Sum of each item's weights to the items of the history: float32 `(scenes, items)`."""
        return _as_float(histories.summed(self.matrix))

    def option_scores(self, histories: UserHistories, item: np.ndarray) -> np.ndarray:
        """The same for the given items, 0 where `item` is -1: float32 `(scenes, options)`."""
        sums = np.zeros(item.shape, dtype=np.int32)
        chosen = histories.chosen.ravel()
        for column in range(item.shape[1]):
            rows = np.flatnonzero(item[:, column] >= 0)
            shown = item[rows, column]
            near = self.item[shown] + (rows * histories.log.items)[:, None]
            # `wrap` skips the bounds check: no index is out of range.
            weight = self.weight[shown] * chosen.take(near, mode="wrap")
            sums[rows, column] = weight.sum(axis=1, dtype=np.int32)
        return _as_float(sums)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """int32 `(items, items)`: row h, column o is the weight of history item h for option o."""
        count, width = self.item.shape
        rows = np.repeat(np.arange(count), width)
        kept = self.weight.ravel() > 0
        cells = (self.item.ravel()[kept], rows[kept])
        return sparse.csr_matrix((self.weight.ravel()[kept], cells), shape=(count, count), dtype=np.int32)


def _as_float(sums: np.ndarray) -> np.ndarray:
    return np.multiply(sums, np.float32(2.0**-WEIGHT_BITS), dtype=np.float32)


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
