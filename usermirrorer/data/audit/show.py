"""Rows of an artefact as a person reads them: scenes as laid out with all answers, decisions, pairs, vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.find import Artefact, find_artefacts
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import LABELS, SceneText, conversation


Row = dict[str, Any]

NEIGHBOURS = 3
"""Most similar items that are shown with an item's vector."""


def show(path: Path, num: int = 3, scene: str = "", seed: int = 0) -> None:
    """Print `num` rows of the artefact at `path`, drawn by `seed`, or all rows of one `scene`.

    Of a whole --work everything of one scene can be shown. Raises UserError where nothing is there to show.
    """
    if num < 1:
        raise UserError(f"--num {num}: ask for at least one row")
    artefacts = find_artefacts(path)
    if scene:
        artefacts = [artefact for artefact in artefacts if artefact.kind in SHOWN]
    elif len(artefacts) > 1:
        names = ", ".join(artefact.name for artefact in artefacts)
        raise UserError(f"{path} holds {names}: give one of them, or a scene with --scene ID")
    shown = 0
    for artefact in artefacts:
        if artefact.kind == "tables":
            shown += _tables(artefact, num, seed)
        elif artefact.kind == "embeddings":
            shown += _vectors(artefact, num, seed)
        else:
            rows = _picked(artefact, num, scene, seed)
            beside = _beside(artefact, [row["scene_id"] for row in rows])
            for row in rows:
                print(f"--- {artefact.name}: {row['_file']} row {row['_row']}")
                SHOWN[artefact.kind](row, beside)
                print()
            shown += len(rows)
    if not shown:
        raise UserError(f"{path} has no row" + (f" of the scene {scene!r}" if scene else "") + " to show")


def _picked(artefact: Artefact, num: int, scene: str, seed: int) -> list[Row]:
    """The rows of one scene, or a draw of `num` rows in the order of the files."""
    if scene:
        found = [rows.filter(pl.col("scene_id") == scene) for rows in artefact.rows()]
        return [row for rows in found for row in rows.to_dicts()]
    total = sum(len(rows) for rows in artefact.rows(["scene_id"]))
    wanted = np.sort(np.random.default_rng(seed).permutation(total)[:num])
    picked: list[Row] = []
    begin = 0
    for rows in artefact.rows():
        here = wanted[(wanted >= begin) & (wanted < begin + len(rows))] - begin
        picked += rows[here].to_dicts()
        begin += len(rows)
    return picked


