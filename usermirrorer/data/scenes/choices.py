"""Which events become scenes: one per occasion, inside a window, with enough history, capped per user."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from usermirrorer.data.log.events import Log, one_of_occasion, ragged_ranges
from usermirrorer.data.log.tables import Cuts, Tables
from usermirrorer.data.sources import choice_rule
from usermirrorer.errors import UserError
from usermirrorer.seeds import Order, number_keys, other_keys


MIN_OCCASIONS = 3
"""Earlier occasions that a user needs before a choice of theirs becomes a scene."""

USER_CAP = {"train": 50, "test": 10}
"""Scenes of one user at most, by split."""


@dataclass(frozen=True)
class Choices:
    """Choices as arrays, one row each. `peers` are the user's other items of the same occasion, in ragged form."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    scene_id: np.ndarray
    """uint64 `(choices,)`: the 16 hex digits as a number"""
    key: np.ndarray
    """uint64 `(choices,)`: the seed of all that is drawn for the scene"""
    impression: np.ndarray
    """int64 `(choices,)`: row of the impressions table, -1 where there is none"""
    peer_count: np.ndarray
    """int64 `(choices,)`"""
    peer_item: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    @property
    def peer_row(self) -> np.ndarray:
        """The choice that each peer belongs to: int64 `(peers,)`."""
        return np.repeat(np.arange(len(self)), self.peer_count)

    def take(self, rows: np.ndarray) -> Choices:
        start = np.cumsum(self.peer_count) - self.peer_count
        _, index = ragged_ranges(start[rows], self.peer_count[rows])
        columns = {field.name: getattr(self, field.name)[rows] for field in fields(self)[:-1]}
        return Choices(**columns, peer_item=self.peer_item[index])


def with_peers(
    log: Log,
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    scene_id: np.ndarray,
    key: np.ndarray,
    impression: np.ndarray,
) -> Choices:
    """Choices with what their users chose on the same occasion."""
    grouped = log.by_user
    first = grouped.start[user] + grouped.count(user, log.position(time))
    until = grouped.start[user] + grouped.count(user, log.position(time + 1))
    row, index = ragged_ranges(first, until - first)
    peer = log.item[grouped.events[index]]
    other = peer != item[row]
    count = np.bincount(row[other], minlength=len(user))
    return Choices(user, item, time, scene_id, key, impression, count, peer[other])


def qualifying(tables: Tables, choice: str) -> np.ndarray:
    """Mask of the events that count as choices under a rule such as `any` or `min_rating=4`: `(events,)`."""
    events = tables.behaviour.with_columns(pl.Series("_event", np.arange(len(tables.log))))
    return events.with_columns(_choice=choice_rule(tables.domain, choice))["_choice"].to_numpy()


def eligible(
    tables: Tables, cuts: Cuts, split: str, choice: str, logged: bool, seed: int, cap: int
) -> tuple[Choices, dict[str, int]]:
    """All choices of a window that can become scenes, in the order of their draw, and what was left out, by reason.

    An occasion gives one choice, drawn by (seed, scene_id); a user gives at most `cap`. `logged` takes clicks in
    impressions instead of interactions.
    """
    found, counts = (_clicks if logged else _events)(tables, choice)
    low, high = (cuts.train, cuts.test) if split == "train" else (cuts.test, np.iinfo(np.int64).max)
    kept = (found.time >= low) & (found.time < high)
    counts["choices_in_window"] = int(kept.sum())
    if not logged:
        counts["item_not_yet_available"] = _narrow(kept, tables.available_from[found.item] <= found.time)
    counts["too_little_history"] = _narrow(kept, found.occasions >= MIN_OCCASIONS)
    if found.new is not None:
        counts["had_before"] = _narrow(kept, found.new)
    rows = np.flatnonzero(kept)
    key = number_keys(seed, found.scene_id[rows])
    # The order of draws must not be the order that decides who is left in: the first scenes would be those of crowded
    # occasions and busy people.
    one = one_of_occasion(found.user[rows], found.time[rows], other_keys(key, Order.OCCASION))
    counts["same_occasion"] = len(rows) - len(one)

    rows, key = rows[one], key[one]
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    by_user = np.lexsort((other_keys(key, Order.CAP), found.user[rows]))
    owner = found.user[rows][by_user]
    rank = np.empty(len(rows), dtype=np.int64)
    rank[by_user] = np.arange(len(rows)) - np.searchsorted(owner, owner, side="left")
    counts["over_user_cap"] = int((rank >= cap).sum())
    rows, key = rows[rank < cap], key[rank < cap]
    user, item, time, ids = (column[rows] for column in (found.user, found.item, found.time, found.scene_id))
    impression = np.full(len(rows), -1) if found.impression is None else found.impression[rows]
    return with_peers(tables.log, user, item, time, ids, key, impression), counts


def _narrow(kept: np.ndarray, condition: np.ndarray) -> int:
    """Put one more condition on the mask, in place; how many rows that took away."""
    before = int(kept.sum())
    kept &= condition
    return before - int(kept.sum())


@dataclass(frozen=True)
class Found:
    """What may become scenes, one row each in time order, before the rules."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    scene_id: np.ndarray
    occasions: np.ndarray
    """Earlier occasions of the user"""
    new: np.ndarray | None = None
    """Whether the user had no event with the item before; asked only where a domain has no repeats, whose distractors
    are always new to the user: a choice that is not would stand out."""
    impression: np.ndarray | None = None


def _events(tables: Tables, choice: str) -> tuple[Found, dict[str, int]]:
    log, chosen = tables.log, qualifying(tables, choice)
    rows = slice(None) if chosen.all() else np.flatnonzero(chosen)
    occasions = log.occasions_before_event[rows]
    new = None if tables.domain.repeats else log.first_of_pair[rows]
    return Found(log.user[rows], log.item[rows], log.time[rows], tables.scene_id[rows], occasions, new), {}


def _clicks(tables: Tables, choice: str) -> tuple[Found, dict[str, int]]:
    if tables.impressions is None:
        raise UserError(f"exposure 'logged': {tables.domain.name} has no impressions; use natural, hard or retrieved")
    frame = tables.impressions.with_row_index("row")
    single = frame.filter((pl.col("clicked").list.len() == 1) & (pl.col("items").list.len() >= 2))
    counts = {"not_one_click": len(frame) - len(single), "item_not_yet_available": 0}
    known = single.with_columns(item_id=pl.col("clicked").list.first())
    known = known.join(tables.users.select("user_id").with_row_index("user"), on="user_id", maintain_order="left")
    known = known.join(tables.items.select("item_id").with_row_index("item"), on="item_id", maintain_order="left")
    counts["unknown_user_or_item"] = len(single) - len(known)
    user, item, time, ids, row = (known[name].to_numpy() for name in ("user", "item", "timestamp", "scene_id", "row"))
    occasions = _occasions_before(tables.log, user.astype(np.int64), time)
    impression = row.astype(np.int64)
    found = Found(user.astype(np.int32), item.astype(np.int32), time, ids, occasions, impression=impression)
    return found, counts


def _occasions_before(log: Log, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How many occasions each user had before each time: `(queries,)`."""
    grouped = log.by_user
    count = grouped.count(user, log.position(time))
    last = log.by_user.events[np.maximum(grouped.start[user] + count - 1, 0)]
    return np.where(count > 0, log.occasions_before_event[last] + 1, 0)
