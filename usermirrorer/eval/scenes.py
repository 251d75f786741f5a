"""Scenes to evaluate on: every row is checked, withheld and repeated ones are left out and counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.convert import LATEST_MS, milliseconds
from usermirrorer.data.artefacts.reader import read_rows
from usermirrorer.data.artefacts.schema import SCENES, scene_id
from usermirrorer.data.artefacts.store import finished_manifest, read_manifest
from usermirrorer.errors import UserError, shorten
from usermirrorer.llm.prompts import LABELS


REQUIRED = ("text", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt", "dataset")
"""Columns of a published evaluation file; the other columns of SCENES are null if a file lacks them."""

REMEDY = "pass a directory of scenes, FILE.parquet, FILE.jsonl(.gz) or a Hub id"


def load_scenes(source: str | Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """Scenes of a directory, FILE.parquet, FILE.jsonl(.gz) or a Hub dataset (its test split).

    The frame has the columns of SCENES in order of scene_id; rows without one get it from the fields that make it.
    The counts are `read`, `kept`, and what was left out: `blanked` (text withheld for licence) and `duplicate` (a
    second row of the same choice). Raises UserError at the first wrong row, with its place.
    """
    scenes: dict[str, dict[str, Any]] = {}
    counts = {"read": 0, "kept": 0, "blanked": 0, "duplicate": 0}
    for place, row in read_rows(str(source), "test", REMEDY):
        counts["read"] += 1
        for name in REQUIRED:
            if name not in row or (row[name] is None and name != "text"):
                missing = f"column `{name}`" if name not in row else f"`{name}`"
                raise UserError(f"{place} has no {missing}: a scene needs {', '.join(REQUIRED)}")
        if row["text"] is None or _is_blank(row["text"], place):
            counts["blanked"] += 1
            continue
        scene = _scene(row, place)
        if scene["scene_id"] in scenes:
            counts["duplicate"] += 1
            continue
        scenes[scene["scene_id"]] = scene
    counts["kept"] = len(scenes)
    if not scenes:
        raise UserError(f"{source} holds no scene with text ({counts['blanked']} blanked): pass a file with its texts")
    return pl.DataFrame(pa.Table.from_pylist([scenes[key] for key in sorted(scenes)], schema=SCENES)), counts


def probe_of(source: str | Path) -> dict[str, Any] | None:
    """The exposure probe in the manifest of a directory of scenes, None if there is none."""
    path = Path(source)
    manifest = read_manifest(path) if path.is_dir() else None
    return (manifest or {}).get("content", {}).get("probe")


def sibling(source: str | Path, artefact: str, split: str = "") -> Path | None:
    """WORK/`artefact`/DOMAIN/`split` of scenes at WORK/scenes/DOMAIN/SPLIT, None if it has no parquet files.

    Raises UserError if these are not as their step wrote them.
    """
    path = Path(source).resolve()
    if path.parent.parent.name != "scenes":
        return None
    found = path.parent.parent.parent / artefact / path.parent.name / split
    if not any(found.glob("*.parquet")):
        return None
    finished_manifest(found)
    return found


def _is_blank(text: Any, place: str) -> bool:
    if not isinstance(text, dict) or "action_list" not in text:
        raise UserError(f"{place}: `text` is not an object with profile, history and action_list; write it as one")
    for name in ("profile", "history"):
        if not isinstance(text.get(name), str | None):
            raise UserError(f"{place}: {name} is {shorten(repr(text[name]))}; write text")
    options = text["action_list"]
    if options is not None and not (isinstance(options, list) and all(isinstance(one, str | None) for one in options)):
        raise UserError(f"{place}: action_list is {shorten(repr(options))}; write a list of texts")
    return not options or any(not (option or "").strip() for option in options)


def _scene(row: dict[str, Any], place: str) -> dict[str, Any]:
    """A checked row with every column of SCENES, strings as ids, its time in UTC milliseconds and its scene_id."""
    text, options = row["text"], len(row["text"]["action_list"])
    count, position = _integer(row, "choice_cnt", place), _integer(row, "item_pos", place)
    if count != options:
        raise UserError(f"{place}: choice_cnt is {count} but action_list has {options}; make them agree")
    if not 2 <= options <= len(LABELS):
        raise UserError(f"{place} has {options} option(s): a scene has 2 to {len(LABELS)}")
    if not 0 <= position < options:
        raise UserError(f"{place}: item_pos is {position}, outside 0 to {options - 1}; count positions from 0")
    time = _time(row["timestamp"], "timestamp", place)
    dataset, user, item = (_identifier(row[name], name, place) for name in ("dataset", "user_id", "item_id"))
    named = row.get("scene_id") or scene_id(dataset, user, item, time)
    if not isinstance(named, str) or not re.fullmatch(r"[0-9a-f]{16}", named):
        raise UserError(f"{place}: scene_id is {named!r}, not 16 hex digits; leave it out, and it is made")
    scene: dict[str, Any] = {
        "dataset": dataset,
        "user_id": user,
        "item_id": item,
        "scene_id": named,
        "timestamp": time,
        "group_id": None if row.get("group_id") is None else _identifier(row["group_id"], "group_id", place),
        "group_time": None if row.get("group_time") is None else _time(row["group_time"], "group_time", place),
        "text": {**text, "profile": text.get("profile") or "", "history": text.get("history") or ""},
        "item_pos": position,
        "choice_cnt": count,
        **{name: row.get(name) for name in ("split", "exposure", "history_len", "user_cnt")},
        **{name: row.get(name) for name in ("impression_list", "sources", "item_cnt", "later_chosen")},
        "choices": [position] if row.get("choices") is None else row["choices"],
    }
    _check_further(scene, place)
    if scene["impression_list"] is not None:
        scene["impression_list"] = _items(scene["impression_list"], item, position, place)
    return scene


def _check_further(scene: dict[str, Any], place: str) -> None:
    """Raises UserError for a value of a column that need not be there, if it is of another type or out of range."""
    options = range(scene["choice_cnt"])
    for name in ("split", "exposure"):
        if not isinstance(scene[name], str | None):
            raise UserError(f"{place}: {name} is {scene[name]!r}; write text")
    for name in ("history_len", "user_cnt"):
        if scene[name] is not None and _integer(scene, name, place) < 0:
            raise UserError(f"{place}: {name} is {scene[name]}; write 0 or more")
    for name in ("impression_list", "sources", "item_cnt"):
        if scene[name] is not None and (not isinstance(scene[name], list) or len(scene[name]) != len(options)):
            raise UserError(
                f"{place}: {name} has not one value for each of the {len(options)} options; make them agree"
            )
    if not all(isinstance(one, str) for one in scene["sources"] or ()):
        raise UserError(f"{place}: sources are {shorten(repr(scene['sources']))}; write texts")
    if not all(_is_integer(one) and 0 <= one < 2**63 for one in scene["item_cnt"] or ()):
        raise UserError(f"{place}: item_cnt is {shorten(repr(scene['item_cnt']))}; write numbers from 0")
    for name in ("choices", "later_chosen"):
        found = scene[name]
        if found is not None and not (isinstance(found, list) and all(_is_integer(i) and i in options for i in found)):
            raise UserError(f"{place}: {name} is {shorten(repr(found))}; write positions from 0 to {len(options) - 1}")
    if scene["item_pos"] not in scene["choices"]:
        raise UserError(
            f"{place}: choices are {scene['choices']}, without item_pos {scene['item_pos']}; make them agree"
        )


def _items(given: Sequence[Any], chosen: str, position: int, place: str) -> list[str]:
    """The options' items as ids, if the chosen one is at its position and none is there twice."""
    items = [_identifier(one, "impression_list", place) for one in given]
    if items[position] != chosen:
        raise UserError(
            f"{place}: item_id is {shorten(chosen)!r}, but {shorten(items[position])!r} is at item_pos {position} "
            f"of impression_list; make them agree"
        )
    if len(set(items)) < len(items):
        raise UserError(f"{place}: impression_list names an item twice; every option is another item")
    return items


def _time(value: Any, name: str, place: str) -> int:
    time = milliseconds(value)
    if time is None or abs(time) > LATEST_MS:
        given = shorten(repr(value))
        raise UserError(f"{place}: {name} {given} is not a time; write 2015-03-01 12:00:00 or seconds")
    return time


def _identifier(value: Any, name: str, place: str) -> str:
    if not _is_integer(value) and not (isinstance(value, str) and value):
        raise UserError(f"{place}: {name} is {shorten(repr(value))}; write an id as text")
    return str(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(row: dict[str, Any], name: str, place: str) -> int:
    value = row[name]
    if not _is_integer(value) or abs(value) >= 2**63:
        raise UserError(f"{place}: {name} is {shorten(repr(value))}; write an integer")
    return value
