"""A YAML drafted from your tables: every guess with its reason, and read once, so that `prepare` can run on it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.own.domain_yaml import parse_yaml_domain
from usermirrorer.data.sources.own.looks import Look, listed, look_at
from usermirrorer.data.sources.own.roles import Role, find_ids, find_time
from usermirrorer.data.sources.own.shown import OWN_NAMES, Shown, constant_for, show_event, show_item, show_profile
from usermirrorer.data.sources.own.table_files import read_table


REPEATS = 0.05
"""A larger share of events with an item that the user had before means that items are chosen again."""

RELEASED = 0.99
"""Share of the items whose first event must not be before their date, if the date says since when they exist."""

_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][\w./-]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Draft:
    """The YAML's text, what it reads, and what was guessed: one line each, as (what, how, why)."""

    text: str
    tables: RawTables
    guesses: list[tuple[str, str, str]]
    unused: dict[str, str]
    """File -> its columns that the YAML doesn't use."""


def draft(files: Mapping[str, Path], out: Path, name: str, asked: Mapping[str, str]) -> Draft:
    """The draft for the files of `events`, and of `items` and `users` if there are any, to be saved as `out`.

    `asked` names the columns of user, item or time that the caller knows. Raises UserError if a file can't be read,
    or if one of these three is not clear.
    """
    looks = {table: look_at(path) for table, path in files.items()}
    events = files["events"], looks["events"]
    others = {table.removesuffix("s"): (files[table], looks[table]) for table in files if table != "events"}
    ids = find_ids(events, others, {role: asked[role] for role in ("item", "user") if asked.get(role)})
    time = find_time(events, read_table(files["events"]), asked.get("time", ""))
    roles = {"user_id": ids["user"], "item_id": ids["item"], "timestamp": time}

    shown = Shown()
    taken = [role.column for role in roles.values()]
    free = [look for look in looks["events"] if look not in taken and look.times is None]
    of_item = _details(looks.get("items"), ids["item"], free)
    of_user = _details(looks.get("users"), ids["user"], [look for look in free if look not in of_item])
    released = _release(looks.get("items", []), ids["item"], time)
    of_event = [look for look in free if look not in (*of_item, *of_user)]
    show_event(shown, of_event, [*looks["events"], *looks.get("items", [])], time.column.name)
    show_item(shown, [look for look in of_item if look is not released], _count(ids["item"]))
    show_profile(shown, of_user, _count(ids["user"]))
    new = "<[{new}] >" if released else ""
    choices = shown.values["choices"]
    assert isinstance(choices, dict)
    counted = "{times:,.0f|event|events}"
    if next(iter(choices)) == "any":
        counted = f"{shown.values['event']} {{times:,.0f|time|times}}"
    shown.put("option", f"{new}{{item}}<, {counted} so far>", "an option; {times} is counted again for every scene")
    shown.put("as_of", {"times": "count"} | ({"new": "new_release"} if released else {}), "so none is from the future")
    _put_repeats(shown, ids)

    columns = _renamed(roles, shown, released)
    text = _yaml(name, files, out, columns, shown)
    tables = parse_yaml_domain(text, str(out)).read(out.parent, 0)
    guesses = [(key.removesuffix("_id"), role.column.name, role.why) for key, role in roles.items()]
    guesses += [(key, _flow(shown.values[key]), shown.why[key]) for key in _TOLD if key in shown.values]
    unused = {
        files[table].name: listed([look for look in found if look not in taken and not _is_used(look, shown, columns)])
        for table, found in looks.items()
    }
    return Draft(text, tables, guesses, {file: names for file, names in unused.items() if names != "none"})


_KEYS = ("event", "item", "numbers", "option", "as_of", "history", "profile", "choices", "repeats")
_TOLD = ("event", "item", "profile", "choices", "repeats")


def _details(table: Sequence[Look] | None, role: Role, free: Sequence[Look]) -> list[Look]:
    """The columns that describe a role's ids: those of its own table, or without one those of the events."""
    if table is None:
        return constant_for(role.column, free)
    return [look for look in table if look is not role.other]


def _count(role: Role) -> int:
    """How many items or users there are."""
    return (role.other or role.column).distinct


