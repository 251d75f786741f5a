"""Scenes of the full tables against scenes of tables that hold no more than the scenes may depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.items.models import DECAYING
from usermirrorer.data.log.choices import qualifying_choices
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import ItemRecords
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.draw import Drawn, draw, grouped_scenes
from usermirrorer.data.scenes.evidence import MODEL, Evidence
from usermirrorer.data.scenes.groups import Groups
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.scores import RECENT, score_all
from usermirrorer.data.scenes.window import Window, open_window
from usermirrorer.seeds import hex_digits
from usermirrorer.steps import SceneSettings


SCENES = 40


def as_bytes(scene: dict[str, Any] | None) -> bytes | None:
    """A scene without `later_chosen`, as text that shows every difference."""
    if scene is None:
        return None
    return json.dumps({**scene, "later_chosen": None}, default=str, sort_keys=True).encode()


def with_events(tables: Tables, kept: np.ndarray, now: int) -> Tables:
    """The tables as if only the events under the mask `kept` had been recorded, and nothing about items after `now`.

    Undated items come to exist with the first event that is left; those without any are gone, and the items are in
    their new order.
    """
    log = tables.log.take(kept)
    first = np.full(log.items, np.iinfo(np.int64).max)
    np.minimum.at(first, log.item, log.time)
    dated = tables.items["dated"].to_numpy()
    available = np.where(dated, tables.available_from, np.where(first < first.max(), first + 1, first))
    order = np.lexsort((tables.items["item_id"].to_numpy(), available))
    order = order[(first[order] < np.iinfo(np.int64).max) | (dated[order] & (available[order] <= now))]
    row = np.full(log.items, -1, dtype=np.int32)
    row[order] = np.arange(len(order))
    statistics, labels = tables.item_statistics, tables.item_labels
    return replace(
        tables,
        items=tables.items[order].with_columns(available_from=pl.Series(available[order])),
        log=Log(log.user, row[log.item], log.time, log.users, len(order)),
        scene_id=tables.scene_id[kept],
        event_columns=tables.event_columns.filter(pl.Series(kept)),
        impressions=None,
        item_statistics=statistics and select(statistics, statistics.time <= now, row),
        item_labels=labels and select(labels, labels.time < now, row),
        undated=int(kept[: tables.undated].sum()),
    )


def select(records: ItemRecords, kept: np.ndarray, row: np.ndarray) -> ItemRecords:
    """The records under a mask, of items that are left, ordered by their new rows."""
    kept = np.flatnonzero(kept & (row[records.item] >= 0))
    kept = kept[np.lexsort((records.time[kept], row[records.item[kept]]))]
    columns = {name: column[kept] for name, column in records.columns.items()}
    return ItemRecords(row[records.item[kept]].astype(np.int64), records.time[kept], columns)


def check_groups(prepared, settings: SceneSettings, times: int) -> int:
    """Compare groups of the full tables with the same groups in tables that hold nothing else.

    What is left is the group's choices, what precedes the group, and each member's own past. `prepared` has `tables`,
    `cuts`, `vectors` and `choices(settings)`. Returns the number of groups compared, at most `times`.
    """
    settings, tables = prepared.filled_in(settings), prepared.tables
    choices, log = prepared.choices(settings), prepared.tables.log
    window = open_window(tables, prepared.cuts, settings.split, settings.choice, prepared.vectors)
    drawn, names, _ = draw(window, choices, settings, 1, lambda done, total: None)
    table = scene_table(window, drawn, settings, names, evidence_of(window, drawn, settings)).to_pylist()
    ids = np.unique(drawn.group)
    compared = ids[np.unique(np.linspace(0, len(ids) - 1, times).astype(int))] if len(ids) else ids
    for group in compared:
        rows = np.flatnonzero(drawn.group == group)
        rows = rows[np.argsort(drawn.position[rows])]
        members, now = drawn.choices.take(rows), int(drawn.group_time[rows[0]])
        kept = (log.time < now) | np.isin(tables.scene_id, members.scene_id)
        for user, time in zip(members.user, members.time, strict=True):
            kept |= (log.user == user) & (log.time < time)
        cut = with_events(tables, kept, now)
        assert len(cut.log) < len(log) or now == log.time[-1]
        left, _ = qualifying_choices(cut, prepared.cuts, settings.split, settings.choice, "matched", settings.seed)
        found = {scene: row for row, scene in enumerate(left.scene_id.tolist())}
        member = np.array([found[scene] for scene in members.scene_id.tolist()])
        alone = grouped_scenes(left, Groups(member, np.array([len(member)]), np.array([group])))
        window = open_window(cut, prepared.cuts, settings.split, settings.choice, prepared.vectors)
        again = scene_table(window, alone, settings, names, evidence_of(window, alone, settings)).to_pylist()
        assert [as_bytes(scene) for scene in again] == [as_bytes(table[row]) for row in rows]
    return len(compared)


def evidence_of(window: Window, drawn: Drawn, settings: SceneSettings) -> Callable[[pa.ListArray], pa.ListArray]:
    """What adds the words of the evidence, if the settings ask for it, with cuts that are as if fitted before."""
    if not settings.evidence:
        return lambda options: options
    scores = score_all(window, drawn, dict.fromkeys(DECAYING, 4.0), 1)[RECENT.format(MODEL)]
    return lambda options: Evidence(4.0, (0.02, 0.1)).shown(options, scores)


def check_logged(prepared, settings: SceneSettings, times: int) -> int:
    """Compare `logged` scenes of the full tables with those of tables that end when the scene begins.

    Returns the number of scenes compared, at most `times`.
    """
    settings, tables = prepared.filled_in(settings), prepared.tables
    choices = prepared.choices(settings)

    def made(world: Tables, some: np.ndarray) -> dict[str, dict[str, Any]]:
        window = open_window(world, prepared.cuts, settings.split, settings.choice, prepared.vectors)
        drawn, names, _ = draw(window, choices.take(some), settings, 1, lambda done, total: None)
        scenes = scene_table(window, drawn, settings, names).to_pylist()
        return {scene["scene_id"]: scene for scene in scenes}

    first = np.arange(min(SCENES, len(choices)))
    whole, compared = made(tables, first), 0
    for row in first[np.unique(np.linspace(0, len(first) - 1, times).astype(int))]:
        scene = hex_digits(choices.scene_id[[row]])[0].decode()
        if scene in whole:
            alone = made(_before(tables, int(choices.time[row])), np.array([row]))
            assert as_bytes(alone[scene]) == as_bytes(whole[scene])
            compared += 1
    return compared


def _before(tables: Tables, time: int) -> Tables:
    """The tables as they were at `time`: no event, click or label at or after it, and no item that was not known yet.

    An item is known if it existed, had an event or was in an impression. Impressions stay, without later clicks.
    """
    earlier = tables.log.before(time)
    clicked = pl.when(pl.col("timestamp") < time).then("clicked").otherwise([])
    impressions = tables.impressions.with_columns(clicked=clicked)
    shown = tables.impressions.filter(pl.col("timestamp") <= time)["items"].explode(empty_as_null=False).unique()
    listed = tables.items["item_id"].is_in(shown.implode())
    known = max(int((tables.available_from <= time).sum()), int(earlier.item.max(initial=-1)) + 1)
    known = max([known, *(listed.arg_true().tail(1) + 1)])
    log = Log(earlier.user, earlier.item, earlier.time, len(tables.users), known)
    return replace(
        tables,
        items=tables.items.head(known),
        log=log,
        scene_id=tables.scene_id[: len(log)],
        event_columns=tables.event_columns.head(len(log)),
        impressions=impressions,
        undated=min(tables.undated, len(log)),
    )
