"""Users' earlier choices as of a block of scenes: what models over items score from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from usermirrorer.data.log.events import Log


BLOCK = 512
"""Scenes scored at a time; bounds memory."""

NEVER = 255
"""Recency of an item that the user has not chosen."""


@dataclass(frozen=True)
class UserHistories:
    """Histories of a block of scenes ordered by (user, time), so that each user's history is summed once."""

    user: np.ndarray
    """int64 `(scenes,)`"""
    position: np.ndarray
    """int64 `(scenes,)`: number of choices by anyone before the user's own"""
    shown_position: np.ndarray
    """int64 `(scenes,)`: number of choices by anyone before the time as of which the options are described"""
    log: Log
    """Choices, in time order"""

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def _until(self) -> np.ndarray:
        """Number of the user's choices before each scene."""
        return self.log.by_user.count(self.user, self.position)

    @cached_property
    def recency(self) -> np.ndarray:
        """How many choices ago the user last chose each item, 0 for the latest: uint8 `(scenes, items)`.

        `NEVER` stands for items that the user has not chosen, and one less for a choice that long ago or longer.
        """
        recency = np.full((len(self), self.log.items), NEVER, dtype=np.uint8)
        row, event = self.log.by_user.between(self.user, 0, self._until)
        ago = np.repeat(np.cumsum(self._until), self._until) - np.arange(len(row)) - 1
        # A later choice of the same item comes later in the row's events and is what stays.
        recency[row, self.log.item[event]] = np.minimum(ago, NEVER - 1)
        return recency

    def latest(self, count: int) -> np.ndarray:
        """The items of each user's last `count` choices, the latest first: int64 `(scenes, count)`, padded with -1."""
        ago = np.arange(1, count + 1)
        at = self.log.by_user.start[self.user][:, None] + self._until[:, None] - ago
        events = self.log.by_user.events[np.maximum(at, 0)]
        return np.where(ago <= self._until[:, None], self.log.item[events], -1)

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


def histories_in_blocks(
    log: Log, user: np.ndarray, time: np.ndarray, shown: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, UserHistories]]:
    """Blocks of at most `BLOCK` scenes ordered by (user, time), each with its rows in `user` and `time`.

    Options are described as of the times `shown`; default: `time`.
    """
    order = np.lexsort((time, user))
    position = log.position(time)
    shown_position = position if shown is None else log.position(shown)
    for begin in range(0, len(order), BLOCK):
        rows = order[begin : begin + BLOCK]
        yield rows, UserHistories(user[rows], position[rows], shown_position[rows], log)
