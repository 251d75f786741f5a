"""A domain from a short YAML beside your files, without Python. `docs/your_own_log.md` walks through one.

    name: shop                                           # names what is made of it
    format: table                                        # or recbole, interchange
    tables: {events: events.csv, items: products.csv}    # beside the YAML, or under --raw
    event: bought                                        # what an interaction was, in the past tense
    item: "{title} - {category}"                         # how an item is shown

Everything else has a default: see `DomainSettings`; `choice_rules.py` says how a choice is written.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

from usermirrorer.data.sources.domain import HISTORY_VALUES, Domain
from usermirrorer.data.sources.own.choice_rules import Rule, parse_rule
from usermirrorer.data.sources.own.columns import OwnLog
from usermirrorer.data.sources.own.interchange import interchange_paths, read_interchange
from usermirrorer.data.sources.own.recbole import read_recbole
from usermirrorer.data.sources.own.tables import read_own_tables
from usermirrorer.data.sources.own.templates import check_optional, check_template, column_kinds
from usermirrorer.data.sources.own.values import Kind, Unit
from usermirrorer.settings import Places, closest, parse_settings, read_settings
from usermirrorer.steps import BUILT_EXPOSURES


RESERVED = ("user_id", "item_id", "timestamp", "available_from", "dated", "text", "line", "dataset")
"""Names that the tables use themselves."""

TABLES = ("events", "items", "users")
"""What `format: table` reads; only the events are needed."""

_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class DomainSettings:
    """What the YAML may say, and the defaults."""

    name: str
    format: Literal["table", "interchange", "recbole"]
    event: str
    item: str
    option: str = "{item}"
    history: str = "{event} {item}, {time_diff}"
    profile: str = ""
    as_of: dict[str, str] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=lambda: {"any": "any"})
    numbers: list[str] = field(default_factory=list)
    fields: dict[str, Literal["static", "snapshot"]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    files: str = ""
    timestamps: Unit = ""
    clock: str = "1s"
    repeats: bool = False
    exposures: list[str] = field(default_factory=lambda: list(BUILT_EXPOSURES))
    none_of_these: str = ""
    title: str = ""
    publisher: str = "your own log"
    licence: str = "not stated"
    redistribute_text: bool = False


def load_yaml_domain(path: Path) -> Domain:
    """The domain of a YAML file. Raises UserError with file:line for a wrong key, value or template."""
    return _domain(*read_settings(DomainSettings, path, "domain YAML"))


def parse_yaml_domain(text: str, source: str) -> Domain:
    """The domain that YAML text describes; `source` stands for the file in errors."""
    return _domain(*parse_settings(DomainSettings, text, source, "domain YAML"))


def _domain(given: DomainSettings, places: Places) -> Domain:
    """The domain of these settings. Raises UserError for a value, template or choice rule that is not valid."""
    refuse = places.refuse
    _check_values(given, refuse)
    try:
        for key in ("item", "option", "history", "profile"):
            check_template(getattr(given, key), one_line=key != "profile")
        snapshots = [name for name, kind in given.fields.items() if kind == "snapshot"]
        for key, names in (("item", snapshots), ("option", list(given.as_of))):
            check_optional(getattr(given, key), names)
    except ValueError as error:
        refuse(key, str(error))
    item, users = column_kinds(given.item, ("item_id",)), column_kinds(given.profile, ("user_id",))
    _check_as_of(given.as_of, set(column_kinds(given.option, ("item",))), refuse)
    rules, compared = _choice_rules(given.choices, refuse)
    averaged = [how.partition(":")[2] for how in given.as_of.values() if how.startswith("mean:")]
    history = column_kinds(given.history, HISTORY_VALUES)
    event_columns = _merged([history, *compared, dict.fromkeys(averaged, "number")], "choices", refuse)
    items = _merged([item, dict.fromkeys(given.numbers, "number")], "numbers", refuse)
    for column in given.numbers:
        if column not in item:
            refuse("numbers", f"{column!r} is not shown by `item`, which shows {', '.join(sorted(item)) or 'nothing'}")
    for column in sorted({*event_columns, *items, *users} & set(RESERVED)):
        refuse("columns", f"{column!r} is a reserved name; give your column another: `my_{column}: {column}`")
    for name in given.fields:
        if name not in {*items, *users}:
            refuse("fields", f"{name} is not shown; write static or snapshot for one of {', '.join([*items, *users])}")

    log = OwnLog(
        name=given.name, files=given.files or given.name, items=items, users=users, event_columns=event_columns,
        renamed=given.columns, timestamps=given.timestamps, impressions="logged" in given.exposures,
        tables=given.tables,
    )  # fmt: skip
    known = {*items, *users, *event_columns, "user_id", "item_id", "timestamp", "available_from"}
    unused = {*log.renamed} - known - {f"{table}.{name}" for table in given.tables for name in known}
    if unused:
        refuse("columns", f"nothing uses the name {sorted(unused)[0]!r}; write NAME_HERE: NAME_IN_THE_FILE")
    read = {"table": read_own_tables, "recbole": read_recbole, "interchange": read_interchange}[given.format]
    files = _raw_files(log, given.format)
    return Domain(
        name=log.name,
        title=given.title or log.name,
        publisher=given.publisher,
        licence=given.licence,
        redistribute_text=given.redistribute_text,
        raw_files=files,
        optional=() if users or given.tables else (list(files)[-1],),
        read=partial(read, log=log),
        event=given.event,
        choice_rules=rules,
        clock_ms=_clock(given.clock, refuse),
        item=given.item,
        option=given.option,
        history=given.history,
        profile=given.profile.rstrip("\n"),
        as_of=given.as_of,
        snapshots=tuple(snapshots),
        numbers=tuple(name for name, kind in items.items() if kind == "number"),
        repeats=given.repeats,
        exposures=tuple(given.exposures),
        none_of_these=" ".join(given.none_of_these.split()),
    )


Refuse = Callable[[str, str], NoReturn]
"""Raises UserError about the value of a key: (key, reason)."""


def _check_values(given: DomainSettings, refuse: Refuse) -> None:
    """Names, exposures and what must not be empty."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", given.name):
        refuse("name", f"{given.name!r} becomes the name of directories; use letters, digits, . _ and -")
    allowed = (*BUILT_EXPOSURES, *(("logged",) if given.format == "interchange" else ()))
    for exposure in given.exposures:
        if exposure not in allowed:
            refuse("exposures", f"{exposure!r} is not one of {', '.join(allowed)}")
    for table in given.tables:
        if table not in TABLES:
            refuse("tables", f"{table!r} is not one of {', '.join(TABLES)}")
    if (given.format == "table") != ("events" in given.tables):
        refuse("tables", "format: table, and no other, needs the file of the events; write {events: events.csv}")
    if given.tables and given.files:
        refuse("files", "the files are named in `tables`; delete this key")
    for key in ("event", "exposures", "choices"):
        if not getattr(given, key):
            refuse(key, "is empty; write at least one or leave the key out")


