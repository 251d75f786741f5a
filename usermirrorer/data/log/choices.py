"""Which choices of a log qualify: one per occasion, inside the window, with enough history, capped per user."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from usermirrorer.data.log.events import Log, one_of_occasion
from usermirrorer.data.log.tables import Cuts, Tables
from usermirrorer.data.sources import choice_rule
from usermirrorer.errors import UserError
from usermirrorer.seeds import Order, number_keys, other_keys


MIN_OCCASIONS = 3
"""Earlier occasions that a user needs before one of their choices becomes a scene."""

USER_CAP = {"train": 50, "test": 10}
"""Most scenes of one user, by split."""


@dataclass(frozen=True)
class Choices:
    """Choices that can become scenes, one row each."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    scene_id: np.ndarray
    """uint64 `(choices,)`: the 16 hex digits as a number"""
    key: np.ndarray
    """uint64 `(choices,)`: the seed of everything drawn for the choice"""
    impression: np.ndarray
    """int64 `(choices,)`: row of the impressions table, -1 if there is none"""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Choices:
        """The selected choices."""
        return Choices(*(getattr(self, field.name)[rows] for field in fields(self)))


def choice_rows(tables: Tables, choice: str) -> np.ndarray | slice:
    """Rows of the log that count as choices under a rule such as `any` or `min_rating=4`; a full slice if all do."""
    events = tables.event_columns.with_columns(pl.Series("_event", np.arange(len(tables.log))))
    chosen = events.with_columns(_choice=choice_rule(tables.domain, choice))["_choice"].to_numpy()
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def choice_log(tables: Tables, choice: str) -> Log:
    """The log of the events that count as choices under a rule."""
    rows = choice_rows(tables, choice)
    return tables.log if isinstance(rows, slice) else tables.log.take(rows)


def qualifying_choices(
    tables: Tables, cuts: Cuts, split: str, choice: str, exposure: str, seed: int
) -> tuple[Choices, dict[str, int]]:
    """All choices of a window that can become scenes, in an order drawn by seed, and how many cannot, by reason.

    An occasion gives one choice, drawn by (seed, scene_id); a user gives at most `USER_CAP`. If the exposure is
    `logged`, choices are clicks in impressions instead of interactions; if it is `published`, every interaction after
    the user's first three is one. Raises UserError if the domain has no impressions.
    """
    logged, published = exposure == "logged", exposure == "published"
    found, counts = _clicks(tables) if logged else (_interactions(tables, choice, published), {})
    low, high = (cuts.train, cuts.test) if split == "train" else (cuts.test, np.iinfo(np.int64).max)
    kept = (found.time >= low) & (found.time < high)
    counts["choices_in_window"] = int(kept.sum())
    if not logged:
        counts["item_not_yet_available"] = _narrow(kept, tables.released[found.item] <= found.time)
    counts["too_little_history"] = _narrow(kept, found.occasions >= MIN_OCCASIONS)
    counts["had_before"] = 0 if found.new is None else _narrow(kept, found.new)
    rows = np.flatnonzero(kept)
    key = number_keys(seed, found.scene_id[rows])
    # Occasions and caps have their own orders: if the order of draws decided who stays, the first scenes would be
    # those of crowded occasions and busy people.
    one = (
        slice(None)
        if published
        else one_of_occasion(found.user[rows], found.time[rows], other_keys(key, Order.OCCASION))
    )
    rows, key, in_all = rows[one], key[one], len(rows)
    counts["same_occasion"] = in_all - len(rows)
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    by_user = np.lexsort((other_keys(key, Order.CAP), found.user[rows]))
    owner = found.user[rows][by_user]
    rank = np.empty(len(rows), dtype=np.int64)
    rank[by_user] = np.arange(len(rows)) - np.searchsorted(owner, owner, side="left")
    within = rank < (len(rows) if published else USER_CAP[split])
    counts["over_user_cap"] = int((~within).sum())
    rows, key = rows[within], key[within]
    counts["qualifying"] = len(rows)
    user, item, time, ids = (column[rows] for column in (found.user, found.item, found.time, found.scene_id))
    impression = np.full(len(rows), -1) if found.impression is None else found.impression[rows]
    return Choices(user, item, time, ids, key, impression), counts


def _narrow(kept: np.ndarray, condition: np.ndarray) -> int:
    """Apply one more condition to the mask, in place; returns how many rows that excludes."""
    before = int(kept.sum())
    kept &= condition
    return before - int(kept.sum())


@dataclass(frozen=True)
class ChoiceEvents:
    """Choices before the rules are applied, one row each in time order."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    scene_id: np.ndarray
    occasions: np.ndarray
    """Number of the user's earlier occasions"""
    new: np.ndarray | None = None
    """Whether the user had no earlier event with the item; None if the domain has repeats. Without repeats other
    options are always new to the user, so a choice that is not would stand out."""
    impression: np.ndarray | None = None


def _interactions(tables: Tables, choice: str, published: bool) -> ChoiceEvents:
    log, rows = tables.log, choice_rows(tables, choice)
    if published:  # an earlier interaction counts as an occasion
        earlier = log.by_user.count(log.user, np.arange(len(log)))[rows]
        return ChoiceEvents(log.user[rows], log.item[rows], log.time[rows], tables.scene_id[rows], earlier)
    occasions = log.occasions_before_event[rows]
    new = None if tables.domain.repeats else log.first_of_pair[rows]
    return ChoiceEvents(log.user[rows], log.item[rows], log.time[rows], tables.scene_id[rows], occasions, new)


def _clicks(tables: Tables) -> tuple[ChoiceEvents, dict[str, int]]:
    if tables.impressions is None:
        raise UserError(f"exposure 'logged': {tables.domain.name} has no impressions; use matched, hard or published")
    frame = tables.impressions.with_row_index("row")
    single = frame.filter((pl.col("clicked").list.len() == 1) & (pl.col("items").list.len() >= 2))
    counts = {"not_one_click": len(frame) - len(single)}
    known = single.with_columns(item_id=pl.col("clicked").list.first())
    for kind, table in (("user", tables.users), ("item", tables.items)):
        rows = table.select(f"{kind}_id").with_row_index(kind)
        known = known.join(rows, on=f"{kind}_id", maintain_order="left")
    counts["unknown_user_or_item"] = len(single) - len(known)
    user, item, time, ids, row = (known[name].to_numpy() for name in ("user", "item", "timestamp", "scene_id", "row"))
    occasions = _occasions_before(tables.log, user.astype(np.int64), time)
    user, item, row = user.astype(np.int32), item.astype(np.int32), row.astype(np.int64)
    return ChoiceEvents(user, item, time, ids, occasions, impression=row), counts


def _occasions_before(log: Log, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Number of occasions of each user before each time: `(queries,)`."""
    grouped = log.by_user
    count = grouped.count(user, log.position(time))
    last = grouped.events[np.maximum(grouped.start[user] + count - 1, 0)]
    return np.where(count > 0, log.occasions_before_event[last] + 1, 0)
