"""What each scene holds, as numbers: its length, its distractors, the choice's position, how much history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from usermirrorer.data.items.histories import BLOCK
from usermirrorer.data.scenes.choices import Choices
from usermirrorer.data.scenes.exposure import distractors
from usermirrorer.data.scenes.render import HISTORY_MAX, HISTORY_MIN
from usermirrorer.data.scenes.window import Window, score_options
from usermirrorer.seeds import Stream, uniforms
from usermirrorer.steps import SceneSettings


BATCH_LEAST, BATCH_MOST = 2048, 131_072
"""Choices drawn at a time; any number gives the same scenes."""

NATURAL_BLOCK = 2048
"""Choices that one thread draws at a time where no model scores the whole catalogue."""


@dataclass(frozen=True)
class Drawn:
    """Scenes as numbers, one row each; `options` and `source` are `(scenes, most options)`, padded with -1."""

    choices: Choices
    options: np.ndarray
    source: np.ndarray
    position: np.ndarray
    count: np.ndarray
    history_len: np.ndarray

    def __len__(self) -> int:
        return len(self.count)

    def take(self, rows: np.ndarray) -> Drawn:
        return Drawn(self.choices.take(rows), *(getattr(self, f.name)[rows] for f in fields(self)[1:]))

    @staticmethod
    def concatenate(parts: list[Drawn]) -> Drawn:
        """One from several of the same width."""
        choices = [part.choices for part in parts]
        joined = Choices(*(np.concatenate([getattr(c, f.name) for c in choices]) for f in fields(Choices)))
        return Drawn(joined, *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Drawn)[1:]))


def draw(window: Window, choices: Choices, settings: SceneSettings) -> tuple[Drawn, list[str]]:
    """Choose length, distractors, position and history length of each scene; scenes left short are not in the result.

    Returns the scenes and the names of the sources.
    """
    fewest, most = settings.lengths
    span = most - fewest + 1
    count = fewest + (uniforms(choices.key, Stream.LENGTH, 1)[:, 0] * span).astype(np.int64)
    picked, source, names = distractors(window, choices, count - 1, settings.exposure)
    if settings.exposure == "logged":
        count = 1 + (picked != -1).sum(axis=1)
        usable = (picked != -2).all(axis=1) & (count >= fewest) & (count <= most)
    else:
        usable = (picked >= 0).sum(axis=1) >= count - 1
    rows = np.flatnonzero(usable)
    choices, picked, source, count = choices.take(rows), picked[rows], source[rows], count[rows]

    # A random order of all options puts the choice at a uniform position and hides the order of the sources.
    width = np.arange(most) < count[:, None]
    options = np.full((len(rows), most), -1, dtype=np.int32)
    sources = np.full((len(rows), most), -1, dtype=np.int8)
    options[:, 0] = choices.item
    columns = min(most - 1, picked.shape[1])
    options[:, 1 : 1 + columns] = picked[:, :columns]
    sources[:, 1 : 1 + columns] = source[:, :columns]
    shuffle = np.argsort(np.where(width, uniforms(choices.key, Stream.POSITION, most), 2.0), axis=1, kind="stable")
    options = np.where(width, np.take_along_axis(np.where(width, options, -1), shuffle, axis=1), -1)
    sources = np.where(width, np.take_along_axis(sources, shuffle, axis=1), -1)
    history = uniforms(choices.key, Stream.HISTORY, 1)[:, 0] * (HISTORY_MAX - HISTORY_MIN + 1)
    drawn = Drawn(choices, options, sources, np.argmin(shuffle, axis=1), count, HISTORY_MIN + history.astype(np.int64))
    return drawn, names


def draw_until(
    window: Window, choices: Choices, settings: SceneSettings, workers: int, told: Callable[[int, int], None]
) -> tuple[Drawn, list[str], int]:
    """Draw in the order of `choices` until `num` scenes are kept; the scenes, the sources' names, how many were tried.

    `workers` threads draw blocks of choices at a time; any number gives the same scenes.
    """
    kept: list[Drawn] = []
    names: list[str] = []
    missing, begin = settings.num, 0
    _observe(window, settings)
    with ThreadPoolExecutor(workers) as pool:
        while missing > 0 and begin < len(choices):
            size = min(max(missing, BATCH_LEAST), BATCH_MOST, len(choices) - begin)
            batch = choices.take(np.arange(begin, begin + size))
            blocks = [batch.take(rows) for rows in _blocks(batch, settings.exposure)]
            results = []
            for result in pool.map(lambda block: draw(window, block, settings), blocks):
                results.append(result)
                done = sum(len(part) for part in kept) + sum(len(one[0]) for one in results)
                told(min(done, settings.num), 3 * min(settings.num, len(choices)))
            names = results[0][1]
            drawn = Drawn.concatenate([result[0] for result in results])
            drawn = drawn.take(_in_order(drawn.choices.scene_id, batch.scene_id))
            begin += size
            if len(drawn) > missing:
                drawn = drawn.take(np.arange(missing))
                last = int(np.flatnonzero(batch.scene_id == drawn.choices.scene_id[-1])[0])
                begin += last + 1 - size
            kept.append(drawn)
            missing -= len(drawn)
    return Drawn.concatenate(kept), names, begin


def score_all(window: Window, drawn: Drawn, workers: int) -> dict[str, np.ndarray]:
    """Every model's score of every option of all scenes, float32 `(scenes, options)`, NaN where padded."""
    blocks = list(_user_blocks(drawn.choices, 4 * BLOCK))
    scores = {name: np.empty(drawn.options.shape, dtype=np.float32) for name in window.models}
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(lambda rows: score_options(window, drawn.choices.take(rows), drawn.options[rows]), blocks)
        for rows, part in zip(blocks, parts, strict=True):
            for name, values in part.items():
                scores[name][rows] = values
    return scores


def _blocks(choices: Choices, exposure: str) -> Iterator[np.ndarray]:
    """Rows of the choices that are drawn together: those of a user, where histories are scored, or of one time."""
    if exposure in ("retrieved", "hard"):
        yield from _user_blocks(choices, BLOCK)
    else:
        # What can be drawn changes with time: scenes of one time share it.
        order = np.argsort(choices.time, kind="stable")
        for begin in range(0, len(order), NATURAL_BLOCK):
            yield order[begin : begin + NATURAL_BLOCK]


def _user_blocks(choices: Choices, size: int) -> Iterator[np.ndarray]:
    order = np.lexsort((choices.time, choices.user))
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def _in_order(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of `ids` in the order in which they stand in `wanted`."""
    by_id = np.argsort(wanted, kind="stable")
    return np.argsort(by_id[np.searchsorted(wanted[by_id], ids)], kind="stable")


def _observe(window: Window, settings: SceneSettings) -> None:
    """Compute what all threads need once, before they ask for it together."""
    log, pool = window.tables.log, window.pool
    for shared in (log, pool):
        _ = shared.by_user, shared.by_item, shared.seen, shared.first_of_pair
    if settings.exposure == "retrieved":
        _ = window.models
    elif settings.exposure == "hard":
        _ = window.models, window.observed_ranks
    elif settings.exposure == "natural":
        _ = window.recent_choices.then
    elif settings.exposure == "logged":
        _ = window.shown
