"""Requests: a person and the items that they are offered, checked and rendered as a scene is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.as_of import NOBODY
from usermirrorer.data.scenes.render import HISTORY_MAX, option_texts, render
from usermirrorer.errors import UserError, closest, shorten
from usermirrorer.llm.prompts import LABELS, SceneText
from usermirrorer.simulate.evidence import ListEvidence
from usermirrorer.simulate.outside import (
    Event,
    Person,
    events,
    history_text,
    identifier,
    milliseconds,
    new_item,
    profile_text,
    unknown_id,
)


KEYS = ("user_id", "profile", "history", "items", "timestamp")
"""What a request given as a dictionary, or as a line of JSONL, may have."""

Item = str | int | Mapping[str, Any]
"""An id of the items table, or the values of an item that it does not have, `item_id` among them."""

Time = datetime | str | int
"""A datetime (UTC if it names no zone), ISO text, or milliseconds since 1970."""


@dataclass(frozen=True)
class Request:
    """One list offered to one person.

    `user` is an id of the users table or a `Person`. `at` is when: nothing later is shown, neither of the person nor
    of the items; by default it is just after the log and the person's own history.
    """

    user: str | int | Person
    items: Sequence[Item]
    at: Time | None = None


@dataclass(frozen=True)
class Offer:
    """A request as text. `items` names the options in order; `at` is in UTC milliseconds, None without a log."""

    user_id: str
    items: list[str]
    at: int | None
    text: SceneText


@dataclass(frozen=True)
class _Checked:
    """A valid request: `row` of the users table, and what is known of a person who is in none of its rows: profile and
    history as text, and for evidence the items chosen."""

    user_id: str
    row: int
    person: tuple[str, str]
    chosen: list[int]
    items: list[int | dict[str, Any]]
    ids: list[str]
    at: int


def as_request(given: Request | Mapping[str, Any]) -> Request:
    """A request as it is, or one from a dictionary: {user_id, items}, or {profile, history, items} outside the log.

    Both may have a `timestamp`; beside a profile or a history, `user_id` only names the person. Raises UserError.
    """
    if isinstance(given, Request):
        return given
    if not isinstance(given, Mapping):
        raise UserError(f"{shorten(repr(given))} is not a request; give {{user_id, items}}")
    for key in given:
        if key not in KEYS:
            hint = closest(str(key), KEYS, f"use {', '.join(KEYS)}")
            raise UserError(f"{shorten(str(key))!r} is no key of a request; {hint}")
    if "items" not in given:
        raise UserError("there are no items; give 2 or more")
    name, profile, history = (given.get(key) for key in ("user_id", "profile", "history"))
    if name is None and profile is None and history is None:
        raise UserError("there is neither a user_id nor a profile or a history; give who is asked")
    user: Any = name
    if profile is not None or history is not None:
        name = "" if name is None else identifier(name, "user_id")
        user = Person("" if profile is None else profile, () if history is None else history, name)
    return Request(user, given["items"], milliseconds(given.get("timestamp"), "timestamp"))


class Renderer:
    """The users and items of a log, for rendering requests about them, with `evidence` if its scenes have it."""

    def __init__(self, tables: Tables, evidence: ListEvidence | None = None) -> None:
        self.tables = tables
        self.evidence = evidence
        self.none = [tables.domain.none_of_these] if tables.domain.none_of_these else []
        self.users = {user: row for row, user in enumerate(tables.users["user_id"].to_list())}
        self.items = {item: row for row, item in enumerate(tables.items["item_id"].to_list())}

    def offers(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[Offer | UserError]:
        """Every request as text, or why it can't be one."""
        checked: list[_Checked | UserError] = []
        for given in requests:
            try:
                checked.append(self._checked(as_request(given)))
            except UserError as error:
                checked.append(error)
        texts = iter(self._texts([one for one in checked if isinstance(one, _Checked)]))
        return [
            one if isinstance(one, UserError) else Offer(one.user_id, one.ids + self.none, one.at, next(texts))
            for one in checked
        ]

    def _checked(self, request: Request) -> _Checked:
        tables, tick = self.tables, self.tables.domain.clock_ms
        after = int(tables.log.time[-1]) + tick
        row, past = NOBODY, list[Event]()
        if isinstance(request.user, Person):
            name, profile = request.user.user_id, profile_text(request.user.profile, tables)
            past = events(request.user.history, self.items, tables)
            after = max([after, *(event.time + tick for event in past[-1:] if event.time is not None)])
        else:
            name = identifier(request.user, "user")
            if name not in self.users:
                remedy = "for somebody outside the log give a profile and a history"
                raise unknown_id(name, tables.users["user_id"], "user", remedy)
            row, profile = self.users[name], ""
        at = milliseconds(request.at, "at")
        at = after if at is None else at // tick * tick
        begin, what = int(tables.log.time[0]), "the log begins"
        if self.evidence is not None:
            begin, what = self.evidence.cuts.train, "anything is known for the evidence that scenes show"
        if at < begin:
            raise UserError(f"at: {_day(at)} is before {what}, on {_day(begin)}; give a later time")
        items = self._items(request.items, at)
        ids = [one["item_id"] if isinstance(one, dict) else tables.items["item_id"][one] for one in items]
        if len(set(ids)) < len(ids):
            raise UserError(f"items: {next(i for i in ids if ids.count(i) > 1)!r} is there twice; give different ones")
        chosen = [] if self.evidence is None else self.evidence.chosen(past, at)
        return _Checked(name, row, (profile, history_text(past, at, tables)), chosen, items, ids, at)

    def _items(self, given: Any, at: int) -> list[int | dict[str, Any]]:
        """Rows of the items table, or the values of new items."""
        tables = self.tables
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            raise UserError(f"items: {shorten(repr(given))} is not a list; give ids")
        items: list[int | dict[str, Any]] = []
        for number, one in enumerate(given):
            where = f"items[{number}]"
            if isinstance(one, Mapping):
                row = new_item(one, at, tables, where)
                if row["item_id"] in self.items:
                    raise UserError(
                        f"{where}: {row['item_id']!r} is in the tables; give its id alone, or another item_id"
                    )
                released = row["available_from"]
                items.append(row)
            else:
                name = identifier(one, where)
                if name not in self.items:
                    remedy = "give a new item as a dictionary of its columns"
                    raise unknown_id(name, tables.items["item_id"], where, remedy)
                items.append(self.items[name])
                released = int(tables.released[self.items[name]])
            if released > at:
                raise UserError(
                    f"{where}: it exists from {_day(released)} on, after {_day(at)}; give a later timestamp"
                )
        most = len(LABELS) - len(self.none)
        if not 2 <= len(items) <= most:
            raise UserError(f"items: there are {len(items)}; give 2 to {most}")
        return items

    def _texts(self, requests: list[_Checked]) -> list[SceneText]:
        """Every request as text. A request's text does not depend on the others."""
        new = [one for request in requests for one in request.items if isinstance(one, dict)]
        tables = self.tables.with_new_items(pl.DataFrame(new)) if new else self.tables
        new_rows = iter(range(len(self.items), len(self.items) + len(new)))
        item = [next(new_rows) if isinstance(one, dict) else one for request in requests for one in request.items]
        user, at = (np.array([getattr(r, name) for r in requests], dtype=np.int64) for name in ("row", "at"))
        count = np.array([len(request.items) for request in requests], dtype=np.int64)
        options = option_texts(tables, np.array(item, dtype=np.int64), count, at, user)
        if self.evidence is not None and len(requests):
            table = np.full((len(count), count.max()), -1)
            table[np.arange(table.shape[1]) < count[:, None]] = item
            options = self.evidence.shown(options, table, user, at, [request.chosen for request in requests])
        inside = np.flatnonzero(user != NOBODY)
        shown = render(tables, user[inside], at[inside], np.full(len(inside), HISTORY_MAX), options.take(inside))
        of_users = iter(shown.to_pylist())
        texts: list[SceneText] = []
        for request, shown_items in zip(requests, options.to_pylist(), strict=True):
            profile, history = request.person
            if request.row != NOBODY:
                user_text = next(of_users)
                profile, history = user_text["profile"], user_text["history"]
            texts.append({"profile": profile, "history": history, "action_list": shown_items + self.none})
        return texts


def _day(time: int) -> str:
    """A time (UTC ms) as text, to the minute."""
    return str(np.datetime64(time, "ms").astype("datetime64[m]")).replace("T", " ")
