"""Which column of your events is the user, which the item and which the time, by values and names, and why.

A column that joins another table counts more than a column's name. Where two columns are as good, or none is good
enough, nothing is guessed: the error says which option names the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.own.looks import (
    CATEGORY,
    IDENTIFIER,
    ITEM,
    PRICE,
    RATING,
    TIME,
    TITLE,
    USER,
    Look,
    listed,
)
from usermirrorer.data.sources.own.values import as_times
from usermirrorer.errors import UserError, closest


JOINED = 0.5
"""A column joins another table if at least this share of its values is in a column there."""

UNIQUE = 0.9
"""A column whose share of distinct values is lower holds no ids of its rows; reading names those that occur twice."""

FEW = 12
"""Columns of no more values hardly hold ids."""

LONGEST_ID = 64
"""Characters, on average."""

Table = tuple[Path, Sequence[Look]]


@dataclass(frozen=True)
class Role:
    """A column of the events, the column of another table that it names rows of, and why it was taken."""

    column: Look
    why: str
    other: Look | None = None
    share: float = 0.0
    """Of the column's values, those that are in the other column."""
    points: int = 0


def find_ids(events: Table, others: Mapping[str, Table], asked: Mapping[str, str]) -> dict[str, Role]:
    """The roles `item` and `user`, whose tables may be among `others`; `asked` names columns that are settled.

    Raises UserError, naming the option that helps, if one is not clear.
    """
    path, looks = events
    settled = {role: _called(looks, name, path) for role, name in asked.items()}
    ranked: dict[str, list[Role]] = {}
    for role in ("item", "user"):
        free = [look for look in looks if look not in settled.values() and _repeats(look)]
        found = [settled[role]] if role in settled else free
        ranked[role] = sorted((_judged(look, role, others.get(role)) for look in found), key=lambda one: -one.points)
    roles: dict[str, Role] = {}
    # The surer one first: a column has one role.
    for role in sorted(ranked, key=lambda role: (role not in settled, -ranked[role][0].points if ranked[role] else 0)):
        left = [one for one in ranked[role] if one.column not in [other.column for other in roles.values()]]
        roles[role] = _best(role, left, path, role in settled)
        if role in others and (roles[role].share < JOINED if role not in settled else not roles[role].share):
            best = max(left, key=lambda one: one.share)
            raise UserError(
                f"{path}: no column names the rows of {others[role][0]}: the nearest is {best.column.name}, of whose "
                f"values {best.share:.0%} are there; write ids alike in both files, or pass --{role} COLUMN"
            )
    return roles


def find_time(events: Table, table: pl.DataFrame, asked: str = "") -> Role:
    """The column of times. Raises UserError if there is none, if several are as good, or if a value is not a time."""
    path, looks = events
    if asked:
        look = _called(looks, asked, path)
        as_times(table, asked, path, "")
        return Role(look, "you said so")
    found = [look for look in looks if look.times is not None]
    if not found:
        for look in looks:
            if look.named(TIME) and look.kind in ("text", "number"):
                as_times(table, look.name, path, "")
        raise UserError(
            f"{path}: no column holds times, and scenes need to know when each event was; export the times too (there "
            f"are {listed(looks)})"
        )
    if len(found) == 1:
        return Role(found[0], "the only column of times")
    points = {look.name: 2 * look.named(TIME) + _has_clock(look) for look in found}
    best = [look for look in found if points[look.name] == max(points.values())]
    if len(best) > 1:
        raise UserError(f"{path}: {_either(best)} are both times; say which is the event's with --time {best[0].name}")
    others = listed([look for look in found if look is not best[0]])
    return Role(best[0], f"rather than {others}, by its name or because it has the time of day")


def _has_clock(look: Look) -> bool:
    assert look.times is not None
    return bool((look.times.drop_nulls() % 86_400_000 != 0).any())


def _called(looks: Sequence[Look], name: str, path: Path) -> Look:
    for look in looks:
        if look.name == name:
            return look
    names = [look.name for look in looks]
    raise UserError(f"{path}: there is no column {name!r}; {closest(name, names, f'it has {listed(looks)}')}")


def _repeats(look: Look) -> bool:
    """Whether a column could hold ids of users or items: the same value in several events."""
    if look.kind not in ("text", "number") or not 1 < look.distinct < len(look.known) or look.length > LONGEST_ID:
        return False
    whole = look.kind == "text" or bool((look.numbers == look.numbers.round()).all())
    return whole and not look.named(RATING | PRICE)


def _judged(look: Look, role: str, other: Table | None) -> Role:
    """The column with the points that speak for this role, at least one of which is needed."""
    words, against = (ITEM, USER) if role == "item" else (USER, ITEM)
    joined, share = _join(look, other[1]) if other else (None, 0.0)
    joins = joined is not None and share >= JOINED
    points = 2 * look.named(words) - 3 * look.named(against) + (joins and (4 if look.distinct > FEW else 1))
    if points > 0:
        points += look.named(IDENTIFIER) - look.named(TITLE | CATEGORY)
        points += joined is not None and joins and joined.name == look.name
    why = "its name says so"
    if other and joined is not None and joins:
        why = f"{share:.0%} of its values are in {other[0].name}: {joined.name}"
    return Role(look, why, joined, share, points)


def _join(look: Look, columns: Sequence[Look]) -> tuple[Look | None, float]:
    """The column of ids of another table that holds most of these values, and the share it holds."""
    values = look.known.unique()
    ids = [other for other in columns if other.distinct and other.distinct >= UNIQUE * len(other.known)]
    if not ids or not len(values):
        return None, 0.0
    shares = [float(values.is_in(other.known.implode()).mean() or 0) for other in ids]  # type: ignore[arg-type]
    best = max(range(len(ids)), key=lambda i: (shares[i], ids[i].name == look.name, ids[i].named(IDENTIFIER)))
    return ids[best], shares[best]


def _best(role: str, ranked: Sequence[Role], path: Path, settled: bool) -> Role:
    if settled:
        if not ranked:
            raise UserError(f"{path}: one column can't be both user and item; pass another with --{role}")
        return replace(ranked[0], why="you said so")
    top = [one for one in ranked if one.points == ranked[0].points] if ranked else []
    if len(top) == 1 and top[0].points > 0:
        return top[0]
    if not top or top[0].points <= 0:
        top = [one for one in ranked if one.points == 0 and one.column.distinct > FEW]
        if len(top) == 1:
            return replace(top[0], why="the only other column whose values repeat as ids do")
    if not top:
        raise UserError(f"{path}: no column looks like the {role}; say which it is with --{role} COLUMN")
    columns = [one.column for one in top]
    raise UserError(f"{path}: {_either(columns)} could each be the {role}; say which with --{role} {columns[0].name}")


def _either(columns: Sequence[Look]) -> str:
    names = [column.name for column in columns]
    return f"{', '.join(names[:-1])} and {names[-1]}"
