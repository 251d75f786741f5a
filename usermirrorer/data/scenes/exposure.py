"""Distractors, what is shown beside the choice: item rows `(scenes, most)`, padded with -1.

`natural`: other people's choices among the last 5,000 before the scene, distributed like real choices.
`hard`: each source proposes the item at a rank that real choices had in its list earlier.
`retrieved`: the top of the sources' lists, as published; kept for comparison, it gives the choice away.
`logged`: the rest of the real impression.
"""

from __future__ import annotations

import numpy as np

from usermirrorer.data.items.histories import UserHistories, histories_in_blocks
from usermirrorer.data.items.ranking import highest
from usermirrorer.data.log.events import ragged_ranges
from usermirrorer.data.scenes.natural import add_unique, natural
from usermirrorer.data.scenes.targets import Targets
from usermirrorer.data.scenes.window import Window
from usermirrorer.seeds import Stream, uniforms


TOP_LIST = 32
"""Candidates per source in `retrieved`, and at least three times the distractors needed (paper, section 3)."""

TRIES = 8
"""Draws from the sources for each slot of `hard` before a scene is given up."""

TURNS = 3
"""Turns of the sources for each rank of their lists in `retrieved` before a scene is given up."""


def distractors(
    window: Window, targets: Targets, wanted: np.ndarray, mode: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Distractors and the source of each, `(scenes, most)` both, and the sources' names.

    `wanted` is how many each scene needs, `(scenes,)`; one that could not be filled has fewer.
    """
    if mode == "natural":
        picked = natural(window, targets, wanted)
        return picked, np.zeros_like(picked), ["natural"]
    if mode == "logged":
        picked = logged(window, targets, int(wanted.max(initial=1)))
        return picked, np.zeros_like(picked), ["logged"]
    sources = [*window.models, "random"] if mode == "retrieved" else list(window.models)
    propose = _from_top_lists if mode == "retrieved" else _at_observed_ranks
    picked = np.full((len(targets), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    for rows, histories in histories_in_blocks(window.pool, targets.user, targets.time):
        found, of = propose(window, targets.take(rows), wanted[rows], histories)
        picked[rows, : found.shape[1]], source[rows, : found.shape[1]] = found, of
    return picked, source, sources


def logged(window: Window, targets: Targets, most: int) -> np.ndarray:
    """The other items of the impression in which the choice was made, -2 if unknown."""
    items, start = window.shown
    scene, index = ragged_ranges(start[targets.impression], np.diff(start)[targets.impression])
    item = items[index]
    other = item != targets.item[scene]
    scene, item = scene[other], item[other]
    slot = np.arange(len(scene)) - np.searchsorted(scene, scene, side="left")
    picked = np.full((len(targets), max(most, int(slot.max(initial=0)) + 1)), -1, dtype=np.int32)
    picked[scene, slot] = item
    return picked


def _from_top_lists(
    window: Window, targets: Targets, wanted: np.ndarray, histories: UserHistories
) -> tuple[np.ndarray, np.ndarray]:
    """Interleave the tops of all sources' lists, each in its own order, the source of each slot at random."""
    depths = np.maximum(TOP_LIST, 3 * wanted)
    depth = int(depths.max(initial=TOP_LIST))
    allowed = _allowed(window, targets, histories)
    lists = [_ranked(model.scores(histories), allowed, depth) for model in window.models.values()]
    existing = np.searchsorted(window.tables.available_from, targets.time, side="right")
    random = (uniforms(targets.key, Stream.EXPOSURE, depth) * existing[:, None]).astype(np.int64)
    random = np.where(np.take_along_axis(allowed, random, axis=1), random, -1)
    candidates = np.stack([*lists, random], axis=1)
    turns = (uniforms(targets.key, Stream.EXPOSURE + 1, TURNS * depth) * candidates.shape[1]).astype(np.int64)
    # The k-th turn of a source proposes the k-th item of its list.
    rank = np.empty_like(turns)
    for of in range(candidates.shape[1]):
        mine = turns == of
        rank[mine] = (np.cumsum(mine, axis=1) - 1)[mine]
    usable = (rank < depths[:, None]) & (np.arange(turns.shape[1]) < TURNS * depths[:, None])
    item = candidates[np.arange(len(targets))[:, None], turns, np.minimum(rank, depth - 1)]
    picked = np.full((len(targets), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    have = np.zeros(len(targets), dtype=np.int64)
    for column in range(turns.shape[1]):
        trying = np.flatnonzero(have < wanted)
        if not len(trying):
            break
        new = item[trying, column]
        rows = trying[add_unique(picked, have, trying, new, usable[trying, column] & (new >= 0))]
        source[rows, have[rows] - 1] = turns[rows, column]
    return picked, source


def _at_observed_ranks(
    window: Window, targets: Targets, wanted: np.ndarray, histories: UserHistories
) -> tuple[np.ndarray, np.ndarray]:
    """For each slot a source at random, then the item at a rank drawn from those that real choices had there."""
    allowed = _allowed(window, targets, histories)
    names = list(window.models)
    observed = [window.observed_ranks[name] for name in names]
    depth = max(int(ranks.max()) + 1 for ranks in observed)
    lists = np.stack([_ranked(window.models[n].scores(histories), allowed, depth) for n in names])
    tries = TRIES * int(wanted.max(initial=1))
    turns = (uniforms(targets.key, Stream.EXPOSURE, tries) * len(names)).astype(np.int64)
    quantile = uniforms(targets.key, Stream.EXPOSURE + 1, tries)
    picked = np.full((len(targets), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    have, rows = np.zeros(len(targets), dtype=np.int64), np.arange(len(targets))
    for column in range(tries):
        turn = turns[:, column]
        rank = np.select(
            [turn == s for s in range(len(names))],
            [ranks[(quantile[:, column] * len(ranks)).astype(np.int64)] for ranks in observed],
        )
        item = lists[turn, rows, rank]
        added = add_unique(picked, have, rows, item, (item >= 0) & (have < wanted) & (column < TRIES * wanted))
        source[added, have[added] - 1] = turn[added]
    return picked, source


def _allowed(window: Window, targets: Targets, histories: UserHistories) -> np.ndarray:
    """Items that may be distractors: bool `(scenes, items)`."""
    seen = histories.chosen if window.pool is window.tables.log else None
    allowed = window.allowed(targets.user, targets.time, seen)
    allowed[np.arange(len(targets)), targets.item] = False
    allowed[targets.peer_row, targets.peer_item] = False
    return allowed


def _ranked(scores: np.ndarray, allowed: np.ndarray, depth: int) -> np.ndarray:
    """The top `depth` allowed items, ties in item order, padded with -1: int64 `(scenes, depth)`. Alters `scores`."""
    np.copyto(scores, -np.inf, where=~allowed)
    return highest(scores, depth)
