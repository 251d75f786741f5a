"""The central property: deleting everything at or after a scene's time changes no byte of the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from cut_short import SCENES, as_bytes, check

from usermirrorer.data.log.events import Log
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.draw import draw
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.window import open_window
from usermirrorer.steps import SceneSettings


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("exposure", ["natural", "hard", "retrieved"])
def test_scenes_of_a_small_log(small, exposure: str, split: str) -> None:
    settings = SceneSettings(split, SCENES, exposure, min_exposure=2, max_exposure=12)
    times = 6 if exposure == "hard" else 8  # `hard` fits every model twice
    assert check(small, settings, times) >= times // 2


@pytest.mark.slow
@pytest.mark.parametrize(("exposure", "times"), [("natural", 5), ("hard", 2), ("retrieved", 4)])
def test_scenes_of_movielens(ml_100k, exposure: str, times: int) -> None:
    assert check(ml_100k, SceneSettings("test", SCENES, exposure, min_exposure=2, max_exposure=12), times) >= times - 1


def test_scenes_of_toy(toy) -> None:
    assert check(toy, SceneSettings("test", SCENES, "logged"), times=16) >= 14


def test_scenes_of_toy_log(toy_log) -> None:
    assert check(toy_log, SceneSettings("train", SCENES, "natural"), times=8) >= 6
    assert check(toy_log, SceneSettings("test", SCENES, "natural", min_exposure=2, max_exposure=12), times=8) >= 6


def test_a_changed_future_changes_nothing_either(small) -> None:
    """Later events with other items and users, instead of no later events."""
    settings = SceneSettings("test", SCENES, "natural", min_exposure=2, max_exposure=12)
    targets = small.targets(settings)
    middle = np.sort(targets.time)[len(targets) // 2]
    early = np.flatnonzero(targets.time <= middle)[:SCENES]
    tables: Tables = small.tables
    log = tables.log
    rng = np.random.default_rng(0)
    after = log.time >= middle
    user, item = log.user.copy(), log.item.copy()
    user[after], item[after] = rng.permutation(user[after]), rng.permutation(item[after])
    other = replace(
        tables,
        log=Log(user, item, log.time, log.users, log.items),
        event_columns=tables.event_columns.with_columns(
            rating=pl.when(pl.lit(after)).then(1).otherwise(pl.col("rating"))
        ),
    )
    both = []
    for world in (tables, other):
        window = open_window(world, small.cuts, "test", "any", small.vectors)
        both.append(scene_table(window, *_drawn(window, targets.take(early), settings)).to_pylist())
    assert [as_bytes(scene) for scene in both[0]] == [as_bytes(scene) for scene in both[1]]
    assert both[0] != both[1], "only `later_chosen` may differ, and it does"


def _drawn(window, targets, settings):
    drawn, names = draw(window, targets, settings)
    return drawn, settings, names
