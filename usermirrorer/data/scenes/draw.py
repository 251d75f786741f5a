"""What each scene holds, as numbers: options and their order, the choice's position, length of the history."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from usermirrorer.data.artefacts.store import Progress
from usermirrorer.data.items.histories import BLOCK
from usermirrorer.data.scenes.exposure import distractors
from usermirrorer.data.scenes.render import HISTORY_MAX, HISTORY_MIN
from usermirrorer.data.scenes.targets import Drawn, Targets
from usermirrorer.data.scenes.window import Window, score_options
from usermirrorer.seeds import Stream, uniforms
from usermirrorer.steps import SceneSettings


BATCH_LEAST, BATCH_MOST = 2048, 131_072
"""Targets drawn at a time; any number gives the same scenes."""

NATURAL_BLOCK = 2048
"""Targets drawn at a time by one thread if no model scores the whole catalogue."""


def draw(window: Window, targets: Targets, settings: SceneSettings) -> tuple[Drawn, list[str]]:
    """Draw length, distractors, position and history length of each scene; returns the scenes and the sources' names.

    Scenes with too few distractors are left out.
    """
    fewest, most = settings.lengths
    span = most - fewest + 1
    count = fewest + (uniforms(targets.key, Stream.LENGTH, 1)[:, 0] * span).astype(np.int64)
    picked, source, names = distractors(window, targets, count - 1, settings.exposure)
    if settings.exposure == "logged":
        count = 1 + (picked != -1).sum(axis=1)
        usable = (picked != -2).all(axis=1) & (count >= fewest) & (count <= most)
    else:
        usable = (picked >= 0).sum(axis=1) >= count - 1
    rows = np.flatnonzero(usable)
    targets, picked, source, count = targets.take(rows), picked[rows], source[rows], count[rows]

    # A random order of all options puts the choice at a uniform position and hides the order of the sources.
    width = np.arange(most) < count[:, None]
    options = np.full((len(rows), most), -1, dtype=np.int32)
    sources = np.full((len(rows), most), -1, dtype=np.int8)
    options[:, 0] = targets.item
    columns = min(most - 1, picked.shape[1])
    options[:, 1 : 1 + columns] = picked[:, :columns]
    sources[:, 1 : 1 + columns] = source[:, :columns]
    shuffle = np.argsort(np.where(width, uniforms(targets.key, Stream.POSITION, most), 2.0), axis=1, kind="stable")
    options = np.where(width, np.take_along_axis(np.where(width, options, -1), shuffle, axis=1), -1)
    sources = np.where(width, np.take_along_axis(sources, shuffle, axis=1), -1)
    history = uniforms(targets.key, Stream.HISTORY, 1)[:, 0] * (HISTORY_MAX - HISTORY_MIN + 1)
    drawn = Drawn(targets, options, sources, np.argmin(shuffle, axis=1), count, HISTORY_MIN + history.astype(np.int64))
    return drawn, names


def draw_until(
    window: Window, targets: Targets, settings: SceneSettings, workers: int, report: Progress
) -> tuple[Drawn, list[str], int]:
    """Draw in the order of `targets` until `num` scenes are kept: scenes, the sources' names, number of targets tried.

    `workers` threads draw blocks of targets at a time; any number gives the same scenes.
    """
    kept: list[Drawn] = []
    names: list[str] = []
    missing, begin = settings.num, 0
    _precompute(window, settings)
    with ThreadPoolExecutor(workers) as pool:
        while missing > 0 and begin < len(targets):
            size = min(max(missing, BATCH_LEAST), BATCH_MOST, len(targets) - begin)
            batch = targets.take(np.arange(begin, begin + size))
            blocks = [batch.take(rows) for rows in _blocks(batch, settings.exposure)]
            results = []
            for result in pool.map(lambda block: draw(window, block, settings), blocks):
                results.append(result)
                done = sum(len(part) for part in kept) + sum(len(one[0]) for one in results)
                report(min(done, settings.num), 3 * min(settings.num, len(targets)))
            names = results[0][1]
            drawn = Drawn.concatenate([result[0] for result in results])
            drawn = drawn.take(_in_order(drawn.targets.scene_id, batch.scene_id))
            begin += size
            if len(drawn) > missing:
                drawn = drawn.take(np.arange(missing))
                last = int(np.flatnonzero(batch.scene_id == drawn.targets.scene_id[-1])[0])
                begin += last + 1 - size
            kept.append(drawn)
            missing -= len(drawn)
    return Drawn.concatenate(kept), names, begin


def score_all(window: Window, drawn: Drawn, workers: int) -> dict[str, np.ndarray]:
    """Every model's scores of all options, float32 `(scenes, options)`, NaN where padded."""
    blocks = list(_user_blocks(drawn.targets, 4 * BLOCK))
    scores = {name: np.empty(drawn.options.shape, dtype=np.float32) for name in window.models}
    with ThreadPoolExecutor(workers) as pool:
        parts = pool.map(lambda rows: score_options(window, drawn.targets.take(rows), drawn.options[rows]), blocks)
        for rows, part in zip(blocks, parts, strict=True):
            for name, values in part.items():
                scores[name][rows] = values
    return scores


def _blocks(targets: Targets, exposure: str) -> Iterator[np.ndarray]:
    """Rows of the targets that are drawn together: a user's, if models score histories, or neighbours in time."""
    if exposure in ("retrieved", "hard"):
        yield from _user_blocks(targets, BLOCK)
    else:
        # What can be drawn depends on the time: neighbours in time share it.
        order = np.argsort(targets.time, kind="stable")
        for begin in range(0, len(order), NATURAL_BLOCK):
            yield order[begin : begin + NATURAL_BLOCK]


def _user_blocks(targets: Targets, size: int) -> Iterator[np.ndarray]:
    order = np.lexsort((targets.time, targets.user))
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def _in_order(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of `ids` in the order of `wanted`."""
    by_id = np.argsort(wanted, kind="stable")
    return np.argsort(by_id[np.searchsorted(wanted[by_id], ids)], kind="stable")


def _precompute(window: Window, settings: SceneSettings) -> None:
    """Compute what all threads share, before they need it at the same time."""
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
