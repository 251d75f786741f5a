"""Values of options as of a time: counts, means, daily statistics, labels, friends. The future is never used.

In groups the time is that of the group's earliest choice: counts as of a member's own time would hold the other
members' choices and not the member's own, which would give it away.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from usermirrorer.data.log.tables import FIXED_POINT, Tables


NEW_RELEASE_DAYS = 365
DAY_MS = 86_400_000

NOBODY = -1
"""In place of a row of the users table: a person who is not in it, and of whose friends nothing is known."""


def option_values(
    tables: Tables, user: np.ndarray, item: np.ndarray, time: np.ndarray
) -> dict[str, pl.Series | np.ndarray]:
    """Every `as_of` value of the domain for options (user, item, time), null or NaN if unknown: `(options,)` each."""
    return {name: _value(tables, how, user, item, time) for name, how in tables.domain.as_of.items()}


def user_free_numbers(tables: Tables, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> dict[str, np.ndarray]:
    """The numeric `as_of` values that say nothing about the user, for the probe: float64 `(options,)` each."""
    kinds = {name: how for name, how in tables.domain.as_of.items() if how != "friends"}
    series = {name: pl.Series(_value(tables, how, user, item, time)) for name, how in kinds.items()}
    return {name: one.cast(pl.Float64).to_numpy() for name, one in series.items() if one.dtype.is_numeric()}


def depends_on_user(tables: Tables) -> bool:
    """Whether the text of an option says something about the user, so that people see one list in different words."""
    return "friends" in tables.domain.as_of.values()


def friends_before(tables: Tables, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Number of friends of each user (or NOBODY) with an event with the item before the time: float64 `(queries,)`."""
    if tables.friends is None:
        return np.zeros(len(user))
    known = np.flatnonzero(user != NOBODY)
    row, friend = tables.friends.of_users(user[known])
    row = known[row]
    had = tables.log.seen.before(friend, item[row], time[row])
    return np.bincount(row, weights=had, minlength=len(user))


def _value(tables: Tables, how: str, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> pl.Series | np.ndarray:
    kind, _, detail = how.partition(":")
    if kind == "new_release":
        age = time - tables.items["available_from"].to_numpy()[item]
        return pl.select(pl.when(pl.Series(age <= NEW_RELEASE_DAYS * DAY_MS)).then(pl.lit("New Release"))).to_series()
    if kind == "count":
        return _positive(tables.log.by_item.count(item, tables.log.position(time)))
    if kind == "mean":
        return _mean(tables, detail, item, time)
    if kind == "friends":
        return _positive(friends_before(tables, user, item, time))
    if kind == "latest" and tables.item_statistics is not None:
        return tables.item_statistics.latest(detail, item, time)
    if kind == "labels" and tables.item_labels is not None:
        return tables.item_labels.most_frequent("label", int(detail), item, time)
    raise ValueError(f"{tables.domain.name}: as_of {how!r} needs a table that the domain does not have")


def _positive(counts: np.ndarray) -> pl.Series:
    """Counts with null for zero: what has not happened yet is not shown."""
    whole = pl.Series(counts.astype(np.int64))
    return whole.set(whole <= 0, None)


def _mean(tables: Tables, column: str, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Mean of an event column over the item's earlier events, NaN if there are none: float64 `(queries,)`."""
    grouped = tables.log.by_item
    sums, known = tables.running_sums[column]
    begin = grouped.start[item]
    until = begin + grouped.count(item, tables.log.position(time))
    count = known[until] - known[begin]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums[until] - sums[begin]) / FIXED_POINT / count
