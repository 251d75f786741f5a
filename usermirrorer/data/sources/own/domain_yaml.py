"""A domain from a small YAML beside the files: no Python needed. `docs/your_own_log.md` walks through one.

    name: shop                       # tables, scenes and the files' names are called so
    format: recbole                  # or interchange
    event: bought                    # what an interaction was, in the past
    item: "{title} - {category}"     # what is shown of an item

Everything else has a default: see `KEYS`; `choice_rules.py` says how a choice is written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from usermirrorer.data.sources.domain import Domain, FieldKind
from usermirrorer.data.sources.own.choice_rules import Rule, parse_rule
from usermirrorer.data.sources.own.columns import Kind, OwnLog
from usermirrorer.data.sources.own.interchange import interchange_paths, read_interchange
from usermirrorer.data.sources.own.recbole import read_recbole
from usermirrorer.data.sources.own.templates import check_optional, check_template, column_kinds
from usermirrorer.errors import UserError


TEXT, TEXTS, PAIRS, TRUTH = "a text", "a list of texts", "a mapping of texts", "true or false"

KEYS: Mapping[str, tuple[str, Any]] = {
    "name": (TEXT, None),
    "format": (TEXT, None),
    "event": (TEXT, None),
    "item": (TEXT, None),
    "option": (TEXT, "{item}"),
    "history": (TEXT, "{event} {item}, {time_diff}"),
    "profile": (TEXT, ""),
    "as_of": (PAIRS, {}),
    "choices": (PAIRS, {"any": "any"}),
    "numbers": (TEXTS, []),
    "fields": (PAIRS, {}),
    "columns": (PAIRS, {}),
    "files": (TEXT, ""),
    "timestamps": (TEXT, ""),
    "clock": (TEXT, "1s"),
    "repeats": (TRUTH, False),
    "exposures": (TEXTS, ["natural", "hard", "retrieved"]),
    "title": (TEXT, ""),
    "publisher": (TEXT, "your own log"),
    "licence": (TEXT, "not stated"),
    "redistribute_text": (TRUTH, False),
}
"""Key -> what it holds and its default; those whose default is None must be there."""

MADE = ("item", "event", "time_diff")
TAKEN = ("user_id", "item_id", "timestamp", "available_from", "text", "line", "dataset")
"""Names that the tables use themselves."""

_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def load_yaml_domain(path: Path) -> Domain:
    """The domain of a YAML file. Raises UserError with file:line for a wrong key, value or template."""
    if not path.is_file():
        raise UserError(f"There is no YAML at '{path}'; docs/your_own_log.md shows one")
    try:
        text = path.read_text(encoding="utf-8")
        node, mapping = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the file as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)}); mend or quote it") from None
    lines: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in lines:
            raise UserError(f"{path}:{key.start_mark.line + 1}: {key.value!r} stands twice; delete one")
        lines[key.value] = key.start_mark.line + 1
    return domain_from_mapping(mapping, str(path), lines)


def domain_from_mapping(mapping: Any, where: str, lines: Mapping[str, int] | None = None) -> Domain:
    """The domain that a mapping of `KEYS` describes. `where` and the keys' `lines` are for the error messages.

    Raises UserError for a key, a value, a template or a choice rule that means nothing.
    """
    values, fail = _checked(mapping, where, lines or {})
    try:
        for key in ("item", "option", "history", "profile"):
            check_template(values[key], one_line=key != "profile")
        snapshots = [name for name, kind in values["fields"].items() if kind == "snapshot"]
        for key, names in (("item", snapshots), ("option", values["as_of"])):
            check_optional(values[key], names)
    except ValueError as error:
        fail(key, str(error))
    item, users = column_kinds(values["item"], ("item_id",)), column_kinds(values["profile"], ("user_id",))
    _check_as_of(values["as_of"], set(column_kinds(values["option"], ("item",))), fail)
    rules, compared = _choice_rules(values["choices"], fail)
    averaged = [how.partition(":")[2] for how in values["as_of"].values() if how.startswith("mean:")]
    history = column_kinds(values["history"], MADE)
    behaviour = _together([history, *compared, dict.fromkeys(averaged, "number")], "choices", fail)
    items = _together([item, dict.fromkeys(values["numbers"], "number")], "numbers", fail)
    for column in values["numbers"]:
        if column not in item:
            fail("numbers", f"{column!r} is not shown by `item`, which shows {', '.join(sorted(item)) or 'nothing'}")
    for column in sorted({*behaviour, *items, *users} & {*TAKEN}):
        fail("columns", f"{column!r} is the name of something else here; give yours another: `my_{column}: {column}`")
    kinds: dict[str, FieldKind] = {
        **dict.fromkeys([*column_kinds(values["item"] + values["profile"], ()), *history], "static"),
        **dict.fromkeys(values["as_of"], "as_of"),
    }
    for name, kind in values["fields"].items():
        if kind not in ("static", "snapshot") or name not in {*items, *users}:
            shown = ", ".join([*items, *users])
            fail("fields", f"{name}: {kind}: write static or snapshot for one of {shown}")
        kinds[name] = kind

    log = OwnLog(
        name=values["name"], files=values["files"] or values["name"], items=items, users=users,
        event_columns=behaviour, renamed=values["columns"], timestamps=values["timestamps"],
        impressions="logged" in values["exposures"],
    )  # fmt: skip
    unused = {*log.renamed} - {*items, *users, *behaviour, "user_id", "item_id", "timestamp", "available_from"}
    if unused:
        fail("columns", f"{sorted(unused)[0]!r} is a name that nothing uses; write NAME_HERE: NAME_IN_THE_FILE")
    recbole = values["format"] == "recbole"
    return Domain(
        name=log.name,
        title=values["title"] or log.name,
        publisher=values["publisher"],
        licence=values["licence"],
        redistribute_text=values["redistribute_text"],
        raw_files=_raw_files(log, recbole),
        read=partial(read_recbole if recbole else read_interchange, log=log),
        event=values["event"],
        choice_rules=rules,
        clock_ms=_clock(values["clock"], fail),
        item=values["item"],
        option=values["option"],
        history=values["history"],
        profile=values["profile"].rstrip("\n"),
        as_of=values["as_of"],
        snapshots=tuple(name for name, kind in kinds.items() if kind == "snapshot"),
        numbers=tuple(name for name, kind in items.items() if kind == "number"),
        repeats=values["repeats"],
        exposures=tuple(values["exposures"]),
    )


Fail = Callable[[str, str], NoReturn]
"""Refuses the value of a key: (key, reason)."""


def _checked(mapping: Any, where: str, lines: Mapping[str, int]) -> tuple[dict[str, Any], Fail]:
    """Every key with a value of its type, and how to refuse the value of a key."""

    def fail(key: str, told: str) -> NoReturn:
        place = f"{where}:{lines[key]}" if key in lines else where
        raise UserError(f"{place}: {key}: {told}")

    if not isinstance(mapping, dict):
        raise UserError(f"{where}:1: not a mapping; write `name: …`, `format: …`, `event: …` and `item: …`")
    for key, value in mapping.items():
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            fail(str(key), f"there is no such key; {f'did you mean {near[0]}?' if near else 'use ' + ', '.join(KEYS)}")
        if not _is(KEYS[key][0], value):
            fail(key, f"{value!r} must be {KEYS[key][0]}; put quotes around what is not meant as a number or a date")
    values = {key: mapping.get(key, default) for key, (_, default) in KEYS.items()}
    for key in [key for key, value in values.items() if value is None]:
        raise UserError(f"{where}: {key!r} is missing; add it")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", values["name"]):
        fail("name", f"{values['name']!r} becomes the name of directories; use letters, digits, . _ and -")
    allowed = ("natural", "hard", "retrieved") + ("logged",) * (values["format"] == "interchange")
    for key, known in {
        "format": ("interchange", "recbole"),
        "timestamps": ("", "s", "ms"),
        "exposures": allowed,
    }.items():
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if value not in known:
                fail(key, f"{value!r} is not one of {', '.join(filter(None, known))}")
    for key in ("event", "exposures", "choices"):
        if not values[key]:
            fail(key, "is empty; write at least one or leave the key out")
    return values, fail


def _is(kind: str, value: Any) -> bool:
    if kind == TEXTS:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if kind == PAIRS:
        return isinstance(value, dict) and all(isinstance(text, str) for entry in value.items() for text in entry)
    return isinstance(value, bool if kind == TRUTH else str)


def _check_as_of(as_of: Mapping[str, str], option: set[str], fail: Fail) -> None:
    for name, how in as_of.items():
        if how not in ("count", "new_release") and not re.fullmatch(r"mean:[^\W\d][\w -]*", how):
            fail("as_of", f"{name}: {how!r} is not made from an own log; write count, mean:COLUMN or new_release")
        if name not in option:
            fail("as_of", f"{name!r} is not shown; write {{{name}}} into `option` or leave it out")
    for name in sorted(option - {*as_of}):
        hint = f"did you mean {near[0]}?" if (near := difflib.get_close_matches(name, as_of, n=1)) else (
            f"an option shows {{item}} and what `as_of` declares, such as `as_of: {{{name}: count}}`; columns of the "
            f"item belong into `item`"
        )  # fmt: skip
        fail("option", f"{{{name}}} is not known; {hint}")


def _choice_rules(choices: Mapping[str, str], fail: Fail) -> tuple[dict[str, Rule], list[Mapping[str, Kind]]]:
    """The rules, and what the columns that each reads must hold."""
    rules: dict[str, Rule] = {}
    columns: list[Mapping[str, Kind]] = []
    for name, text in choices.items():
        try:
            rules[name], read, takes_value = parse_rule(text)
        except ValueError as error:
            fail("choices", f"{name}: {text!r}: {error}")
        if takes_value and len(rules) == 1:
            fail("choices", f"{name} comes first and so is the default, which takes no value; put another one first")
        if not re.fullmatch(r"[\w-]+", name):
            fail("choices", f"{name!r} is no name; use letters, digits, _ and -")
        columns.append(read)
    return rules, columns


def _together(demands: Sequence[Mapping[str, Kind]], key: str, fail: Fail) -> dict[str, Kind]:
    """What each column must hold so that all demands are met."""
    kinds: dict[str, Kind] = {}
    for column, kind in [demand for demands_ in demands for demand in demands_.items()]:
        known = kinds.get(column, "any")
        if "any" not in (known, kind) and known != kind:
            fail(key, f"{column} is used as a {known} and as a {kind}; give the second use a column of its own")
        kinds[column] = kind if known == "any" else known
    return kinds


def _clock(text: str, fail: Fail) -> int:
    found = re.fullmatch(rf"([1-9]\d{{0,8}})?({'|'.join(_UNITS)})", text)
    if not found:
        fail("clock", f"{text!r} is not a length of time; write for example 1s, 1d or ms ({', '.join(_UNITS)})")
    return int(found[1] or 1) * _UNITS[found[2]]


def _raw_files(log: OwnLog, recbole: bool) -> dict[str, str]:
    """File name -> what it holds, of the files that are read."""
    if recbole:
        return {
            f"{log.files}.inter": "user_id:token, item_id:token, timestamp:float and more (tab)",
            f"{log.files}.item": "item_id:token and more (tab)",
            f"{log.files}.user": "user_id:token and more (tab); may be absent where no profile is shown",
        }
    about = {
        "item": "item_id, item_description, item_features",
        "interaction": "user_id, item_id, timestamp, behavior_features",
        "user": "user_id, user_description, user_features; may be absent where no profile is shown",
        "impression": "impression_id, user_id, timestamp, items, clicked",
    }
    paths = interchange_paths(Path(), log.files)
    return {paths[table].name: told for table, told in about.items() if table != "impression" or log.impressions}
