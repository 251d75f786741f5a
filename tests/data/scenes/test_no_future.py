"""The central property: a scene is a function of its group, what precedes it, and the user's own past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from cut_short import SCENES, as_bytes, check_groups, check_logged

from usermirrorer.data.log.events import Log
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.draw import draw
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.window import open_window
from usermirrorer.steps import SceneSettings


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("exposure", ["matched", "hard"])
def test_groups_of_a_small_log(small, exposure: str, split: str) -> None:
    assert check_groups(small, SceneSettings(split, 400, exposure, min_exposure=2, max_exposure=8), times=20) == 20


@pytest.mark.parametrize("exposure", ["matched", "hard"])
def test_groups_of_movielens(ml_100k, exposure: str) -> None:
    assert check_groups(ml_100k, SceneSettings("test", 400, exposure, min_exposure=2, max_exposure=12), times=10) == 10


def test_evidence_knows_no_future_either(small, ml_100k) -> None:
    for prepared in (small, ml_100k):
        settings = SceneSettings("test", 400, "matched", min_exposure=2, max_exposure=8, evidence=True)
        assert check_groups(prepared, settings, times=8) == 8


def test_groups_where_items_repeat(toy_log) -> None:
    assert check_groups(toy_log, SceneSettings("test", 400, "matched"), times=20) == 20


def test_logged_scenes(toy) -> None:
    assert check_logged(toy, SceneSettings("test", SCENES, "logged"), times=16) >= 14


def test_a_changed_future_changes_nothing_either(small) -> None:
    """Later events with other items and users, instead of no later events."""
    settings = small.filled_in(SceneSettings("test", 200, "matched"))
    choices, tables = small.choices(settings), small.tables
    early = choices.take(np.flatnonzero(choices.time <= np.median(choices.time)))
    middle = int(early.time.max()) + 1
    log = tables.log
    rng = np.random.default_rng(0)
    after = log.time >= middle
    user, item = log.user.copy(), log.item.copy()
    user[after], item[after] = rng.permutation(user[after]), rng.permutation(item[after])
    other: Tables = replace(
        tables,
        log=Log(user, item, log.time, log.users, log.items),
        event_columns=tables.event_columns.with_columns(
            rating=pl.when(pl.lit(after)).then(1).otherwise(pl.col("rating"))
        ),
    )
    both = []
    for world in (tables, other):
        window = open_window(world, small.cuts, "test", "any", small.vectors)
        drawn, names, _ = draw(window, early, settings, 1, lambda done, total: None)
        both.append(scene_table(window, drawn, settings, names).to_pylist())
    assert [as_bytes(scene) for scene in both[0]] == [as_bytes(scene) for scene in both[1]]
    assert both[0] != both[1], "only `later_chosen` may differ, and it does"
