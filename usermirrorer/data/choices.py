"""Which events become scenes: one per occasion, inside a window, with enough history, capped per user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from usermirrorer.data.domains import choice_rule
from usermirrorer.data.keyed import scene_keys
from usermirrorer.data.log import Log, ragged_ranges
from usermirrorer.data.schema import scene_id
from usermirrorer.data.tables import Cuts, Tables
from usermirrorer.errors import UserError


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
    """S16 `(choices,)`"""
    key: np.ndarray
    """uint64 `(choices,)`: the seed of all that is drawn for the scene"""
    peer_start: np.ndarray
    """int64 `(choices + 1,)`"""
    peer_item: np.ndarray
    impression: np.ndarray
    """int64 `(choices,)`: row of the impressions table, -1 where there is none"""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Choices:
        length = np.diff(self.peer_start)[rows]
        start = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(length, out=start[1:])
        _, index = ragged_ranges(self.peer_start[:-1][rows], length)
        return Choices(
            self.user[rows], self.item[rows], self.time[rows], self.scene_id[rows], self.key[rows],
            start, self.peer_item[index], self.impression[rows],
        )  # fmt: skip


def qualifying(tables: Tables, choice: str) -> np.ndarray:
    """Mask of the events that count as choices under a rule such as `any` or `min_rating=4`: `(events,)`."""
    events = tables.behaviour.with_columns(pl.Series("_event", np.arange(len(tables.log))))
    return events.with_columns(_choice=choice_rule(tables.domain, choice))["_choice"].to_numpy()


def occasions_before(log: Log, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How many occasions each user had before each time: `(queries,)`."""
    grouped = log.by_user
    times, owner = log.time[grouped.events], log.user[grouped.events]
    first = np.ones(len(log), dtype=bool)
    first[1:] = (times[1:] != times[:-1]) | (owner[1:] != owner[:-1])
    ordinal = np.concatenate([[0], np.cumsum(first)])
    begin = grouped.start[user]
    return ordinal[begin + grouped.count(user, log.position(time))] - ordinal[begin]


def eligible(
    tables: Tables, cuts: Cuts, split: str, choice: str, logged: bool, seed: int, cap: int
) -> tuple[Choices, dict[str, int]]:
    """All choices of a window that can become scenes, in the order of their draw, and what was left out, by reason.

    An occasion gives one choice, drawn by (seed, scene_id); a user gives at most `cap`. `logged` takes clicks in
    impressions instead of interactions.
    """
    user, item, time, impression, counts = (_clicks if logged else _events)(tables, choice)
    low, high = (cuts.train, cuts.test) if split == "train" else (cuts.test, np.iinfo(np.int64).max)
    kept = (time >= low) & (time < high)
    counts["choices_in_window"] = int(kept.sum())
    kept, counts["item_not_yet_available"] = _narrow(kept, available_from(tables)[item] <= time, logged)
    kept, counts["too_little_history"] = _narrow(kept, occasions_before(tables.log, user, time) >= MIN_OCCASIONS)
    rows = np.flatnonzero(kept)
    choices = make_choices(tables, user[rows], item[rows], time[rows], impression[rows], seed)

    order = np.lexsort((choices.key, choices.time, choices.user))
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (np.diff(choices.user[order]) == 0) & (np.diff(choices.time[order]) == 0)
    counts["same_occasion"] = int(same.sum())

    drawn = np.sort(order[~same])
    drawn = drawn[np.argsort(choices.key[drawn], kind="stable")]
    by_user = np.argsort(choices.user[drawn], kind="stable")
    owner = choices.user[drawn][by_user]
    rank = np.empty(len(drawn), dtype=np.int64)
    rank[by_user] = np.arange(len(drawn)) - np.searchsorted(owner, owner, side="left")
    counts["over_user_cap"] = int((rank >= cap).sum())
    return choices.take(drawn[rank < cap]), counts


def make_choices(
    tables: Tables, user: np.ndarray, item: np.ndarray, time: np.ndarray, impression: np.ndarray, seed: int
) -> Choices:
    """Choices of given users, items and times (row numbers and UTC milliseconds), with ids, keys and peers."""
    user_ids, item_ids = tables.users["user_id"].to_list(), tables.items["item_id"].to_list()
    shown = tables.impressions["impression_id"].to_list() if tables.impressions is not None else []
    ids = [
        scene_id(tables.domain.name, user_ids[u], item_ids[i], t, shown[row] if row >= 0 else "")
        for u, i, t, row in zip(user.tolist(), item.tolist(), time.tolist(), impression.tolist(), strict=True)
    ]
    scene_ids = np.array(ids, dtype="S16")
    log = tables.log
    first = log.by_user.start[user] + log.by_user.count(user, log.position(time))
    length = log.by_user.start[user] + log.by_user.count(user, log.position(time + 1)) - first
    row, index = ragged_ranges(first, length)
    peers = log.item[log.by_user.events[index]]
    other = peers != item[row]
    start = np.concatenate([[0], np.cumsum(np.bincount(row[other], minlength=len(user)))])
    return Choices(user, item, time, scene_ids, scene_keys(seed, scene_ids), start, peers[other], impression)


def available_from(tables: Tables) -> np.ndarray:
    """When each item came to exist, ascending: `(items,)`, int64."""
    return tables.items["available_from"].to_numpy()


def _narrow(kept: np.ndarray, condition: np.ndarray, skip: bool = False) -> tuple[np.ndarray, int]:
    """The mask under one more condition, and how many rows that took away."""
    if skip:
        return kept, 0
    return kept & condition, int((kept & ~condition).sum())


def _events(tables: Tables, choice: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    rows = np.flatnonzero(qualifying(tables, choice))
    log = tables.log
    return log.user[rows], log.item[rows], log.time[rows], np.full(len(rows), -1), {}


def _clicks(tables: Tables, choice: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    if tables.impressions is None:
        raise UserError(f"exposure 'logged': {tables.domain.name} has no impressions; use natural, hard or retrieved")
    frame = tables.impressions.with_row_index("row")
    single = frame.filter((pl.col("clicked").list.len() == 1) & (pl.col("items").list.len() >= 2))
    counts = {"not_one_click": len(frame) - len(single)}
    known = single.with_columns(item_id=pl.col("clicked").list.first())
    known = known.join(tables.users.select("user_id").with_row_index("user"), on="user_id", maintain_order="left")
    known = known.join(tables.items.select("item_id").with_row_index("item"), on="item_id", maintain_order="left")
    counts["unknown_user_or_item"] = len(single) - len(known)
    columns = (known[name].to_numpy() for name in ("user", "item", "timestamp", "row"))
    user, item, time, row = columns
    return user.astype(np.int32), item.astype(np.int32), time, row.astype(np.int64), counts
