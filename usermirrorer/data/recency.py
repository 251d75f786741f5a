"""How popular an item was when it was chosen: the law that natural distractors are held to.

An item drawn from recent choices counts itself among them; the real choice does not. So items drawn in proportion to
their recent count look more popular of late, for what they were before, than items that are chosen. The law observes
how real choices were spread over (recent count, older count) at their own times, and how draws would be. Counts are
per window of choices: the log grows, and a plain count would say when it was taken rather than how popular an item is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from usermirrorer.data.log import Log


GRID, GRID_SHARE = 500, 0.01
"""The law is observed anew every so many choices, or every so large a share of the log so far, whichever is more."""

RECENT_EDGES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 17, 25, 40, 75, 150, 400])
OLDER_EDGES = np.array([0, 0.3, 1, 2, 3, 4, 6, 8, 12, 17, 25, 40, 75, 150, 400])
BINS = len(RECENT_EDGES) * len(OLDER_EDGES)

MOST = 6.0
"""A draw is not weighted up by more than this: cells hold few choices."""


@dataclass(frozen=True)
class RecencyLaw:
    """For every grid point of the log: how choices were spread, against how draws would be."""

    log: Log
    window: int
    points: np.ndarray
    """`(points,)`: positions in the log, ascending from 0"""
    unseen: np.ndarray
    """`(points,)`: share of choices whose item had no recent choice by then"""
    accept: np.ndarray
    """`(points, bins)`: probability with which a draw is kept"""

    @staticmethod
    def of(log: Log, rows: np.ndarray, window: int, cap: int) -> RecencyLaw:
        """Observe the law on the choices at `rows` of `log`; recent means among the last `window` of the whole log."""
        points = _grid(len(log))
        law = RecencyLaw(log, window, points, np.zeros(len(points)), np.ones((len(points), BINS)))
        older = np.zeros(log.items, dtype=np.int64)
        edge = 0
        for point, high in enumerate(points.tolist()):
            if high <= window:
                continue
            low = high - window
            older += np.bincount(log.item[edge:low], minlength=log.items)
            edge = low
            recent = np.bincount(log.item[low:high], minlength=log.items)
            events = rows[slice(*np.searchsorted(rows, [low, high]))]
            user, item = log.user[events], log.item[events]
            if not len(user):
                continue
            _, owner, theirs = np.unique(user, return_inverse=True, return_counts=True)
            weight = np.minimum(cap, theirs)[owner] / theirs[owner]
            target = np.bincount(law.bin(item, events), weights=weight, minlength=BINS)
            now = _cell(recent[item], older[item], window / min(high, window), window / low)
            drawn = np.bincount(now, weights=weight, minlength=BINS)
            law.unseen[point] = target[: len(OLDER_EDGES)].sum() / target.sum()
            law.accept[point] = np.minimum((target + 0.5) / (drawn + 0.5), MOST) / MOST
        return law

    def bin(self, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Cell of each item as of each position in the log; arrays broadcast together."""
        edge = np.maximum(position - self.window, 0)
        older = self.log.by_item.count(item, edge)
        recent = self.log.by_item.count(item, position) - older
        return _cell(recent, older, self.window / np.maximum(position - edge, 1), self.window / np.maximum(edge, 1))

    def unseen_share(self, position: np.ndarray) -> np.ndarray:
        """Share of choices with no recent choice of their item, observed before each position in the log."""
        return self.unseen[self._point(position)]

    def acceptance(self, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Probability with which a drawn item is kept as of each position; arrays broadcast together."""
        return self.accept[self._point(position), self.bin(item, position)]

    def _point(self, position: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.points, position, side="right") - 1


def _cell(recent: np.ndarray, older: np.ndarray, per_recent: np.ndarray, per_older: np.ndarray) -> np.ndarray:
    """Cell of (recent, older) counts, each scaled to a count per window of choices."""
    row = np.searchsorted(RECENT_EDGES, recent * per_recent, side="right") - 1
    return row * len(OLDER_EDGES) + np.searchsorted(OLDER_EDGES, older * per_older, side="right") - 1


def _grid(events: int) -> np.ndarray:
    """Positions at which the law is observed: they depend on nothing but how far the log has come."""
    points = [0]
    while points[-1] <= events:
        points.append(points[-1] + max(GRID, int(points[-1] * GRID_SHARE)))
    return np.array(points[:-1])
