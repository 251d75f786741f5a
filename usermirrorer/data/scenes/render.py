"""Scenes as text: profile, history and options, from the domain's templates, column by column."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.schema import list_column
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.as_of import DAY_MS, option_values
from usermirrorer.data.sources import Domain
from usermirrorer.data.sources.templates import field_names, fill, fill_lines


HISTORY_MIN, HISTORY_MAX = 2, 10
"""The number of history entries shown is drawn uniformly from this range (paper, section 3)."""

UNDATED = -1
"""In place of how long ago an event was, if it is only known to precede all others."""

_UNITS = ((365 * DAY_MS, "year"), (30 * DAY_MS, "month"), (DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"))


def time_differences(milliseconds: np.ndarray) -> pl.Series:
    """Times in their largest whole unit, as in `3 days ago`; below a minute, `just now`: `(times,)`."""
    texts = np.full(len(milliseconds), "just now", dtype=object)
    left = milliseconds >= _UNITS[-1][0]
    for length, unit in _UNITS:
        here = left & (milliseconds >= length)
        counts, which = np.unique(milliseconds[here] // length, return_inverse=True)
        words = np.array([f"{n} {unit}{'s' if n > 1 else ''} ago" for n in counts.tolist()], dtype=object)
        texts[here] = words[which] if len(words) else []
        left &= ~here
    return pl.Series(texts, dtype=pl.String)


def render(
    tables: Tables, user: np.ndarray, time: np.ndarray, history_len: np.ndarray, options: pa.ListArray
) -> pa.StructArray:
    """Texts {profile, history, action_list} of scenes: `(scenes,)`.

    `user` (rows of the users table), `time` (of the choice), `history_len` (entries to show at most) and `options`
    (from `option_texts`) are `(scenes,)`.
    """
    people, person = np.unique(user, return_inverse=True)
    shown = tables.users[people]
    profiles = fill_lines(tables.domain.profile, shown.to_dict(), len(people))[person]
    history = _histories(tables, user, time, history_len)
    columns = [profiles.to_arrow().cast(pa.string()), history.to_arrow().cast(pa.string()), options]
    return pa.StructArray.from_arrays(columns, names=["profile", "history", "action_list"])


def option_texts(
    tables: Tables, item: np.ndarray, count: np.ndarray, time: np.ndarray, user: np.ndarray
) -> pa.ListArray:
    """Texts of the options of lists: `(lists,)`.

    `item` holds the options of all lists in order, `(sum of count,)`; `count`, `time` (as of when options are
    described) and `user` (whose friends count) are `(lists,)`.
    """
    row = np.repeat(np.arange(len(count)), count)
    values = {"item": tables.items["text"][item], **option_values(tables, user[row], item, time[row])}
    return list_column(fill(tables.domain.option, values, len(item)).to_arrow().cast(pa.string()), count)


def history_texts(domain: Domain, columns: Mapping[str, pl.Series], item: pl.Series, ago: np.ndarray) -> pl.Series:
    """Entries of a history, one line each: `(events,)`.

    `columns` are the event columns that the domain shows, `item` the texts of the items, and `ago` how long ago each
    event was in ms, `UNDATED` if that is not known: `(events,)` each.
    """
    values: dict[str, pl.Series | np.ndarray | str] = {**columns, "event": domain.event, "item": item}
    if "time_diff" in field_names(domain.history):
        values["time_diff"] = time_differences(ago).zip_with(pl.Series(ago != UNDATED), pl.Series(["earlier"]))
    return fill(domain.history, values, len(ago))


def _histories(tables: Tables, user: np.ndarray, time: np.ndarray, history_len: np.ndarray) -> pl.Series:
    """The last `history_len` events of each user before each time, oldest first, one per line: `(scenes,)`."""
    log = tables.log
    before = log.by_user.count(user, log.position(time))
    length = np.minimum(history_len, before)
    scene, rows = log.by_user.between(user, before - length, before)
    shown = field_names(tables.domain.history).intersection(tables.event_columns.columns)
    entries = history_texts(
        tables.domain,
        {name: tables.event_columns[name][rows] for name in shown},
        tables.items["text"][log.item[rows]],
        np.where(rows >= tables.undated, time[scene] - log.time[rows], UNDATED),
    )
    offsets = pa.array(np.append(0, np.cumsum(length)), pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, entries.to_arrow().cast(pa.large_string()))
    return pl.Series(lists, dtype=pl.List(pl.String)).list.join("\n")
