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


GRID = 500
"""The law is observed anew every so many choices, always on what lies before."""

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
    unseen: np.ndarray
    """`(grid points,)`: share of choices whose item had no recent choice by then"""
    accept: np.ndarray
    """`(grid points, bins)`: probability with which a draw is kept"""

    @staticmethod
    def of(log: Log, rows: np.ndarray, window: int, cap: int) -> RecencyLaw:
        """Observe the law on the choices at `rows` of `log`; recent means among the last `window` of the whole log."""
        points = -(-len(log) // GRID)
        law = RecencyLaw(log, window, np.zeros(points + 1), np.ones((points + 1, BINS)))
        then = law.bin(log.item[rows], rows)
        for point in range(1, points + 1):
            high = min(point * GRID, len(log))
            if high <= window:
                continue
            part = slice(*np.searchsorted(rows, [high - window, high]))
            user = log.user[rows[part]]
            if not len(user):
                continue
            theirs = np.bincount(user, minlength=log.users)[user]
            weight = np.minimum(cap, theirs) / theirs
            target = np.bincount(then[part], weights=weight, minlength=BINS)
            now = law.bin(log.item[rows[part]], np.full(len(user), high))
            drawn = np.bincount(now, weights=weight, minlength=BINS)
            law.unseen[point] = target[: len(OLDER_EDGES)].sum() / target.sum()
            law.accept[point] = np.minimum((target + 0.5) / (drawn + 0.5), MOST) / MOST
        return law

    def bin(self, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Cell of each item as of each position in the log; arrays broadcast together."""
        edge = np.maximum(position - self.window, 0)
        older = self.log.by_item.count(item, edge)
        recent = self.log.by_item.count(item, position) - older
        recent_rate = recent * self.window / np.maximum(position - edge, 1)
        older_rate = older * self.window / np.maximum(edge, 1)
        cell = np.searchsorted(RECENT_EDGES, recent_rate, side="right") - 1
        return cell * len(OLDER_EDGES) + np.searchsorted(OLDER_EDGES, older_rate, side="right") - 1

    def unseen_share(self, position: np.ndarray) -> np.ndarray:
        """Share of choices with no recent choice of their item, observed before each position in the log."""
        return self.unseen[np.minimum(position // GRID, len(self.unseen) - 1)]

    def acceptance(self, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Probability with which a drawn item is kept as of each position; arrays broadcast together."""
        return self.accept[np.minimum(position // GRID, len(self.accept) - 1), self.bin(item, position)]
