"""Reading scenes to be evaluated: our directories, single files, published evaluation files, Hub datasets."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.schema import SCENES, scene_id
from usermirrorer.data.artefacts.store import read_manifest
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import LABELS


JSON_LINES = (".jsonl", ".jsonl.gz")

REQUIRED = ("text", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt", "dataset")
"""Columns of a published evaluation file; the other columns of SCENES are null where a file lacks them."""


def load_scenes(source: str | Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """Scenes of a directory of parquet shards, FILE.parquet, FILE.jsonl(.gz) or a Hub dataset (its test split).

    The frame has the columns of SCENES in order of scene_id; rows without one get it from the fields that make it.
    The counts tell `read`, `kept`, and what was left out: `blanked` (text withheld for licence) and `duplicate` (a
    second row of the same choice). Raises UserError with file:line, or file and row, at the first wrong row.
    """
    seen: dict[str, dict[str, Any]] = {}
    counts = {"read": 0, "kept": 0, "blanked": 0, "duplicate": 0}
    for place, row in _rows(str(source)):
        counts["read"] += 1
        missing = [name for name in REQUIRED if row.get(name) is None and (name != "text" or name not in row)]
        if missing:
            raise UserError(f"{place} has no `{missing[0]}`: a scene needs {', '.join(REQUIRED)}")
        if row["text"] is None or _is_blank(row["text"], place):
            counts["blanked"] += 1
            continue
        scene = _scene(row, place)
        if scene["scene_id"] in seen:
            counts["duplicate"] += 1
            continue
        seen[scene["scene_id"]] = scene
    counts["kept"] = len(seen)
    if not seen:
        raise UserError(f"{source} holds no scene with text ({counts['blanked']} blanked); give a file with its texts")
    table = pa.Table.from_pylist([seen[key] for key in sorted(seen)], schema=SCENES)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame, counts


def probe_of(source: str | Path) -> dict[str, Any] | None:
    """The exposure probe in the manifest of a scenes directory; None where there is none."""
    path = Path(source)
    manifest = read_manifest(path) if path.is_dir() else None
    return (manifest or {}).get("content", {}).get("probe")


def beside(source: str | Path, artefact: str, split: str) -> Path | None:
    """WORK/`artefact`/DOMAIN/`split` of scenes at WORK/scenes/DOMAIN/SPLIT, where it has shards; else None."""
    path = Path(source).resolve()
    if path.parent.parent.name != "scenes":
        return None
    found = path.parent.parent.parent / artefact / path.parent.name / split
    return found if any(found.glob("*.parquet")) else None


def _rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row with the place to name in an error."""
    path = Path(source)
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        if not parts:
            # A split of ours, or a published data set as it is downloaded.
            splits = [name for name in ("test", "train", "data") if any((path / name).glob("*.parquet"))]
            hint = f"give {path / splits[0]}" if splits else "give a directory that `usermirrorer scenes` made"
            raise UserError(f"{source} holds no *.parquet: {hint}")
        for part in parts:
            yield from _parquet_rows(part)
    elif path.suffix == ".parquet" and path.is_file():
        yield from _parquet_rows(path)
    elif path.name.endswith(JSON_LINES) and path.is_file():
        yield from _json_rows(path)
    elif path.exists() or path.name.endswith((".parquet", *JSON_LINES)) or source.startswith(("/", ".")):
        state = "is of no known kind" if path.exists() else "is not there"
        raise UserError(f"{source} {state}: give a scenes directory, FILE.parquet, FILE.jsonl(.gz) or a Hub id")
    else:
        yield from _hub_rows(source)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a parquet file ({error}): write it again") from None
    missing = [name for name in REQUIRED if name not in file.schema_arrow.names]
    if missing:
        raise UserError(f"{path} has no column `{missing[0]}`: a scene needs {', '.join(REQUIRED)}")
    number = 0
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield f"{path} row {number}", row


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}:{number}", _parsed(line, f"{path}:{number}")
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} can't be read after line {number} ({error}): write UTF-8, or load it again") from None


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON ({error}): write one object a line") from None
    if not isinstance(row, dict):
        raise UserError(f"{place} is {type(row).__name__}, not an object: write one object a line")
    return row


def _hub_rows(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, split="test")
    except Exception as error:  # the library raises anything from ValueError to ConnectionError here
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{name} is no file here and no Hub dataset with a test split ({reason})") from None
    for number, row in enumerate(dataset, 1):
        yield f"{name} row {number}", row


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
        raise UserError(f"{place}: item_pos is {position}, out of 0 to {options - 1}; positions are counted from 0")
    time_ms = _milliseconds(row["timestamp"], place)
    dataset, user, item = (str(row[name]) for name in ("dataset", "user_id", "item_id"))
    return {
        **{name: row.get(name) for name in SCENES.names},
        "dataset": dataset,
        "user_id": user,
        "item_id": item,
        "scene_id": str(row.get("scene_id") or scene_id(dataset, user, item, time_ms)),
        "timestamp": time_ms,
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


def _milliseconds(value: Any, place: str) -> int:
    """UTC milliseconds of a time: ISO text or a naive time as UTC; numbers are seconds below 1e11, else ms."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise UserError(f"{place}: timestamp {value!r} is no time; write 2015-03-01 12:00:00 or seconds") from None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{place}: timestamp {value!r} is no time; write 2015-03-01 12:00:00 or seconds")
    return int(value * 1000) if abs(value) < 1e11 else int(value)
