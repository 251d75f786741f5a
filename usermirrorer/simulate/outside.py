"""People and items that are not in the log, given as values: shown in the same words as those that are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.render import HISTORY_MAX, UNDATED, history_texts
from usermirrorer.data.sources.own.values import LATEST, MILLISECONDS_FROM, SECONDS_FROM
from usermirrorer.data.sources.readers.text import one_line
from usermirrorer.data.sources.templates import field_names, fill, fill_lines
from usermirrorer.errors import UserError, closest, shorten


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Person:
    """Somebody who is not in the log.

    `profile` has values for the columns of the domain's users table, or is the text to show. `history` has one row per
    event, as dictionaries or as a DataFrame (polars, pandas): `item_id`, `timestamp` (a datetime, ISO text or
    milliseconds since 1970; UTC; may be missing: the event is then older than all others) and the domain's event
    columns, such as a rating. `user_id` names the person in answers and in what is drawn for them.
    """

    profile: Mapping[str, Any] | str = ""
    history: Any = ()
    user_id: str = ""


@dataclass(frozen=True)
class Event:
    """A row of a person's history: where it stands, row of the items table, time (UTC ms), event columns."""

    where: str
    item: int
    time: int | None
    values: Mapping[str, Any]


def milliseconds(given: Any, where: str) -> int | None:
    """A datetime (UTC if it names no zone), ISO text or a number of ms as UTC ms; None, NaN and NaT stay unknown.

    Raises UserError that begins with `where` for anything else, and for a number that looks like seconds.
    """
    remedy = "give a datetime, ISO text or milliseconds since 1970"
    if given is None or given != given:
        return None
    value: Any = given
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[ms]").item()
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise UserError(f"{where}: {shorten(value)!r} is not a time; {remedy}") from None
    if isinstance(value, datetime):
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, date):
        return (value - EPOCH.date()) // timedelta(milliseconds=1)
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        number: Any = value
        if SECONDS_FROM <= abs(number) < MILLISECONDS_FROM:
            raise UserError(f"{where}: {number} looks like seconds since 1970; {remedy}")
        if abs(number) <= LATEST:
            return math.floor(number)
    raise UserError(f"{where}: {shorten(repr(value))} is not a time; {remedy}")


def identifier(value: Any, where: str) -> str:
    """An id as text; a whole number is written in decimal. Raises UserError that begins with `where`."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{where}: {shorten(repr(value))} is not an id; give it as text")


def unknown_id(value: str, known: pl.Series, where: str, otherwise: str) -> UserError:
    """The error for an id that is not in a table, with the nearest one that is, if there is any."""
    same = known.filter(known.str.strip_chars_start("0") == value.lstrip("0"))  # a table program took it for a number
    # A table may have millions of ids: only those that begin or end alike are compared.
    begins_alike, ends_alike = known.str.starts_with(value[:2]), known.str.ends_with(value[-2:])
    alike = (begins_alike | ends_alike) & known.str.len_chars().cast(pl.Int64).is_between(
        len(value) - 2, len(value) + 2
    )
    hint = f"did you mean {same[0]}?" if len(same) else closest(value, known.filter(alike)[:500], otherwise)
    return UserError(f"{where}: {shorten(value)!r} is not in the tables; {hint}")


def events(history: Any, items: Mapping[str, int], tables: Tables) -> list[Event]:
    """A person's history in the order of the log: undated events first, as given, then by time and item.

    Times are floored to the domain's clock, and equal rows count once, as in `prepare`. Raises UserError naming the
    row.
    """
    tick, columns = tables.domain.clock_ms, tables.event_columns
    known = ["item_id", "timestamp", *columns.columns]
    undated: list[Event] = []
    dated: dict[tuple[int, str], Event] = {}
    for number, row in enumerate(_rows(history)):
        where = f"history[{number}]"
        _check_names(row, known, where, aside=("user_id", "scene_id"))
        if row.get("item_id") is None:
            raise UserError(f"{where}: there is no item_id; every row needs one")
        item = identifier(row["item_id"], f"{where} item_id")
        if item not in items:
            raise unknown_id(item, tables.items["item_id"], f"{where} item_id", "leave the row out")
        time = milliseconds(row.get("timestamp"), f"{where} timestamp")
        if time is None:
            undated.append(Event(where, items[item], None, row))
        else:
            time = time // tick * tick
            dated.setdefault((time, item), Event(where, items[item], time, row))
    return undated + [dated[key] for key in sorted(dated)]


def history_text(past: Sequence[Event], at: int, tables: Tables) -> str:
    """The last events before `at` (UTC ms), as many as scenes show at most, one line each.

    Raises UserError for a value that the event column does not take.
    """
    shown = [event for event in past if event.time is None or event.time < at][-HISTORY_MAX:]
    if not shown:
        return ""
    where, kinds = [event.where for event in shown], tables.event_columns.schema
    columns = {
        name: typed([event.values.get(name) for event in shown], kinds[name], [f"{row} {name}" for row in where])
        for name in field_names(tables.domain.history).intersection(kinds)
    }
    ago = np.array([UNDATED if event.time is None else at - event.time for event in shown])
    item = tables.items["text"][[event.item for event in shown]]
    return "\n".join(history_texts(tables.domain, columns, item, ago))


def profile_text(profile: Mapping[str, Any] | str, tables: Tables) -> str:
    """The profile as text. Raises UserError for a column that the domain's users do not have."""
    if isinstance(profile, str):
        return profile
    if not isinstance(profile, Mapping):
        raise UserError(f"profile: {shorten(repr(profile))} is neither text nor a dictionary; give one of these")
    users = tables.users
    _check_names(profile, [name for name in users.columns if name != "user_id"], "profile", aside=("user_id",))
    return fill_lines(tables.domain.profile, _values(profile, tables.domain.profile, users, tables, "profile"), 1)[0]