def _release(items: Sequence[Look], item: Role, time: Role) -> Look | None:
    """The column of the items that says since when each exists: dates that no more than a few events precede."""
    if item.other is None or time.column.times is None:
        return None
    first = (
        pl.DataFrame({"id": item.column.values, "time": time.column.times}).group_by("id").agg(pl.col("time").min())
    )
    for look in items:
        if look.times is not None and look is not item.other:
            dates = pl.DataFrame({"id": item.other.values, "date": look.times}).drop_nulls()
            known = dates.join(first, on="id")
            if len(known) and (known["date"] <= known["time"]).mean() >= RELEASED:  # type: ignore[operator]
                return look
    return None


def _put_repeats(shown: Shown, ids: Mapping[str, Role]) -> None:
    pairs = pl.DataFrame({"user": ids["user"].column.values, "item": ids["item"].column.values}).drop_nulls()
    share = 1 - pairs.n_unique() / max(len(pairs), 1)
    if share > REPEATS and "repeats" not in shown.values:
        shown.put("repeats", True, f"{share:.0%} of the events are with an item that the user had before")


def _renamed(roles: Mapping[str, Role], shown: Shown, released: Look | None) -> dict[str, tuple[str, str]]:
    """`columns`: name in the YAML -> column, and why."""
    columns = {key: (role.column.name, role.why) for key, role in roles.items()}
    for key, role in roles.items():
        if role.other is not None and role.other.name != role.column.name:
            columns[f"{key.removesuffix('_id')}s.{key}"] = (role.other.name, "the same in its own table")
    if released:
        columns["available_from"] = (released.name, "items hardly have events before it, so they exist from then on")
    for name, column in shown.used.items():
        if name != column and name not in OWN_NAMES:
            columns[name] = (column, "a name that templates can use")
    return columns


def _is_used(look: Look, shown: Shown, columns: Mapping[str, tuple[str, str]]) -> bool:
    return look.name in shown.used.values() or look.name in [column for column, _ in columns.values()]


def _yaml(
    name: str, files: Mapping[str, Path], out: Path, columns: Mapping[str, tuple[str, str]], shown: Shown
) -> str:
    lines = [
        "# Drafted by `usermirrorer init`: every guess says why. Change what is wrong.",
        f"name: {_scalar(name)}",
        "format: table",
        "tables:",
        *(f"  {table}: {_scalar(os.path.relpath(path, out.parent))}" for table, path in files.items()),
        "columns:  # name here: name in the file",
        *_commented((f"  {_scalar(key)}: {_scalar(column)}", why) for key, (column, why) in columns.items()),
        *_commented((f"{key}: {_flow(shown.values[key])}", shown.why[key]) for key in _KEYS if key in shown.values),
    ]
    return "\n".join(lines) + "\n"


def _commented(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines with their reasons behind them, or above them if there is no room."""
    for line, reason in entries:
        comment = "# " + "".join(letter if letter.isprintable() else " " for letter in reason)
        if len(line) + len(comment) < 117:
            yield f"{line}  {comment}"
        else:
            yield from (f"{line[: len(line) - len(line.lstrip())]}{comment}", line)


def _scalar(text: str) -> str:
    """Text as YAML: plain where it can be, else in double quotes."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=not text.isprintable())


def _flow(value: object) -> str:
    """A value of the YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(str(key))}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else _scalar(str(value))


def summary(found: Draft, out: Path) -> list[str]:
    """What was found, then what was guessed, a line each."""
    tables = found.tables
    times = pl.from_epoch(tables.interactions["timestamp"].drop_nulls().sort(), "ms")
    return [
        f"init {out}: {len(tables.interactions):,} events of {len(tables.users):,} users with {len(tables.items):,} "
        f"items, {times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}",
        *(f"  {key:9} {how}  # {why}" for key, how, why in found.guesses),
        *(f"  not used of {file}: {names}" for file, names in found.unused.items()),
        *(f"  left out: {count:,} {reason}" for reason, count in tables.dropped.items() if count),
    ]


def next_steps(out: Path, name: str) -> list[str]:
    """What to run after a look at the draft."""
    return [
        f"Read {out}, change what is wrong, then run:",
        f"  usermirrorer prepare {out} --work work",
        f"  usermirrorer scenes {name} --work work --split train --num 1000",
        f"  usermirrorer scenes {name} --work work --split test --num 500",
    ]
