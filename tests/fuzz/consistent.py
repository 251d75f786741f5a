"""What must hold of everything that is accepted, checked without the code that accepts it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl


class Inconsistent(Exception):
    """Something damaged was accepted."""


def holds(condition: bool, what: str) -> None:
    if not condition:
        raise Inconsistent(what)


def check_scenes(scenes: pl.DataFrame) -> None:
    """Every row agrees with itself."""
    for row in scenes.iter_rows(named=True):
        count, position, text = row["choice_cnt"], row["item_pos"], row["text"]
        name = f"scene {row['scene_id']}"
        holds(all(isinstance(row[key], str) for key in ("scene_id", "dataset", "user_id", "item_id")), f"{name}: ids")
        holds(row["timestamp"] is not None, f"{name}: no time")
        holds(isinstance(text["profile"], str) and isinstance(text["history"], str), f"{name}: no text")
        holds(len(text["action_list"]) == count, f"{name}: {count} options, {len(text['action_list'])} texts")
        holds(all(isinstance(one, str) and one.strip() for one in text["action_list"]), f"{name}: an empty option")
        holds(0 <= position < count, f"{name}: position {position} of {count}")
        holds(list(row["choices"]) == [position], f"{name}: choices {row['choices']}, position {position}")
        for key in ("impression_list", "sources", "item_cnt"):
            holds(row[key] is None or len(row[key]) == count, f"{name}: length of {key}")
            holds(row[key] is None or None not in row[key], f"{name}: unknown value in {key}")
        if row["impression_list"] is not None:
            holds(row["impression_list"][position] == row["item_id"], f"{name}: another item at its position")
            holds(len(set(row["impression_list"])) == count, f"{name}: an item twice")
        later = row["later_chosen"] or []
        holds(all(one is not None and 0 <= one < count for one in later), f"{name}: later_chosen {later}")
        for key in ("history_len", "user_cnt"):
            holds(row[key] is None or row[key] >= 0, f"{name}: {key} {row[key]}")
        holds(row["item_cnt"] is None or min(row["item_cnt"]) >= 0, f"{name}: item_cnt")
    holds(scenes["scene_id"].is_unique().all(), "a scene twice")


def check_pairs(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> None:
    """Every row is a conversation of roles and texts, or one that training drops and counts."""
    for number, row in enumerate(rows):
        for column in ("prompt", *answers):
            holds(isinstance(row[column], list | None), f"row {number}: {column} is {row[column]!r}")
            for message in row[column] or []:
                holds(set(message) == {"role", "content"}, f"row {number}: a message of {sorted(message)}")
                holds(all(isinstance(value, str | None) for value in message.values()), f"row {number}: no text")


def check_answers(path: Path, requests: int, counts: Mapping[str, int]) -> None:
    """Every request is answered by probabilities of the items that it lists, or listed as wrong."""
    answers = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    holds(counts["answered"] + counts["bad"] == requests, f"{counts} of {requests} requests")
    holds(len(answers) == counts["answered"], "an answer is lost")
    for row in answers:
        items, name = row["items"], f"line {row['line']}"
        holds(len(set(items)) == len(items) >= 2, f"{name}: items {items}")
        holds(len(row["probs"]) == len(items) and math.isclose(sum(row["probs"]), 1, abs_tol=1e-3), f"{name}: probs")
        holds(row["choice"] in items and row["sampled"] in items, f"{name}: choice")
        holds(isinstance(row["timestamp"], int), f"{name}: timestamp {row['timestamp']}")


def check_types(settings: Any) -> None:
    """Every field of a dataclass has the type that it declares, and every number is one."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        _check_type(getattr(settings, field.name), hints[field.name], f"{type(settings).__name__}.{field.name}")


def _check_type(value: Any, kind: Any, name: str) -> None:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(value):
        check_types(value)
    elif origin is list:
        for entry in value:
            _check_type(entry, inner[0], name)
    elif origin is dict:
        for entry in value.values():
            _check_type(entry, inner[1], name)
    elif origin is typing.Literal:
        holds(value in inner, f"{name} is {value!r}")
    elif origin is types.UnionType:
        if value is not None:
            _check_type(value, next(one for one in inner if one is not types.NoneType), name)
    else:
        holds(type(value) is kind, f"{name} is {value!r}, not {kind}")
        holds(not isinstance(value, float) or math.isfinite(value), f"{name} is {value}")


def check_json(path: Path) -> None:
    """A file is JSON that every parser reads: no NaN, no infinity."""

    def refuse(constant: str) -> None:
        raise Inconsistent(f"{path.name} has {constant}")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def digests(directory: Path) -> dict[str, str]:
    """Relative path -> digest of every parquet file below a directory."""
    return {
        str(path.relative_to(directory)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*.parquet"))
        if path.is_file()
    }


def empty_directories(directory: Path) -> list[str]:
    """Directories below that hold nothing that a step wrote."""
    found = [path for path in directory.rglob("*") if path.is_dir() and not path.is_symlink()]
    return [
        str(path.relative_to(directory))
        for path in found
        if not any(one.is_file() for one in path.rglob("*") if one.name != ".lock")
    ]