def new_item(values: Mapping[str, Any], at: int, tables: Tables, where: str) -> dict[str, Any]:
    """A row of the items table for an item that it does not have: `item_id`, `available_from`, `dated`, `text`.

    Without a release date it is as new as an item of the log before its first event. Raises UserError.
    """
    items, template = tables.items, tables.domain.item
    known = [name for name in items.columns if name not in ("text", "dated")]
    _check_names(values, known, where)
    if values.get("item_id") is None:
        raise UserError(f"{where}: there is no item_id; give the new item one, to find it in the answer")
    released = milliseconds(values.get("available_from"), f"{where} available_from")
    columns = _values(values, template, items, tables, where)
    if all(column.is_null().all() for column in columns.values()):
        raise UserError(f"{where}: nothing is known of it; give {', '.join(sorted(columns))}")
    return {
        "item_id": identifier(values["item_id"], f"{where} item_id"),
        "available_from": at if released is None else released,
        "dated": released is not None,
        "text": fill(template, columns, 1)[0],
    }


def typed(values: Sequence[Any], kind: pl.DataType, where: Sequence[str]) -> pl.Series:
    """Values as the tables hold them: texts on one line, lists joined by commas, numbers; NaN is unknown.

    A column of whole numbers takes fractions too. `where` names the places, for the UserError that a value of another
    kind raises.
    """
    read = _text if kind in (pl.String, pl.Null) else _number if kind.is_numeric() else partial(_of_type, kind)
    known: list[Any] = []
    for value, place in zip(values, where, strict=True):
        try:
            known.append(None if value is None or value != value else read(value))
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            name = {_text: "text", _number: "a number"}.get(read, f"of type {kind}")
            raise UserError(f"{place}: {shorten(repr(value))} is not {name}; give one, or None") from None
    if read is _text:
        return pl.DataFrame({"text": pl.Series(known, dtype=pl.String)}).select(one_line(pl.col("text"))).to_series()
    if read is _number:
        whole = kind.is_integer() and all(number is None or number.is_integer() for number in known)
        return pl.Series(known, dtype=pl.Float64).cast(pl.Int64 if whole else pl.Float64)
    return pl.Series(known, dtype=kind)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if not isinstance(value, (str, int, float, date, np.generic)):
        raise TypeError
    return str(value)


def _number(value: Any) -> float:
    number = float(value)
    if abs(number) >= 2**53:
        raise OverflowError
    return number


def _of_type(kind: pl.DataType, value: Any) -> Any:
    return pl.Series([value], dtype=kind)[0]


def _values(
    given: Mapping[str, Any], template: str, table: pl.DataFrame, tables: Tables, where: str
) -> dict[str, pl.Series]:
    """The columns that a template shows, one row. Raises UserError for an end-of-crawl value that the log hides."""
    for name in tables.domain.snapshots:
        if given.get(name) is not None and name in table.columns and table[name].is_null().all():
            raise UserError(
                f"{where} {name}: the tables hide this end-of-crawl value; leave it out, or `prepare --snapshot`"
            )
    return {name: typed([given.get(name)], table.schema[name], [f"{where} {name}"]) for name in field_names(template)}


def _check_names(given: Mapping[str, Any], known: Sequence[str], where: str, aside: Iterable[str] = ()) -> None:
    for name in given:
        if name not in known and name not in aside:
            hint = closest(str(name), known, f"use {', '.join(known)}" if known else "leave it out")
            raise UserError(f"{where}: {shorten(str(name))!r} is no column of the log; {hint}")


def _rows(history: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a list of dictionaries or of a DataFrame."""
    remedy = "give a list of dictionaries or a DataFrame"
    if hasattr(history, "__arrow_c_stream__") or hasattr(history, "__dataframe__"):
        return pl.DataFrame(history).to_dicts()
    if isinstance(history, (str, bytes, Mapping)) or not isinstance(history, Iterable):
        raise UserError(f"history: {shorten(repr(history))} is not a list of rows; {remedy}")
    rows = list(history)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"history[{number}]: {shorten(repr(row))} is not a row; {remedy}")
    return rows
