"""How popular items were when they were chosen: what natural distractors are weighted to match.

An item drawn from recent choices counts itself among them; the real choice does not. So items drawn in proportion to
their recent count look more popular recently, given their older count, than items that are chosen. We observe how real
choices were spread over (recent count, older count) at their own times, and how draws would be, and weight draws by
the ratio. Counts are per window of choices: the log grows, so a plain count would say when it was taken rather than
how popular an item is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from usermirrorer.data.log.events import Log


RECENT_EDGES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 17, 25, 40, 75, 150, 400])
OLDER_EDGES = np.array([0, 0.3, 1, 2, 3, 4, 6, 8, 12, 17, 25, 40, 75, 150, 400])
BINS = len(RECENT_EDGES) * len(OLDER_EDGES)

MOST = 6.0
"""Highest factor on a draw's weight: cells hold few choices."""

STALE_WINDOWS = 4
"""Items without a recent choice are drawn from this many windows of choices before the last one."""

GRID_LEAST, GRID_MOST, GRID_SHARE = 100, 1000, 1 / 1000
"""The pool is updated every so many choices: a share of the log so far, within these bounds."""

WEIGHT_UNIT = 2**20
"""Weights are whole numbers of 1 / WEIGHT_UNIT, so that their sums are exact."""


@dataclass(frozen=True)
class DrawPool:
    """What can be drawn as of a point of the log; numbers are rows of `RecentChoices.rows`."""

    first: int
    weight: np.ndarray
    """int64 `(recent choices,)`, in units of 1 / WEIGHT_UNIT; the recent choices begin at `first`"""
    stale: np.ndarray
    """int64 `(stale choices,)`: earlier choices of items without a recent choice"""
    unseen: float
    """Share of real choices whose item had no recent choice at the time"""


@dataclass(frozen=True)
class RecentChoices:
    """The choices that can be drawn as distractors: `rows` of `log`; the last `window` events are recent."""

    log: Log
    rows: np.ndarray
    """int64, ascending"""
    window: int
    cap: int
    """Most scenes of one user"""

    @cached_property
    def then(self) -> np.ndarray:
        """Cell of each choice's item at the time of the choice: int64 `(rows,)`."""
        item = self.log.item[self.rows]
        # Sorted by item, lookups are close together in memory.
        order = np.argsort(item, kind="stable")
        item, high = item[order], self.rows[order]
        low = np.maximum(high - self.window, 0)
        older = self.log.by_item.count(item, low)
        recent = self.log.by_item.count(item, high) - older
        cells = np.empty(len(order), dtype=np.int64)
        cells[order] = _cell(recent, older, self.window / np.maximum(high - low, 1), self.window / np.maximum(low, 1))
        return cells

    def pools(self, points: np.ndarray) -> Iterator[DrawPool]:
        """What can be drawn as of each of `points`, ascending positions in the log."""
        log = self.log
        begin = max(int(points[0]) - self.window, 0) if len(points) else 0
        older = log.by_item.count(np.arange(log.items), np.full(log.items, begin))
        edge = begin
        for high in points.tolist():
            low = max(high - self.window, 0)
            older += np.bincount(log.item[edge:low], minlength=log.items)
            edge = low
            recent = np.bincount(log.item[low:high], minlength=log.items)
            stale_from = low - STALE_WINDOWS * self.window
            stale_first, first, last = np.searchsorted(self.rows, [stale_from, low, high]).tolist()
            events = self.rows[first:last]
            user, item = log.user[events], log.item[events]
            theirs = np.bincount(user)[user]
            weight = np.minimum(self.cap, theirs) / theirs
            unseen = 0.0
            if high > self.window and len(events):
                target = np.bincount(self.then[first:last], weights=weight, minlength=BINS)
                now = _cell(recent[item], older[item], 1.0, self.window / max(low, 1))
                drawn = np.bincount(now, weights=weight, minlength=BINS)
                unseen = float(target[: len(OLDER_EDGES)].sum() / target.sum())
                weight *= np.minimum((target + 0.5) / (drawn + 0.5), MOST)[now]
            stale = stale_first + np.flatnonzero(recent[log.item[self.rows[stale_first:first]]] == 0)
            yield DrawPool(first, np.round(weight * WEIGHT_UNIT).astype(np.int64), stale, unseen)


def grid_point(position: np.ndarray) -> np.ndarray:
    """The last update of the pool at or before each position in the log; depends on the position alone."""
    step = np.clip((position * GRID_SHARE).astype(np.int64), GRID_LEAST, GRID_MOST)
    return position // step * step


def _cell(
    recent: np.ndarray, older: np.ndarray, per_recent: np.ndarray | float, per_older: np.ndarray | float
) -> np.ndarray:
    """Cell of (recent, older) counts, each scaled to a count per window of choices."""
    row = np.searchsorted(RECENT_EDGES, recent * per_recent, side="right") - 1
    return row * len(OLDER_EDGES) + np.searchsorted(OLDER_EDGES, older * per_older, side="right") - 1
