"""Scenes of the full tables against scenes of tables that end when the scene begins."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import ItemRecords
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.draw import draw
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.window import open_window
from usermirrorer.seeds import hex_digits
from usermirrorer.steps import SceneSettings


SCENES = 40


def as_bytes(scene: dict[str, Any] | None) -> bytes | None:
    """A scene without `later_chosen`, as text that shows every difference."""
    if scene is None:
        return None
    return json.dumps({**scene, "later_chosen": None}, default=str, sort_keys=True).encode()


def before(tables: Tables, time: int) -> Tables:
    """The tables as they were at `time`: no event at or after it, no item after the last one known by then.

    An item is known if it existed, had an event or was in an impression: some films are rated before their
    release. An impression at `time` itself stays, without its clicks: a scene of that time is about it.
    """
    earlier = tables.log.before(time)
    known = max(int((tables.items["available_from"] <= time).sum()), int(earlier.item.max(initial=-1)) + 1)
    impressions = tables.impressions
    if impressions is not None:
        clicked = pl.when(pl.col("timestamp") < time).then("clicked").otherwise([])
        impressions = impressions.filter(pl.col("timestamp") <= time).with_columns(clicked=clicked)
        listed = tables.items["item_id"].is_in(impressions["items"].explode(empty_as_null=False).unique().implode())
        known = max([known, *(listed.arg_true().tail(1) + 1)])
    items = tables.items.head(known)
    log = Log(earlier.user, earlier.item, earlier.time, len(tables.users), len(items))
    statistics, labels = tables.item_statistics, tables.item_labels
    return replace(
        tables,
        items=items,
        log=log,
        scene_id=tables.scene_id[: len(log)],
        event_columns=tables.event_columns.head(len(log)),
        impressions=impressions,
        item_statistics=statistics and select(statistics, statistics.time <= time),
        item_labels=labels and select(labels, labels.time < time),
        undated=min(tables.undated, len(log)),
    )


def select(records: ItemRecords, kept: np.ndarray) -> ItemRecords:
    """The records under a mask."""
    columns = {name: column.filter(pl.Series(kept)) for name, column in records.columns.items()}
    return ItemRecords(records.item[kept], records.time[kept], columns)


def check(prepared, settings: SceneSettings, times: int) -> int:
    """Compare scenes of the full tables, drawn in one batch, with those of tables cut at the scenes' own times.

    `prepared` has `tables`, `cuts`, `vectors` and `targets(settings)`. Models are fitted on the cut tables for each of
    `times` moments, spread over the window. Returns the number of scenes compared.
    """
    targets = prepared.targets(settings)
    moments = np.unique(targets.time)
    spread = moments[np.linspace(0, len(moments) - 1, times).astype(int)]
    around = np.concatenate([np.argsort(np.abs(targets.time - moment), kind="stable")[:1] for moment in spread])
    rows = np.unique(np.concatenate([around, np.arange(min(SCENES, len(targets)))]))
    settings = prepared.filled_in(settings)
    window = open_window(prepared.tables, prepared.cuts, settings.split, settings.choice, prepared.vectors)
    drawn, names = draw(window, targets.take(rows), settings)
    table = scene_table(window, drawn, settings, names).to_pylist()
    whole = {scene["scene_id"]: scene for scene in table}
    compared = 0
    for row in around:
        target = targets.take(np.array([row]))
        cut = before(prepared.tables, int(target.time[0]))
        assert not len(cut.log) or cut.log.time.max() < target.time[0]
        window = open_window(cut, prepared.cuts, settings.split, settings.choice, prepared.vectors)
        drawn, names = draw(window, target, settings)
        alone = scene_table(window, drawn, settings, names).to_pylist()[0] if len(drawn) else None
        assert as_bytes(alone) == as_bytes(whole.get(hex_digits(target.scene_id)[0].decode()))
        compared += alone is not None
    return compared
