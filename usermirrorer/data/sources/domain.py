"""What a source domain declares. A domain is data plus one reader; everything after it is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from usermirrorer.errors import UserError


FieldKind = Literal["static", "as_of", "snapshot"]
"""How a shown value relates to time: fixed for ever, recomputed as of each scene, or an end-of-crawl value."""


@dataclass(frozen=True)
class RawTables:
    """What a reader returns: one row an object, ids as strings, times as UTC milliseconds (Int64)."""

    users: pl.DataFrame
    items: pl.DataFrame
    """`item_id`, static columns, and `available_from` where it is known (null: from its first interaction on)"""
    interactions: pl.DataFrame
    """`user_id`, `item_id`, `timestamp` (null: undated, before everything else, in the order of rows), behaviour"""
    impressions: pl.DataFrame | None = None
    """`impression_id`, `user_id`, `timestamp`, `items`, `clicked`"""
    friends: pl.DataFrame | None = None
    """`user_id`, `friend_id`"""
    item_statistics: pl.DataFrame | None = None
    """`item_id`, `timestamp`, numeric columns; values hold from their timestamp on"""
    item_labels: pl.DataFrame | None = None
    """`item_id`, `timestamp`, `label`: somebody put this label on the item then"""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Raw rows left out, by reason"""


@dataclass(frozen=True)
class Domain:
    """One source of interaction logs.

    Templates are format strings over the columns of the tables. A part in <angle brackets> is left out where one of
    its values is not known, and so is a line of the profile. `item` may use static item columns; `option` `{item}`
    and the names of `as_of`; `history` `{event}`, `{item}`, `{time_diff}` and the behaviour columns of the
    interaction. An empty `profile`: nothing is known of the user.
    """

    name: str
    title: str
    publisher: str
    licence: str
    redistribute_text: bool
    raw_files: Mapping[str, str]
    """File name (with * where folders differ in name) -> what it holds; empty for embedded domains."""
    read: Callable[[Path | None, int], RawTables]
    """(directory of raw files, seed for embedded domains) -> tables."""
    event: str
    """What an interaction was, as a verb in the past: rated, chose, tagged."""
    choice_rules: Mapping[str, Callable[[float], pl.Expr]]
    """Which interactions count as choices; the first is the default and takes no value."""
    clock_ms: int
    """Resolution of the recorded times: a user's events within one tick are one occasion."""
    fields: Mapping[str, FieldKind]
    """Every value that a prompt may show."""
    item: str
    option: str
    history: str
    profile: str = ""
    as_of: Mapping[str, str] = field(default_factory=dict)
    """Name in `option` -> how it is made as of the scene: count, mean:COLUMN (of the behaviour), latest:COLUMN (of
    the item statistics), labels:N, friends, new_release."""
    numbers: tuple[str, ...] = ()
    """Static numeric item columns that a prompt shows: the exposure probe reads them."""
    repeats: bool = False
    """Whether one user can choose the same item again; if not, items already chosen are never options."""
    exposures: tuple[str, ...] = ("natural", "hard", "retrieved")
    """Modes that the log supports; the first is the default."""


def choice_rule(domain: Domain, choice: str) -> pl.Expr:
    """The expression behind `any` or `min_rating=4`. Raises UserError for a rule the domain does not have."""
    name, _, value = choice.partition("=")
    if name not in domain.choice_rules:
        known = ", ".join(domain.choice_rules)
        raise UserError(f"choice {choice!r}: {domain.name} knows {known}; write it as NAME or NAME=VALUE")
    try:
        return domain.choice_rules[name](float(value) if value else 0.0)
    except ValueError:
        raise UserError(f"choice {choice!r}: {value!r} is not a number; write for example {name}=4") from None
