"""Distractors as the published system samples them, for comparison: this way of sampling gives the choice away.

Lists of equal length from random items, collaborative filtering and content are interleaved at random; whatever the
user ever has is dropped, and the first items are shown (paper, section 3; the published code has the details). The
content list is anchored on the choice itself. As published, models and filters know the whole log, future included.
Two mistakes of the published code are not repeated: the choice is never in the last position, and by an error in an
index content is anchored on an unrelated item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from usermirrorer.data.items.histories import UserHistories, histories_in_blocks
from usermirrorer.data.items.models import Directions, Social, spectral_items
from usermirrorer.data.items.ranking import highest
from usermirrorer.data.log.choices import Choices
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import Friends
from usermirrorer.seeds import Stream, uniforms


LIST_LENGTH, LENGTH_FACTOR = 32, 3
"""Each source lists this many items, and at least this many times the most options."""

SCALE_BITS = 22
"""Fractional bits of item vectors summed over a history."""


@dataclass(frozen=True)
class PublishedSampler:
    """What the lists are made from."""

    log: Log
    """The whole log"""
    vectors: np.ndarray
    """Text vectors of the items, `(items, width)`"""
    friends: Friends | None

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in the order of `distractors`."""
        return ["random", "collaborative", *(["social"] if self.friends is not None else []), "content"]

    @cached_property
    def _items(self) -> tuple[np.ndarray, Directions]:
        """V D^1/2 in whole numbers, `(items, rank)`, for users, and as directions for items."""
        vectors, degree = spectral_items(self.log)
        scaled = vectors * np.sqrt(degree)[:, None]
        return np.round(scaled * 2.0**SCALE_BITS).astype(np.int64), Directions.of(scaled)

    @cached_property
    def _texts(self) -> Directions:
        return Directions.of(self.vectors)

    def fit(self) -> None:
        """Fit what threads share, before they need it at the same time."""
        _ = self._items, self._texts

    def distractors(self, choices: Choices, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items and the source of each, `(choices, most)` both, padded with -1; `wanted` is `(choices,)`."""
        picked = np.full((len(choices), int(wanted.max(initial=1))), -1, dtype=np.int32)
        source = np.full_like(picked, -1)
        after_all = np.full(len(choices), self.log.time[-1] + 1)
        for rows, histories in histories_in_blocks(self.log, choices.user, after_all):
            here = choices.take(rows)
            lists = self._lists(here, histories, max(LIST_LENGTH, LENGTH_FACTOR * (picked.shape[1] + 1)))
            found, of = self._interleaved(here, lists, wanted[rows])
            picked[rows, : found.shape[1]], source[rows, : found.shape[1]] = found, of
        return picked, source

    def _lists(self, choices: Choices, histories: UserHistories, depth: int) -> np.ndarray:
        """The top of every source's list: int64 `(choices, sources, depth)`, padded with -1."""
        into, items = self._items
        users = Directions.of(histories.summed(into) / 2.0**SCALE_BITS)
        random = (uniforms(choices.key, Stream.EXPOSURE, depth) * self.log.items).astype(np.int64)
        scores = [users.cosines(items) * items.length]
        if self.friends is not None:
            scores.append(Social(self.log, self.friends).scores(histories))
        scores.append(self._texts.unit[choices.item] @ self._texts.unit.T)
        return np.stack([random, *(highest(one, depth) for one in scores)], axis=1)

    def _interleaved(self, choices: Choices, lists: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first `wanted` new items of all lists, each in its own order, interleaved at random."""
        rows, sources, depth = lists.shape
        # A random order of as many turns for each source; its k-th turn proposes the k-th item of its list.
        turn = np.argsort(uniforms(choices.key, Stream.EXPOSURE + 1, sources * depth), axis=1, kind="stable") // depth
        rank = np.empty_like(turn)
        for of in range(sources):
            mine = turn == of
            rank[mine] = np.tile(np.arange(depth), rows)
        item = lists[np.arange(rows)[:, None], turn, rank]
        usable = (item >= 0) & (item != choices.item[:, None])
        usable &= ~self.log.seen.ever(choices.user[:, None], np.maximum(item, 0))
        usable &= _first_in_row(item)
        place = np.cumsum(usable, axis=1) - 1
        shown = usable & (place < wanted[:, None])
        picked = np.full((rows, int(wanted.max(initial=1))), -1, dtype=np.int32)
        source = np.full_like(picked, -1)
        row, column = np.nonzero(shown)
        picked[row, place[row, column]], source[row, place[row, column]] = item[row, column], turn[row, column]
        return picked, source


def _first_in_row(values: np.ndarray) -> np.ndarray:
    """Whether each value is the first of its kind in its row: bool `(rows, columns)`."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    first = np.ones(values.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    result = np.empty_like(first)
    np.put_along_axis(result, order, first, axis=1)
    return result