def _beside(artefact: Artefact, ids: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Rows of the same scenes in what lies beside: scenes, baselines, and the writers' decisions and predictions."""
    split = artefact.part if artefact.kind in ("scenes", "baselines") else "train"
    found: dict[str, pl.DataFrame] = {}
    for kind, part in [("scenes", split), ("baselines", split), *((k, v) for k in WRITTEN for v in VARIANTS)]:
        parts = [artefact.beside(kind, part, domain) for domain in artefact.domains] if artefact.work else []
        files = [file for one in parts if one is not None for file in one.files]
        if files and split == "train" or files and kind in ("scenes", "baselines"):
            rows = pl.scan_parquet(files).filter(pl.col("scene_id").is_in(list(ids))).collect()
            found[kind] = pl.concat([found[kind], rows]) if kind in found else rows
    return found


WRITTEN = ("decisions", "predictions")


def _scene(row: Row, beside: dict[str, pl.DataFrame]) -> None:
    text = row["text"]
    options = len((text or {}).get("action_list") or row["impression_list"] or [])
    print(f"scene {row['scene_id'] or '(no id)'} of {row['dataset']}: user {row['user_id']}, {_time(row)}")
    print(f"{row['split'] or 'no split'}, exposure {row['exposure'] or 'unknown'}")
    print()
    print(_user_message(text))
    print()
    columns: dict[str, list[Any]] = {"option": [_option(None, i) for i in range(options)]}
    columns["truth"] = ["chosen" if i == row["item_pos"] else "" for i in range(options)]
    if row["sources"]:
        columns["source"] = row["sources"]
    if row["item_cnt"]:
        columns["earlier"] = row["item_cnt"]
    columns |= _answers(row["scene_id"], beside)
    _table(columns)


def _answers(scene_id: str, beside: dict[str, pl.DataFrame]) -> dict[str, list[str]]:
    """The probability of every option under each baseline, and the mean behind each writer's decisions."""
    answers: dict[str, list[str]] = {}
    if "baselines" in beside:
        rows = beside["baselines"].filter(pl.col("scene_id") == scene_id)
        answers |= {name: _percent(probs) for name, probs in rows.select("baseline", "probs").iter_rows()}
    if "predictions" in beside:
        rows = beside["predictions"].filter(pl.col("scene_id") == scene_id)
        for variant in VARIANTS:
            probs = rows.filter(pl.col("variant") == variant)["probs"].to_list()
            if probs:
                answers[f"{variant} decisions"] = _percent(np.mean(probs, axis=0).tolist())
    return answers


def _decision(row: Row, beside: dict[str, pl.DataFrame]) -> None:
    scene = _of(beside, "scenes", row["scene_id"])
    named = "no option" if row["behavior"] is None else _option(scene, row["behavior"])
    print(f"{row['variant']} decision {row['sample']} by {row['model']}, scene {row['scene_id']}")
    print(row["text"])
    print(f"names {named}; ended by {row['finish_reason']}")
    if scene:
        print(f"truth: {_option(scene, scene['item_pos'])}")


def _prediction(row: Row, beside: dict[str, pl.DataFrame]) -> None:
    scene = _of(beside, "scenes", row["scene_id"])
    print(f"{row['predictor']} behind {row['variant']} decision {row['sample']}, scene {row['scene_id']}")
    if "decisions" in beside:
        same = (pl.col("scene_id") == row["scene_id"]) & (pl.col("variant") == row["variant"])
        for text in beside["decisions"].filter(same, pl.col("sample") == row["sample"])["text"]:
            print(text)
    _probabilities(row["probs"] or [], scene)


def _baseline(row: Row, beside: dict[str, pl.DataFrame]) -> None:
    print(f"{row['baseline']}, scene {row['scene_id']}")
    _probabilities(row["probs"] or [], _of(beside, "scenes", row["scene_id"]))


def _probabilities(probs: Sequence[float], scene: Row | None) -> None:
    columns = {"option": [_option(scene, i) for i in range(len(probs))]}
    if scene:
        columns["truth"] = ["chosen" if i == scene["item_pos"] else "" for i in range(len(probs))]
    _table({**columns, "probability": _percent(probs)})


def _pair(row: Row, beside: dict[str, pl.DataFrame]) -> None:
    print(f"pair of scene {row['scene_id'] or '(no id)'}, {row['dataset'] or 'no data set'}: user {row['user_id']}")
    print()
    print(_last(row["prompt"]))
    print()
    sides = {side: _last(row[side]) for side in ("chosen", "rejected")}
    if sys.stdout.isatty():
        from rich.columns import Columns
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        Console().print(Columns([Panel(Text(text), title=side) for side, text in sides.items()], equal=True))
    else:
        for side, text in sides.items():
            print(f"{side}:\n{text}\n")
    measures = [(name, row[name]) for name in MEASURES if row[name] is not None]
    told = [f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in measures]
    print(", ".join(told) or "no measures")


def _last(messages: Sequence[Row | None] | None) -> str:
    message = messages[-1] if messages else None
    return (message or {}).get("content") or "(no text)"


MEASURES = (
    "score", "entropy_expected_strong", "entropy_expected_weak", "entropy_total_strong", "entropy_total_weak",
    "entropy_chosen", "entropy_rejected", "accepted", "rejected_from",
)  # fmt: skip

SHOWN: dict[str, Callable[[Row, dict[str, pl.DataFrame]], None]] = {
    "scenes": _scene,
    "baselines": _baseline,
    "decisions": _decision,
    "predictions": _prediction,
    "pairs": _pair,
}


def _tables(artefact: Artefact, num: int, seed: int) -> int:
    """`num` rows of every table."""
    shown = 0
    for path in artefact.files:
        total = pq.ParquetFile(path).metadata.num_rows
        rows = pl.scan_parquet(path).with_row_index("_row", 1)
        wanted = np.random.default_rng(seed).permutation(total)[:num] + 1
        picked = rows.filter(pl.col("_row").is_in(wanted.tolist())).collect()
        print(f"--- {artefact.name}: {path.name}, {total:,} rows")
        _table({name: list(map(_cell, picked[name])) for name in picked.columns if name != "_row"})
        print()
        shown += len(picked)
    return shown


def _vectors(artefact: Artefact, num: int, seed: int) -> int:
    """Items with the most similar others: what the content model takes for alike."""
    frame = pl.read_parquet(list(artefact.files), columns=["item_id", "vector"])
    tables = artefact.beside("tables")
    texts = pl.read_parquet(tables.path / "items.parquet", columns=["item_id", "text"]) if tables else None
    text_of = dict(texts.iter_rows()) if texts is not None else {}
    vectors, ids = frame["vector"].to_numpy(), frame["item_id"].to_list()
    picked = np.random.default_rng(seed).permutation(len(ids))[:num]
    for index in picked.tolist():
        near = vectors @ vectors[index]
        near[index] = -np.inf
        print(f"--- {artefact.name}: {ids[index]} {text_of.get(ids[index], '')}")
        for other in np.argsort(-near, kind="stable")[:NEIGHBOURS].tolist():
            print(f"  {near[other]:.2f}  {ids[other]} {text_of.get(ids[other], '')}")
    return len(picked)


def _of(beside: dict[str, pl.DataFrame], kind: str, scene_id: str) -> Row | None:
    rows = beside[kind].filter(pl.col("scene_id") == scene_id).to_dicts() if kind in beside else []
    return rows[0] if rows else None


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


def _time(row: Row) -> str:
    return f"{row['timestamp']:%Y-%m-%d %H:%M:%S} UTC" if row["timestamp"] else "undated"


def _percent(probs: Sequence[float | None]) -> list[str]:
    return ["" if p is None else f"{p:.2f}" for p in probs]


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, pl.Series) else "" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _table(columns: dict[str, list[Any]]) -> None:
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
