"""Scenes to evaluate on: every row is checked, withheld and repeated ones are left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.convert import milliseconds
from usermirrorer.data.artefacts.reader import read_rows
from usermirrorer.data.artefacts.schema import SCENES, scene_id
from usermirrorer.data.artefacts.store import read_manifest
from usermirrorer.errors import UserError
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
    """WORK/`artefact`/DOMAIN/`split` of scenes at WORK/scenes/DOMAIN/SPLIT, None if it has no parquet files."""
    path = Path(source).resolve()
    if path.parent.parent.name != "scenes":
        return None
    found = path.parent.parent.parent / artefact / path.parent.name / split
    return found if any(found.glob("*.parquet")) else None


def _is_blank(text: Any, place: str) -> bool:
    if not isinstance(text, dict) or "action_list" not in text:
        raise UserError(f"{place}: `text` is not an object with profile, history and action_list; write it as one")
    return not text["action_list"] or any(not (option or "").strip() for option in text["action_list"])


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
    time = milliseconds(row["timestamp"])
    if time is None:
        given = row["timestamp"]
        raise UserError(f"{place}: timestamp {given!r} is not a time; write 2015-03-01 12:00:00 or seconds")
    dataset, user, item = (str(row[name]) for name in ("dataset", "user_id", "item_id"))
    return {
        **{name: row.get(name) for name in SCENES.names},
        "dataset": dataset,
        "user_id": user,
        "item_id": item,
        "scene_id": str(row.get("scene_id") or scene_id(dataset, user, item, time)),
        "timestamp": time,
        "group_id": None if row.get("group_id") is None else str(row["group_id"]),
        "group_time": milliseconds(row.get("group_time")),
        "text": {**text, "profile": text.get("profile") or "", "history": text.get("history") or ""},
        "impression_list": None if row.get("impression_list") is None else [str(i) for i in row["impression_list"]],
        "item_pos": position,
        "choice_cnt": count,
        "choices": [position] if row.get("choices") is None else row["choices"],
    }


def _integer(row: dict[str, Any], name: str, place: str) -> int:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{place}: {name} is {value!r}; write an integer")
    return value
