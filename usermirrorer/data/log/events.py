"""A log of interactions as arrays in time order, with the lookups that answer "as of a time"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Log:
    """Events ordered by (time, user, item). Users and items are row numbers in their tables."""

    user: np.ndarray
    """int32 `(events,)`"""
    item: np.ndarray
    """int32 `(events,)`"""
    time: np.ndarray
    """int64 `(events,)`, UTC milliseconds, floored to the domain's clock: equal times are one occasion"""
    users: int
    items: int

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: np.ndarray) -> Log:
        """The log of the selected events (a boolean mask or ascending row numbers)."""
        return Log(self.user[rows], self.item[rows], self.time[rows], self.users, self.items)

    def before(self, time: int) -> Log:
        """The log of events before `time`."""
        return self.take(np.arange(self.position(np.array([time]))[0]))

    def with_new_items(self, count: int) -> Log:
        """The same events over a catalogue with `count` further items, which nobody had yet."""
        log = Log(self.user, self.item, self.time, self.users, self.items + count)
        # The events are the same, and sorting those of a long log again would take seconds.
        vars(log).update(by_user=self.by_user, by_item=self.by_item.with_empty(count))
        return log

    def position(self, times: np.ndarray) -> np.ndarray:
        """Number of events before each time: `(queries,)`."""
        return np.searchsorted(self.time, times, side="left")

    @cached_property
    def by_user(self) -> Grouped:
        return Grouped.of(self.user, self.users)

    @cached_property
    def by_item(self) -> Grouped:
        return Grouped.of(self.item, self.items)

    @cached_property
    def seen(self) -> Seen:
        return Seen.of(self)

    @cached_property
    def occasions_before_event(self) -> np.ndarray:
        """Number of earlier occasions of each event's user: int32 `(events,)`."""
        grouped = self.by_user
        owner = self.user[grouped.events]
        first = starts_of_runs(owner, self.time[grouped.events])
        ordinal = np.cumsum(first, dtype=np.int32)
        counts = np.empty(len(self), dtype=np.int32)
        # A user's first event has the ordinal of that user's first occasion.
        counts[grouped.events] = ordinal - ordinal[grouped.start[owner]]
        return counts

    @cached_property
    def first_of_pair(self) -> np.ndarray:
        """Whether each event is its user's first with its item: bool `(events,)`."""
        first = np.zeros(len(self), dtype=bool)
        first[self.seen.first_event] = True
        return first


@dataclass(frozen=True)
class Grouped:
    """Events listed group by group (one per user or per item), each group in time order."""

    events: np.ndarray
    """int32 `(events,)`: row numbers in the log"""
    start: np.ndarray
    """int64 `(groups + 1,)`: where each group begins in `events`"""
    key: np.ndarray
    """int64 `(events,)`: group × (events + 1) + row number, ascending"""

    @staticmethod
    def of(group: np.ndarray, groups: int) -> Grouped:
        events = np.argsort(group, kind="stable").astype(np.int32)
        start = np.zeros(groups + 1, dtype=np.int64)
        np.cumsum(np.bincount(group, minlength=groups), out=start[1:])
        return Grouped(events, start, group[events].astype(np.int64) * (len(group) + 1) + events)

    def with_empty(self, count: int) -> Grouped:
        """The same groups, and after them `count` groups without events."""
        return Grouped(self.events, np.append(self.start, np.repeat(self.start[-1:], count)), self.key)

    def count(self, group: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Number of events of each group before each position in the log; both `(queries, …)`."""
        wanted = group.astype(np.int64) * (len(self.events) + 1) + np.maximum(position, 0)
        return np.searchsorted(self.key, wanted, side="left") - self.start[group]

    def between(self, group: np.ndarray, first: np.ndarray | int, until: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Events number `first` to `until` - 1 of each group, flattened: row of the query, and row in the log."""
        row, index = ragged_ranges(self.start[group] + first, until - first)
        return row, self.events[index]


@dataclass(frozen=True)
class Seen:
    """The first and last event of each (user, item) pair."""

    pair: np.ndarray
    """int64 `(pairs,)`, ascending: user × items + item"""
    first_event: np.ndarray
    """int32 `(pairs,)`: row in the log; the same for `last_event`"""
    last_event: np.ndarray
    time: np.ndarray
    """int64 `(events,)`: times of the log"""
    items: int

    @staticmethod
    def of(log: Log) -> Seen:
        pair = log.user.astype(np.int64) * log.items + log.item
        order = np.argsort(pair, kind="stable").astype(np.int32)
        pair = pair[order]
        begin = np.flatnonzero(np.diff(pair, prepend=-1))
        end = np.append(begin, len(order))[1:] - 1
        return Seen(pair[begin], order[begin], order[end], log.time, log.items)

    def before(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether the user had an event with the item before the time; arrays broadcast together."""
        at, known = self._find(user, item)
        return known & (self.time[self.first_event[at]] < time)

    def ever(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether the user has an event with the item at any time; arrays broadcast together."""
        return self._find(user, item)[1]

    def after(self, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether the user has an event with the item after the time; arrays broadcast together."""
        at, known = self._find(user, item)
        return known & (self.time[self.last_event[at]] > time)

    def _find(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = user.astype(np.int64) * self.items + item
        at = np.minimum(np.searchsorted(self.pair, wanted), max(len(self.pair) - 1, 0))
        return at, (self.pair[at] == wanted) if len(self.pair) else np.zeros(wanted.shape, dtype=bool)


def starts_of_runs(*columns: np.ndarray) -> np.ndarray:
    """Whether each row differs from the previous one in any column: bool `(rows,)`."""
    first = np.ones(len(columns[0]), dtype=bool)
    first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return first


def runs(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal values begins, `(runs,)`, and each row's run, `(rows,)`."""
    first = starts_of_runs(column)
    return np.flatnonzero(first), np.cumsum(first) - 1


def one_of_occasion(user: np.ndarray, time: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Of rows in time order, the one with the smallest key for each (user, time): ascending row numbers."""
    order = np.argsort(user, kind="stable")
    first = starts_of_runs(user[order], time[order])
    least = np.minimum.reduceat(key[order], np.flatnonzero(first))
    return np.sort(order[key[order] == least[np.cumsum(first) - 1]])


def ragged_ranges(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ranges `start[row] … start[row] + length[row] - 1`, flattened: row and index, `(sum of lengths,)` both."""
    rows = np.repeat(np.arange(len(length)), length)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    return rows, start[rows] + offsets
