"""Rows as text for people: scenes as laid out with all answers, decisions, predictions, baselines and pairs.

Each view gets a row and `related`: kind -> rows of the same scenes in the artefacts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.console import say
from usermirrorer.console.tables import show_table
from usermirrorer.data.artefacts.schema import MEASURES, VARIANTS
from usermirrorer.llm.prompts import LABELS, SceneText, conversation
from usermirrorer.wording import in_words


Row = dict[str, Any]
Related = Mapping[str, pl.DataFrame]


def _show_scene(row: Row, related: Related) -> None:
    text = row["text"]
    options = len((text or {}).get("action_list") or row["impression_list"] or [])
    time, shared = _time(row["timestamp"]), ""
    if row["group_id"]:
        shared = f", shared by group {row['group_id']}, items as of {_time(row['group_time'])}"
    say(f"scene {row['scene_id'] or '(no id)'} of {row['dataset']}: user {row['user_id']}, {time}")
    say(f"{row['split'] or 'no split'}, exposure {row['exposure'] or 'unknown'}{shared}\n\n{_user_message(text)}\n")
    answers = {"truth": _chosen(options, row["item_pos"])}
    answers |= {name: row[source] for name, source in (("source", "sources"), ("earlier", "item_cnt")) if row[source]}
    baselines = _of_scene(row, related, "baselines").select("baseline", "probs")
    answers |= {name: _percent(probs) for name, probs in baselines.iter_rows()}
    predictions = _of_scene(row, related, "predictions")
    for variant in VARIANTS:
        probs = predictions.filter(pl.col("variant") == variant)["probs"].to_list()
        if probs:
            answers[f"{variant} decisions"] = _percent(np.mean(probs, axis=0).tolist())
    # In a damaged scene lists differ in length; `validate` says so.
    rows = [(name, *islice(chain(map(str, cells), repeat("")), options)) for name, cells in answers.items()]
    show_table(["option", *(_option(None, index) for index in range(options))], rows)


def _show_decision(row: Row, related: Related) -> None:
    scene = _scene_of(row, related)
    named = "no option" if row["behavior"] is None else _option(scene, row["behavior"])
    say(f"{row['variant']} decision {row['sample']} by {row['model']}, scene {row['scene_id']}")
    say(row["text"] or "(no text)")
    say(f"names {named}; ended by {row['finish_reason']}")
    if scene:
        say(f"truth: {_option(scene, scene['item_pos'])}")


def _show_prediction(row: Row, related: Related) -> None:
    say(f"{row['predictor']} after {row['variant']} decision {row['sample']}, scene {row['scene_id']}")
    same = [pl.col(name) == pl.lit(row[name]) for name in ("variant", "sample")]
    for text in _of_scene(row, related, "decisions").filter(same)["text"]:
        say(text or "(no text)")
    _show_probabilities(row, related)


def _show_baseline(row: Row, related: Related) -> None:
    say(f"{row['baseline']}, scene {row['scene_id']}")
    _show_probabilities(row, related)


def _show_probabilities(row: Row, related: Related) -> None:
    probs, scene = row["probs"] or [], _scene_of(row, related)
    truth = _chosen(len(probs), scene["item_pos"]) if scene else [""] * len(probs)
    shown = [_option(scene, index) for index in range(len(probs))]
    show_table(("option", "truth", "probability"), [*zip(shown, truth, _percent(probs), strict=True)], "llr")


def _show_pair(row: Row, related: Related) -> None:
    say(f"pair of scene {row['scene_id'] or '(no id)'}, {row['dataset'] or 'no data set'}: user {row['user_id']}")
    say(f"\n{_last_content(row['prompt'])}\n")
    sides = {side: _last_content(row[side]) for side in ("chosen", "rejected")}
    for side, text in sides.items():
        say(f"{side}:", "bold")
        say(f"{text}\n")
    measures = [(name, row[name]) for name in (*MEASURES, "accepted", "rejected_from") if row[name] is not None]
    shown = [(in_words(name), f"{value:.3f}" if isinstance(value, float) else str(value)) for name, value in measures]
    say(", ".join(f"{name} {value}" for name, value in shown) or "no measures")


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


def shorten(value: Any, width: int = 60) -> str:
    """A value as one cell of text, at most `width` characters long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


VIEWS: dict[str, Callable[[Row, Related], None]] = {
    "scenes": _show_scene,
    "baselines": _show_baseline,
    "decisions": _show_decision,
    "predictions": _show_prediction,
    "pairs": _show_pair,
}
