"""Blocks of choices of alike items, in which `hard` looks for groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from usermirrorer.data.log.choices import Choices
from usermirrorer.data.log.events import Log
from usermirrorer.data.scenes.groups import Split, in_time


HALVINGS = 4
"""A stretch of time is halved this often, so that it gives 16 neighbourhoods."""

ITERATIONS = 8
"""Steps of the power iteration for the direction in which items differ most."""


def by_content(choices: Choices, vectors: np.ndarray) -> Split:
    """Halve choices along the direction in which their items' `vectors`, `(items, width)`, differ most."""

    def halve(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centred = vectors[choices.item[rows]].astype(np.float64)
        centred -= centred.mean(axis=0)
        direction = centred[np.argmax((centred**2).sum(axis=1))]
        for _ in range(ITERATIONS):
            direction = centred.T @ (centred @ direction)
            direction /= max(float(np.linalg.norm(direction)), 1e-12)
        return _halves(rows, centred @ direction)

    return _split(halve)


def by_popularity(choices: Choices, pool: Log) -> Split:
    """Halve choices by how often their items had been chosen in `pool` by then."""
    earlier = pool.by_item.count(choices.item, pool.position(choices.time))
    return _split(lambda rows: _halves(rows, earlier[rows]))


def _split(halve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Split:
    def split(rows: np.ndarray, size: int) -> list[np.ndarray]:
        blocks = []
        for stretch in in_time(rows, size << HALVINGS):
            parts = [stretch]
            while max(len(part) for part in parts) > size:
                parts = [half for part in parts for half in halve(part)]
            blocks += parts
        return blocks

    return split


def _halves(rows: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows with the lower and with the higher values, each in the order of `rows`."""
    order = np.argsort(value, kind="stable")
    middle = len(rows) // 2
    return rows[np.sort(order[:middle])], rows[np.sort(order[middle:])]
