"""The time window of a split with the models fitted before it: everything its scenes are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from usermirrorer.data.items.histories import histories_in_blocks
from usermirrorer.data.items.models import GFCF, WINDOW, CandidateModel, Content, fit_models
from usermirrorer.data.log.events import Log, one_of_occasion
from usermirrorer.data.log.tables import Cuts, Tables
from usermirrorer.data.scenes.recency import RecentChoices
from usermirrorer.data.scenes.targets import MIN_OCCASIONS, USER_CAP, Targets, choice_rows
from usermirrorer.seeds import event_keys


CALIBRATION_SHARE = 0.8
"""Share of the log before a window on which models are fitted to observe the ranks of real choices."""

CALIBRATION_CHOICES = 2000


@dataclass(frozen=True)
class Window:
    """The tables, the log of choices, and the candidate models fitted before the window."""

    tables: Tables
    split: str
    start: int
    pool: Log
    """The events of the log that are choices"""
    pool_rows: np.ndarray | slice
    """Their rows in the log"""
    vectors: np.ndarray
    workers: int = 1

    @cached_property
    def models(self) -> dict[str, CandidateModel]:
        """Candidate models fitted on the choices before the window."""
        before = self.pool.before(self.start)
        return fit_models(before, self.pool, self.vectors, self.tables.friends, self.workers)

    def unit_vectors(self, name: str) -> np.ndarray:
        """The items' unit vectors under the model `content` or `gf-cf`: float32 `(items, width)`."""
        model = self.models[name]
        assert isinstance(model, Content | GFCF)
        return model.directions.unit

    @cached_property
    def drawable_rows(self) -> np.ndarray:
        """Rows of `pool` that could be scenes themselves: enough history, an item that exists, one per occasion."""
        pool = self.pool
        usable = self.tables.log.occasions_before_event[self.pool_rows] >= MIN_OCCASIONS
        usable &= self.tables.available_from[pool.item] <= pool.time
        rows = np.flatnonzero(usable)
        user, time = pool.user[rows], pool.time[rows]
        return rows[one_of_occasion(user, time, event_keys(user, pool.item[rows], time))]

    @cached_property
    def recent_choices(self) -> RecentChoices:
        """The choices that `natural` draws from."""
        return RecentChoices(self.pool, self.drawable_rows, WINDOW, USER_CAP[self.split])

    @cached_property
    def observed_ranks(self) -> dict[str, np.ndarray]:
        """Ranks of real choices in each model's list, all from before the window."""
        fitted = self.pool.before(self.start)
        split = int(len(fitted) * CALIBRATION_SHARE)
        earlier = fitted.take(np.arange(split))
        models = fit_models(earlier, fitted, self.vectors, self.tables.friends, self.workers)
        wanted = min(CALIBRATION_CHOICES, len(fitted) - split)
        rows = np.unique(np.linspace(split, len(fitted) - 1, wanted).astype(int))
        user, item, time = fitted.user[rows], fitted.item[rows], fitted.time[rows]
        ranks: dict[str, list[np.ndarray]] = {name: [] for name in models}
        for block, histories in histories_in_blocks(fitted, user, time):
            allowed = self.allowed(user[block], time[block])
            allowed[np.arange(len(block)), item[block]] = True
            for name, model in models.items():
                scores = np.where(allowed, model.scores(histories), -np.inf)
                own = scores[np.arange(len(block)), item[block]][:, None]
                tied = (scores == own) & (np.arange(scores.shape[1]) < item[block][:, None])
                ranks[name].append((scores > own).sum(axis=1) + tied.sum(axis=1))
        return {name: np.sort(np.concatenate(found)) for name, found in ranks.items()}

    @cached_property
    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Items of all impressions, flat (-2 if unknown), and where each impression begins."""
        assert self.tables.impressions is not None
        lists = self.tables.impressions.select(item_id="items").with_row_index("row")
        flat = lists.explode("item_id").unique(maintain_order=True)
        known = self.tables.items.select("item_id").with_row_index("item")
        flat = flat.join(known, on="item_id", how="left", maintain_order="left")
        start = np.searchsorted(flat["row"].to_numpy(), np.arange(len(lists) + 1))
        return flat["item"].cast(pl.Int64).fill_null(-2).to_numpy(), start

    def allowed(self, user: np.ndarray, time: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        """Items that exist and, if the domain has no repeats, are new to the user: bool `(scenes, items)`.

        `seen` says which items each user had events with, `(scenes, items)`, if it is known already.
        """
        existing = np.searchsorted(self.tables.available_from, time, side="right")
        mask = np.arange(self.tables.log.items) < existing[:, None]
        if self.tables.domain.repeats:
            return mask
        if seen is not None:
            mask &= ~seen
            return mask
        log = self.tables.log
        row, event = log.by_user.between(user, 0, log.by_user.count(user, log.position(time)))
        mask[row, log.item[event]] = False
        return mask


def open_window(tables: Tables, cuts: Cuts, split: str, choice: str, vectors: np.ndarray, workers: int = 1) -> Window:
    """The window of a split; its models are fitted on first use. `vectors` are `(items, width)`."""
    start = cuts.train if split == "train" else cuts.test
    rows = choice_rows(tables, choice)
    pool = tables.log if isinstance(rows, slice) else tables.log.take(rows)
    return Window(tables, split, start, pool, rows, vectors[: len(tables.items)], workers)


def score_options(window: Window, targets: Targets, options: np.ndarray) -> dict[str, np.ndarray]:
    """Every model's score of every option, float32 `(scenes, options)`; NaN where `options` is padded with -1."""
    scores = {name: np.full(options.shape, np.nan, dtype=np.float32) for name in window.models}
    for rows, histories in histories_in_blocks(window.pool, targets.user, targets.time):
        shown = options[rows]
        for name, model in window.models.items():
            found = model.option_scores(histories, shown)
            scores[name][rows] = np.where(shown >= 0, found, np.nan)
    return scores