def _check_as_of(as_of: Mapping[str, str], option: set[str], refuse: Refuse) -> None:
    for name, how in as_of.items():
        if how not in ("count", "new_release") and not re.fullmatch(r"mean:[^\W\d][\w -]*", how):
            refuse("as_of", f"{name}: {how!r} cannot come from your log; write count, mean:COLUMN or new_release")
        if name not in option:
            refuse("as_of", f"{name!r} is not shown; write {{{name}}} in `option` or leave it out")
    for name in sorted(option - {*as_of}):
        otherwise = f"declare it, as in `as_of: {{{name}: count}}`; columns of the item belong in `item`"
        refuse("option", f"{{{name}}} is unknown; {closest(name, as_of, otherwise)}")


def _choice_rules(choices: Mapping[str, str], refuse: Refuse) -> tuple[dict[str, Rule], list[Mapping[str, Kind]]]:
    """The rules, and what each rule requires of the columns it uses."""
    rules: dict[str, Rule] = {}
    columns: list[Mapping[str, Kind]] = []
    for name, text in choices.items():
        try:
            rules[name], required, takes_value = parse_rule(text)
        except ValueError as error:
            refuse("choices", f"{name}: {text!r}: {error}")
        if takes_value and len(rules) == 1:
            refuse("choices", f"{name} is first, so it is the default, which takes no value; put another rule first")
        if not re.fullmatch(r"[\w-]+", name):
            refuse("choices", f"{name!r} is not a valid name; use letters, digits, _ and -")
        columns.append(required)
    return rules, columns


def _merged(demands: Sequence[Mapping[str, Kind]], key: str, refuse: Refuse) -> dict[str, Kind]:
    """What each column must hold to meet all demands."""
    kinds: dict[str, Kind] = {}
    for column, kind in itertools.chain.from_iterable(demand.items() for demand in demands):
        known = kinds.get(column, "any")
        if "any" not in (known, kind) and known != kind:
            refuse(key, f"{column} is used as {known} and as {kind}; use a separate column for one of them")
        kinds[column] = kind if known == "any" else known
    return kinds


def _clock(text: str, refuse: Refuse) -> int:
    found = re.fullmatch(rf"([1-9]\d{{0,8}})?({'|'.join(_UNITS)})", text)
    if not found:
        refuse("clock", f"{text!r} is not a length of time; write for example 1s, 1d or ms ({', '.join(_UNITS)})")
    return int(found[1] or 1) * _UNITS[found[2]]


def _raw_files(log: OwnLog, form: str) -> dict[str, str]:
    """File name -> its columns, for the files that are read; the one of users is last where it is optional."""
    if form == "table":
        columns = {
            "events": ("user_id", "item_id", "timestamp", *log.event_columns),
            "items": ("item_id", *log.items),
            "users": ("user_id", *log.users),
        }
        return {
            file: ", ".join(map(log.of(table).in_file, dict.fromkeys(columns[table])))
            for table, file in log.tables.items()
        }
    if form == "recbole":
        return {
            f"{log.files}.inter": "user_id:token, item_id:token, timestamp:float and more (tab)",
            f"{log.files}.item": "item_id:token and more (tab)",
            f"{log.files}.user": "user_id:token and more (tab)",
        }
    about = {
        "item": "item_id, item_description, item_features",
        "interaction": "user_id, item_id, timestamp, behavior_features",
        "impression": "impression_id, user_id, timestamp, items, clicked",
        "user": "user_id, user_description, user_features",
    }
    paths = interchange_paths(Path(), log.files)
    return {paths[table].name: columns for table, columns in about.items() if table != "impression" or log.impressions}
