"""Users' earlier choices as of a block of scenes: what candidate models score from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from usermirrorer.data.log.events import Log


BLOCK = 512
"""Scenes scored at a time; bounds memory."""


@dataclass(frozen=True)
class UserHistories:
    """Histories of a block of scenes ordered by (user, time), so that each user's history is summed once."""

    user: np.ndarray
    """int64 `(scenes,)`"""
    position: np.ndarray
    """int64 `(scenes,)`: number of choices by anyone before the scene"""
    log: Log
    """Choices, in time order"""

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def _until(self) -> np.ndarray:
        """Number of the user's choices before each scene."""
        return self.log.by_user.count(self.user, self.position)

    @cached_property
    def chosen(self) -> np.ndarray:
        """Whether the user had chosen each item before the scene: bool `(scenes, items)`."""
        chosen = np.zeros((len(self), self.log.items), dtype=bool)
        row, event = self.log.by_user.between(self.user, 0, self._until)
        chosen[row, self.log.item[event]] = True
        return chosen

    @cached_property
    def _added(self) -> sparse.csr_matrix:
        """int32 `(scenes, items)`: 1 for items new to the user's history since the previous scene in the block."""
        since = np.where(self._first, 0, np.append(0, self._until[:-1]))
        row, event = self.log.by_user.between(self.user, since, self._until)
        fresh = self.log.first_of_pair[event]
        row, items = row[fresh], self.log.item[event[fresh]]
        start = np.searchsorted(row, np.arange(len(self) + 1))
        return sparse.csr_matrix((np.ones(len(items), np.int32), items, start), shape=(len(self), self.log.items))

    @cached_property
    def _first(self) -> np.ndarray:
        """Whether a scene is the first of its user in the block."""
        return np.append(True, self.user[1:] != self.user[:-1])[: len(self)]

    def summed(self, values: np.ndarray | sparse.csr_matrix) -> np.ndarray:
        """Sums of `values`, int32 `(items, width)`, over the items that each user chose before: `(scenes, width)`."""
        added = self._added @ values
        total = added.toarray() if sparse.issparse(added) else added
        for row in np.flatnonzero(~self._first).tolist():
            total[row] += total[row - 1]
        return total


def histories_in_blocks(log: Log, user: np.ndarray, time: np.ndarray) -> Iterator[tuple[np.ndarray, UserHistories]]:
    """Blocks of at most `BLOCK` scenes ordered by (user, time), each with its rows in `user` and `time`."""
    order = np.lexsort((time, user))
    position = log.position(time)
    for begin in range(0, len(order), BLOCK):
        rows = order[begin : begin + BLOCK]
        yield rows, UserHistories(user[rows], position[rows], log)
