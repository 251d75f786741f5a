"""What is shown beside the choice. Each mode maps choices to distractors, `(scenes, most)` item rows padded with -1.

`natural`: other people's choices among the last 5,000 before the scene, under the law that choices follow.
`hard`: each source proposes the item at a rank that real choices had there earlier.
`retrieved`: heads of the sources' lists, the published way; kept for comparison, it gives the choice away.
`logged`: the rest of the real impression.
"""

from __future__ import annotations

import numpy as np

from usermirrorer.data.items.histories import Asked, ask
from usermirrorer.data.items.ranking import highest
from usermirrorer.data.log.events import ragged_ranges
from usermirrorer.data.scenes.choices import Choices
from usermirrorer.data.scenes.natural import natural, take
from usermirrorer.data.scenes.window import Window
from usermirrorer.seeds import Stream, uniforms


LIST_HEAD = 32
"""Candidates that a source proposes in `retrieved`, at least three times the longest list (paper, section 3)."""

TRIES = 8
"""Draws from the sources for every slot of `hard` before a scene is given up."""

TURNS = 3
"""Turns of the sources for every list rank of `retrieved` before a scene is given up."""


def distractors(
    window: Window, choices: Choices, wanted: np.ndarray, mode: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Distractors, the source of each, and the sources' names. `wanted` is how many each scene asks for.

    A scene that could not be filled has -1 within its first `wanted` columns.
    """
    if mode == "natural":
        picked = natural(window, choices, wanted)
        return picked, np.zeros_like(picked), ["natural"]
    if mode == "logged":
        picked = logged(window, choices, int(wanted.max(initial=1)))
        return picked, np.zeros_like(picked), ["logged"]
    sources = [*window.models, "random"] if mode == "retrieved" else list(window.models)
    propose = _heads if mode == "retrieved" else _at_observed_ranks
    picked = np.full((len(choices), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    for rows, asked in ask(window.pool, choices.user, choices.time):
        found, of = propose(window, choices.take(rows), wanted[rows], asked)
        picked[rows, : found.shape[1]], source[rows, : found.shape[1]] = found, of
    return picked, source, sources


def logged(window: Window, choices: Choices, most: int) -> np.ndarray:
    """The other items of the impression in which the choice was made; unknown items leave the scene short."""
    items, start = window.shown
    scene, index = ragged_ranges(start[choices.impression], np.diff(start)[choices.impression])
    item = items[index]
    other = item != choices.item[scene]
    scene, item = scene[other], item[other]
    slot = np.arange(len(scene)) - np.searchsorted(scene, scene, side="left")
    picked = np.full((len(choices), max(most, int(slot.max(initial=0)) + 1)), -1, dtype=np.int32)
    picked[scene, slot] = item
    return picked


def _heads(window: Window, choices: Choices, wanted: np.ndarray, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Interleave the heads of all sources' lists, each list in its own order, the source of each slot at random."""
    heads = np.maximum(LIST_HEAD, 3 * wanted)
    head = int(heads.max(initial=LIST_HEAD))
    allowed = _allowed(window, choices, asked)
    lists = [_ranked(model.scores(asked), allowed, head) for model in window.models.values()]
    existing = np.searchsorted(window.tables.available_from, choices.time, side="right")
    random = (uniforms(choices.key, Stream.EXPOSURE, head) * existing[:, None]).astype(np.int64)
    random = np.where(np.take_along_axis(allowed, random, axis=1), random, -1)
    candidates = np.stack([*lists, random], axis=1)
    turns = (uniforms(choices.key, Stream.EXPOSURE + 1, TURNS * head) * candidates.shape[1]).astype(np.int64)
    # The k-th turn of a source proposes the k-th item of its list; what counts is the order of all proposals.
    rank = np.empty_like(turns)
    for of in range(candidates.shape[1]):
        mine = turns == of
        rank[mine] = (np.cumsum(mine, axis=1) - 1)[mine]
    usable = (rank < heads[:, None]) & (np.arange(turns.shape[1]) < TURNS * heads[:, None])
    item = candidates[np.arange(len(choices))[:, None], turns, np.minimum(rank, head - 1)]
    picked = np.full((len(choices), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    have = np.zeros(len(choices), dtype=np.int64)
    for column in range(turns.shape[1]):
        trying = np.flatnonzero(have < wanted)
        if not len(trying):
            break
        new = item[trying, column]
        rows = trying[take(picked, have, trying, new, usable[trying, column] & (new >= 0))]
        source[rows, have[rows] - 1] = turns[rows, column]
    return picked, source


def _at_observed_ranks(
    window: Window, choices: Choices, wanted: np.ndarray, asked: Asked
) -> tuple[np.ndarray, np.ndarray]:
    """Each slot: a source at random, then the item at a rank drawn from those that real choices had there."""
    allowed = _allowed(window, choices, asked)
    names = list(window.models)
    observed = [window.observed_ranks[name] for name in names]
    depth = max(int(ranks.max()) + 1 for ranks in observed)
    lists = np.stack([_ranked(window.models[n].scores(asked), allowed, depth) for n in names])
    tries = TRIES * int(wanted.max(initial=1))
    turns = (uniforms(choices.key, Stream.EXPOSURE, tries) * len(names)).astype(np.int64)
    quantile = uniforms(choices.key, Stream.EXPOSURE + 1, tries)
    picked = np.full((len(choices), int(wanted.max(initial=1))), -1, dtype=np.int32)
    source = np.full_like(picked, -1)
    have, rows = np.zeros(len(choices), dtype=np.int64), np.arange(len(choices))
    for column in range(tries):
        turn = turns[:, column]
        rank = np.select(
            [turn == s for s in range(len(names))],
            [ranks[(quantile[:, column] * len(ranks)).astype(np.int64)] for ranks in observed],
        )
        item = lists[turn, rows, rank]
        added = take(picked, have, rows, item, (item >= 0) & (have < wanted) & (column < TRIES * wanted))
        source[added, have[added] - 1] = turn[added]
    return picked, source


def _allowed(window: Window, choices: Choices, asked: Asked) -> np.ndarray:
    """Items that may stand beside the choice: bool `(scenes, items)`."""
    seen = asked.chosen if window.pool is window.tables.log else None
    allowed = window.allowed(choices.user, choices.time, seen)
    allowed[np.arange(len(choices)), choices.item] = False
    allowed[choices.peer_row, choices.peer_item] = False
    return allowed


def _ranked(scores: np.ndarray, allowed: np.ndarray, depth: int) -> np.ndarray:
    """The first `depth` allowed items by descending score, ties in item order, -1 where they end: int64."""
    np.copyto(scores, -np.inf, where=~allowed)
    return highest(scores, depth)
