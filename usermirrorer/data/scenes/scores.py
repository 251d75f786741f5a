"""Scores of every option under every model over items, and how fast a user's history should fade for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from usermirrorer.data.items.histories import BLOCK, UserHistories, histories_in_blocks
from usermirrorer.data.items.models import DECAYING
from usermirrorer.data.items.recency import HALF_LIVES, decay
from usermirrorer.data.scenes.draw import Drawn
from usermirrorer.data.scenes.window import Window
from usermirrorer.measures import argmax_hit


RECENT = "recent {}"
"""Name of a model in the form in which recent choices count more."""

HalfLives = Mapping[str, float]
"""Model → choices after which a choice's weight has halved."""


def score_all(window: Window, drawn: Drawn, half_lives: HalfLives, workers: int) -> dict[str, np.ndarray]:
    """Every model's scores of all options, float32 `(scenes, options)`, NaN where padded."""
    names: list[str] = []
    for name in window.models:
        names += [name, RECENT.format(name)] if name in DECAYING else [name]
    scores = {name: np.empty(drawn.options.shape, dtype=np.float32) for name in names}

    def score(rows: np.ndarray) -> None:
        part = drawn.take(rows)
        for block, histories in _histories(window, part):
            shown = part.options[block]
            for name, model in window.models.items():
                decays = np.stack([decay(None), *([decay(half_lives[name])] if name in DECAYING else [])])
                found = np.where(shown >= 0, model.option_scores(histories, shown, decays), np.nan)
                for form, values in zip((name, RECENT.format(name)), found, strict=False):
                    scores[form][rows[block]] = values

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(score, _user_blocks(drawn)))
    return scores


def fit_half_lives(window: Window, drawn: Drawn, workers: int) -> dict[str, float]:
    """For each decaying model the half-life whose scores put the choice on top most often."""
    decays = np.stack([decay(half_life) for half_life in HALF_LIVES])
    scores = {name: np.empty((len(HALF_LIVES), *drawn.options.shape), dtype=np.float32) for name in DECAYING}

    def score(rows: np.ndarray) -> None:
        part = drawn.take(rows)
        for block, histories in _histories(window, part):
            for name in DECAYING:
                found = window.models[name].option_scores(histories, part.options[block], decays)
                scores[name][:, rows[block]] = found

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(score, _user_blocks(drawn)))
    padded = drawn.options < 0
    hits = {
        name: [argmax_hit(np.where(padded, -np.inf, one), drawn.position).mean() for one in scores[name]]
        for name in DECAYING
    }
    return {name: HALF_LIVES[int(np.argmax(hits[name]))] for name in DECAYING}


def _histories(window: Window, part: Drawn) -> Iterator[tuple[np.ndarray, UserHistories]]:
    return histories_in_blocks(window.pool, part.choices.user, part.choices.time, part.group_time)


def _user_blocks(drawn: Drawn) -> Iterator[np.ndarray]:
    """Rows of the scenes, a user's together."""
    order = np.lexsort((drawn.choices.time, drawn.choices.user))
    for begin in range(0, len(order), 4 * BLOCK):
        yield order[begin : begin + 4 * BLOCK]
