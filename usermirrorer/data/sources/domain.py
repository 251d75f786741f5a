"""What a source domain declares. A domain is data plus one reader; every later step is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from usermirrorer.data.sources.templates import placeholders
from usermirrorer.errors import UserError, unknown_name
from usermirrorer.steps import BUILT_EXPOSURES


FieldKind = Literal["static", "as_of", "snapshot"]
"""How a shown value relates to time: it never changes, is computed as of each scene, or dates from the crawl's end."""

ChoiceRules = Mapping[str, Callable[[float], pl.Expr]]
"""Name -> (value) -> which interactions count as choices."""

EVERY_EVENT: ChoiceRules = {"any": lambda _: pl.lit(True)}
MIN_RATING: ChoiceRules = {"min_rating": lambda value: (pl.col("rating") >= value).fill_null(False)}

HISTORY_VALUES = ("event", "item", "time_diff")
"""What rendering itself puts into a history entry."""


@dataclass(frozen=True)
class RawTables:
    """What a reader returns: one row per object, ids as strings, times as UTC milliseconds (Int64)."""

    users: pl.DataFrame
    items: pl.DataFrame
    """`item_id`, static columns, and `available_from` if it is known (null: from its first interaction on)"""
    interactions: pl.DataFrame
    """`user_id`, `item_id`, `timestamp` (null: undated, before all others, in row order), event columns"""
    impressions: pl.DataFrame | None = None
    """`impression_id`, `user_id`, `timestamp`, `items`, `clicked`"""
    friends: pl.DataFrame | None = None
    """`user_id`, `friend_id`"""
    item_statistics: pl.DataFrame | None = None
    """`item_id`, `timestamp`, numeric columns; values hold from their timestamp on"""
    item_labels: pl.DataFrame | None = None
    """`item_id`, `timestamp`, `label`: somebody gave the item this label at that time"""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of raw rows left out"""
    files: Mapping[str, str] = field(default_factory=dict)
    """Table -> name of the raw file that lists its rows; a warning about ids that one file lacks names both"""


@dataclass(frozen=True)
class Domain:
    """One source of interaction logs.

    Templates are format strings over the columns of the tables. A part in <angle brackets> is left out if one of its
    values is unknown, and so is a line of the profile. `item` may use static columns and snapshots of the item,
    `option` `{item}` and the names of `as_of`, `history` `{event}`, `{item}`, `{time_diff}` and event columns.
    """

    name: str
    title: str
    publisher: str
    licence: str
    raw_files: Mapping[str, str]
    """File name (with * for folders of several names) -> what it holds; empty for embedded domains."""
    read: Callable[[Path | None, int], RawTables]
    """(directory of raw files, seed for embedded domains) -> tables."""
    event: str
    """What an interaction was, as a verb in the past: rated, chose, tagged."""
    clock_ms: int
    """Resolution of the recorded times: a user's events within one tick are one occasion."""
    item: str
    history: str
    redistribute_text: bool = False
    option: str = "{item}"
    profile: str = ""
    """Empty if nothing is known about users."""
    optional: tuple[str, ...] = ()
    """Raw files that may be missing; the others are needed."""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """Names of raw files of which one is enough, the usual one first."""
    home: Path | None = None
    """Directory of the raw files if no other is given: that of your own YAML."""
    choice_rules: ChoiceRules = field(default_factory=lambda: EVERY_EVENT)
    """Which interactions count as choices; the first rule is the default and takes no value."""
    as_of: Mapping[str, str] = field(default_factory=dict)
    """Name in `option` -> how it is computed as of the scene: count, mean:COLUMN (of the events), latest:COLUMN (of
    the item statistics), labels:N, friends, new_release."""
    snapshots: tuple[str, ...] = ()
    """Shown columns whose values date from the end of the crawl: hidden unless `prepare --snapshot` asks for them."""
    numbers: tuple[str, ...] = ()
    """Static numeric item columns that a prompt shows: features of the exposure probe."""
    repeats: bool = False
    """Whether a user can choose the same item again; if not, items already chosen are never options."""
    exposures: tuple[str, ...] = BUILT_EXPOSURES
    """Modes that the log supports; the first is the default."""
    none_of_these: str = ""
    """A last option that `simulate` adds to every list, for people who may take nothing; scenes never show it."""

    @cached_property
    def fields(self) -> Mapping[str, FieldKind]:
        """Every value that a prompt may show: static columns as they are shown, then `as_of`, then `snapshots`."""
        item, profile, history = (
            [name for name, _ in placeholders(template)] for template in (self.item, self.profile, self.history)
        )
        events = [name for name in history if name not in HISTORY_VALUES]
        static = [name for name in (*item, *self.numbers, *profile, *events) if name not in self.snapshots]
        kinds: dict[str, FieldKind] = dict.fromkeys(static, "static")
        kinds.update(dict.fromkeys(self.as_of, "as_of"))
        kinds.update(dict.fromkeys(self.snapshots, "snapshot"))
        return kinds


def choice_rule(domain: Domain, choice: str) -> pl.Expr:
    """The expression behind `any` or `min_rating=4`. Raises UserError for a rule that the domain does not have."""
    name, _, value = choice.partition("=")
    if name not in domain.choice_rules:
        raise unknown_name(f"choice of {domain.name}", name, domain.choice_rules)
    try:
        return domain.choice_rules[name](float(value) if value else 0.0)
    except ValueError:
        raise UserError(f"choice {choice!r}: {value!r} is not a number; write for example {name}=4") from None
