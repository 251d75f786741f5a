"""Natural distractors: other people's choices before the scene, distributed like real choices.

Most come from the last `WINDOW` choices, weighted by min(cap, n_u) / n_u, where n_u is how many of them are user u's:
the weight that u's choices have themselves once scenes per user are capped. An item drawn from that pool counts itself
among its recent choices and the real choice does not, which alone gives the choice away (nine points on
MovieLens-100K). So draws are weighted to match the recent counts that choices had at their own times (`recency`), and
the share of choices that had none is drawn from older choices.
"""

from __future__ import annotations

import numpy as np

from usermirrorer.data.scenes.recency import grid_point
from usermirrorer.data.scenes.targets import Targets
from usermirrorer.data.scenes.window import Window
from usermirrorer.seeds import Stream, uniforms


DRAWS = 16
ROUNDS = 16
"""Distractors are drawn `DRAWS` at a time; a scene still short after `ROUNDS` rounds is dropped and counted."""


def natural(window: Window, targets: Targets, wanted: np.ndarray) -> np.ndarray:
    """Distractors as item rows `(scenes, most)`, padded with -1; `wanted`, `(scenes,)`, is how many each needs."""
    source, high = window.recent_choices, window.pool.position(targets.time)
    points, at = np.unique(grid_point(high), return_inverse=True)
    pools = list(source.pools(points))
    picked = np.full((len(targets), int(wanted.max(initial=1))), -1, dtype=np.int32)
    have = np.zeros(len(targets), dtype=np.int64)

    stale_start = np.cumsum([0] + [len(pool.stale) for pool in pools])
    stale = np.concatenate([pool.stale for pool in pools])
    coins = uniforms(targets.key, Stream.OLDER, picked.shape[1]) < np.array([pool.unseen for pool in pools])[at, None]
    from_stale = (coins & (np.arange(picked.shape[1]) < wanted[:, None])).sum(axis=1)
    from_stale = np.where(np.diff(stale_start)[at] > 0, from_stale, 0)

    def draw_stale(rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        begin, count = stale_start[at[rows]], np.diff(stale_start)[at[rows]]
        return stale[begin[:, None] + (draws * count[:, None]).astype(np.int64)]

    # The weights of all pools, cumulated in one line of whole numbers: exact.
    recent_start = np.cumsum([0] + [len(pool.weight) for pool in pools])
    line = np.cumsum(np.concatenate([pool.weight for pool in pools]))
    total = np.append(0, line)[recent_start]
    first = np.array([pool.first for pool in pools])

    def draw_recent(rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        here = at[rows]
        mark = total[here][:, None] + (draws * np.diff(total)[here][:, None]).astype(np.int64)
        return (first - recent_start[:-1])[here][:, None] + np.searchsorted(line, mark, side="right")

    forbidden = np.sort(targets.peer_row * window.pool.items + targets.peer_item)
    has_recent = np.diff(total)[at] > 0
    for number, (draw, until) in enumerate(((draw_stale, from_stale), (draw_recent, np.where(has_recent, wanted, 0)))):
        for round_ in range(ROUNDS):
            rows = np.flatnonzero(have < until)
            if not len(rows):
                break
            drawn = draw(rows, uniforms(targets.key[rows], Stream.EXPOSURE + 2 * round_ + number, DRAWS))
            event = source.rows[drawn]
            user, item = window.pool.user[event], window.pool.item[event]
            usable = _usable(window, targets, rows, user, item, forbidden)
            for column in range(DRAWS):
                add_unique(picked, have, rows, item[:, column], usable[:, column] & (have[rows] < until[rows]))
    return picked


def _usable(
    window: Window, targets: Targets, rows: np.ndarray, user: np.ndarray, item: np.ndarray, forbidden: np.ndarray
) -> np.ndarray:
    """Whether each drawn choice may be a distractor: bool `(rows, draws)`."""
    usable = (user != targets.user[rows, None]) & (item != targets.item[rows, None])
    usable &= window.tables.available_from[item] <= targets.time[rows, None]
    if len(forbidden):
        key = rows[:, None].astype(np.int64) * window.pool.items + item
        usable &= forbidden[np.minimum(np.searchsorted(forbidden, key), len(forbidden) - 1)] != key
    if not window.tables.domain.repeats:
        usable &= ~window.tables.log.seen.before(targets.user[rows, None], item, targets.time[rows, None])
    return usable


def add_unique(
    picked: np.ndarray, have: np.ndarray, rows: np.ndarray, item: np.ndarray, usable: np.ndarray
) -> np.ndarray:
    """Add an item to each of `rows` in `picked`, in place, if it is usable and new there; returns which rows got it.

    `picked` is `(scenes, most)`, `have` `(scenes,)` counts its items; the others are `(rows,)`. The result indexes
    `rows`.
    """
    tried = np.flatnonzero(usable)
    row, new = rows[tried], item[tried]
    fresh = ~(picked[row] == new[:, None]).any(axis=1)
    row = row[fresh]
    picked[row, have[row]] = new[fresh]
    have[row] += 1
    return tried[fresh]
