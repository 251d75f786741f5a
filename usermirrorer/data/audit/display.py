"""Rows as text for people: scenes as laid out with all answers, decisions, predictions, baselines and pairs.

Each printer gets a row and `related`: kind -> rows of the same scenes in the artefacts beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.schema import MEASURES, VARIANTS
from usermirrorer.llm.prompts import LABELS, SceneText, conversation


Row = dict[str, Any]
Related = Mapping[str, pl.DataFrame]


def _print_scene(row: Row, related: Related) -> None:
    text = row["text"]
    options = len((text or {}).get("action_list") or row["impression_list"] or [])
    time, shared = _time(row["timestamp"]), ""
    if row["group_id"]:
        shared = f", shared by group {row['group_id']}, items as of {_time(row['group_time'])}"
    print(f"scene {row['scene_id'] or '(no id)'} of {row['dataset']}: user {row['user_id']}, {time}")
    print(f"{row['split'] or 'no split'}, exposure {row['exposure'] or 'unknown'}{shared}\n\n{_user_message(text)}\n")
    columns = {"option": [_option(None, i) for i in range(options)], "truth": _chosen(options, row["item_pos"])}
    columns |= {name: row[source] for name, source in (("source", "sources"), ("earlier", "item_cnt")) if row[source]}
    baselines = _of_scene(row, related, "baselines").select("baseline", "probs")
    columns |= {name: _percent(probs) for name, probs in baselines.iter_rows()}
    predictions = _of_scene(row, related, "predictions")
    for variant in VARIANTS:
        probs = predictions.filter(pl.col("variant") == variant)["probs"].to_list()
        if probs:
            columns[f"{variant} decisions"] = _percent(np.mean(probs, axis=0).tolist())
    print_table(columns)


def _print_decision(row: Row, related: Related) -> None:
    scene = _scene_of(row, related)
    named = "no option" if row["behavior"] is None else _option(scene, row["behavior"])
    print(f"{row['variant']} decision {row['sample']} by {row['model']}, scene {row['scene_id']}")
    print(row["text"])
    print(f"names {named}; ended by {row['finish_reason']}")
    if scene:
        print(f"truth: {_option(scene, scene['item_pos'])}")


def _print_prediction(row: Row, related: Related) -> None:
    print(f"{row['predictor']} after {row['variant']} decision {row['sample']}, scene {row['scene_id']}")
    same = [pl.col(name) == pl.lit(row[name]) for name in ("variant", "sample")]
    for text in _of_scene(row, related, "decisions").filter(same)["text"]:
        print(text)
    _print_probabilities(row, related)


def _print_baseline(row: Row, related: Related) -> None:
    print(f"{row['baseline']}, scene {row['scene_id']}")
    _print_probabilities(row, related)


def _print_probabilities(row: Row, related: Related) -> None:
    probs, scene = row["probs"] or [], _scene_of(row, related)
    columns = {"option": [_option(scene, i) for i in range(len(probs))]}
    if scene:
        columns["truth"] = _chosen(len(probs), scene["item_pos"])
    print_table({**columns, "probability": _percent(probs)})


def _print_pair(row: Row, related: Related) -> None:
    print(f"pair of scene {row['scene_id'] or '(no id)'}, {row['dataset'] or 'no data set'}: user {row['user_id']}")
    print(f"\n{_last_content(row['prompt'])}\n")
    sides = {side: _last_content(row[side]) for side in ("chosen", "rejected")}
    if sys.stdout.isatty():
        from rich.columns import Columns
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        Console().print(Columns([Panel(Text(text), title=side) for side, text in sides.items()], equal=True))
    else:
        for side, text in sides.items():
            print(f"{side}:\n{text}\n")
    measures = [(name, row[name]) for name in (*MEASURES, "accepted", "rejected_from") if row[name] is not None]
    words = [f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in measures]
    print(", ".join(words) or "no measures")


def _last_content(messages: Sequence[Row | None] | None) -> str:
    message = messages[-1] if messages else None
    return (message or {}).get("content") or "(no text)"


def _scene_of(row: Row, related: Related) -> Row | None:
    """The scene that a row belongs to, if it is known."""
    return next(_of_scene(row, related, "scenes").iter_rows(named=True), None)


def _of_scene(row: Row, related: Related, kind: str) -> pl.DataFrame:
    return related[kind].filter(pl.col("scene_id") == pl.lit(row["scene_id"]))


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "undated"


def _chosen(options: int, position: int) -> list[str]:
    return ["chosen" if index == position else "" for index in range(options)]


def _option(scene: Row | None, index: int) -> str:
    label = f"[{LABELS[index]}]" if 0 <= index < len(LABELS) else f"option {index}"
    options = (scene or {}).get("text", {}).get("action_list") or []
    return f"{label} {options[index]}" if 0 <= index < len(options) else label


def _user_message(text: Row | None) -> str:
    if not text or not text["action_list"]:
        return "(the text is withheld)"
    options = [option or "" for option in text["action_list"]][: len(LABELS)]
    shown = SceneText(profile=text["profile"] or "", history=text["history"] or "", action_list=options)
    return conversation(shown, "plain")[-1]["content"]


def _percent(probs: Sequence[float | None]) -> list[str]:
    return ["" if p is None else f"{p:.2f}" for p in probs]


def print_table(columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns side by side: boxed on a terminal, aligned text elsewhere."""
    rows = list(zip_longest(*(list(map(str, column)) for column in columns.values()), fillvalue=""))
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns)
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (tuple(columns), *rows):
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def shorten(value: Any, width: int = 60) -> str:
    """A value as one cell of text, at most `width` characters long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


PRINTERS: dict[str, Callable[[Row, Related], None]] = {
    "scenes": _print_scene,
    "baselines": _print_baseline,
    "decisions": _print_decision,
    "predictions": _print_prediction,
    "pairs": _print_pair,
}
