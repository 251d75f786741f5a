"""The time window of a split with the models fitted before it: everything its scenes are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from usermirrorer.data.items.models import GFCF, Content, ItemModel, fit_models
from usermirrorer.data.log.choices import choice_log
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.tables import Cuts, Tables


@dataclass(frozen=True)
class Window:
    """The tables, the log of choices, and the models over items fitted before the window."""

    tables: Tables
    start: int
    pool: Log
    """The events of the log that are choices"""
    vectors: np.ndarray
    """Text vectors of the items, `(items, width)`"""
    workers: int = 1

    @cached_property
    def models(self) -> dict[str, ItemModel]:
        """Models over items fitted on the choices before the window."""
        return fit_models(self.pool.before(self.start), self.pool, self.vectors, self.tables.friends, self.workers)

    @cached_property
    def popularity(self) -> np.ndarray:
        """log(1 + choices before the window) of each item: float32 `(items,)`."""
        before = int(self.pool.position(np.array([self.start]))[0])
        return np.log1p(np.bincount(self.pool.item[:before], minlength=self.pool.items)).astype(np.float32)

    @cached_property
    def text_statistics(self) -> dict[str, np.ndarray]:
        """Length, words, digits and capitals of each item's text: float32 `(items,)` each."""
        text = pl.col("text")
        counts = self.tables.items.select(
            text_length=text.str.len_chars(),
            text_words=text.str.count_matches(" ") + 1,
            text_digits=text.str.count_matches(r"\d"),
            text_capitals=text.str.count_matches(r"\p{Lu}"),
        )
        return {column.name: column.cast(pl.Float32).fill_null(0).to_numpy() for column in counts}

    def unit_vectors(self, likeness: str) -> np.ndarray:
        """The items' unit vectors by `content` or `collaborative` likeness: float32 `(items, width)`."""
        model = self.models["content" if likeness == "content" else "gf-cf"]
        assert isinstance(model, Content | GFCF)
        return model.directions.unit

    def index(self) -> None:
        """Compute what threads share, before they need it at the same time."""
        for log in (self.tables.log, self.pool):
            _ = log.by_user, log.by_item, log.seen, log.first_of_pair
        _ = self.popularity, self.text_statistics


def open_window(tables: Tables, cuts: Cuts, split: str, choice: str, vectors: np.ndarray, workers: int = 1) -> Window:
    """The window of a split; its models are fitted on first use. `vectors` are `(items, width)`."""
    start = cuts.train if split == "train" else cuts.test
    return Window(tables, start, choice_log(tables, choice), vectors[: len(tables.items)], workers)
