"""The central property: deleting everything at or after a scene's time changes no byte of the scene."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from usermirrorer.data.draw import SceneSettings, draw
from usermirrorer.data.keyed import hex_digits
from usermirrorer.data.log import Log
from usermirrorer.data.scenes import scene_of, scene_table
from usermirrorer.data.tables import Tables
from usermirrorer.data.window import open_window


SCENES = 40


def as_bytes(scene: dict[str, Any] | None) -> bytes | None:
    """A scene without the audit of the future, as text that shows every difference."""
    if scene is None:
        return None
    return json.dumps({**scene, "later_chosen": None}, default=str, sort_keys=True).encode()


def check(prepared, settings: SceneSettings, times: int) -> int:
    """Compare `SCENES` scenes of the full tables, drawn in one batch, with those of tables cut at their own times.

    The cut tables are fitted once for each of `times` moments; scenes at one moment share the fit.
    """
    choices = prepared.choices(settings)
    moments = np.unique(choices.time)
    spread = moments[np.linspace(0, len(moments) - 1, times).astype(int)]
    around = np.concatenate([np.argsort(np.abs(choices.time - moment), kind="stable")[:1] for moment in spread])
    rows = np.unique(np.concatenate([around, np.arange(SCENES)]))
    window = open_window(prepared.tables, prepared.cuts, settings.split, settings.choice, prepared.vectors)
    drawn, names = draw(window, choices.take(rows), settings)
    table = scene_table(window, drawn, settings, names).to_pylist()
    whole = {scene["scene_id"]: scene for scene in table}
    compared = 0
    for row in around:
        choice = choices.take(np.array([row]))
        cut = prepared.tables.before(int(choice.time[0]))
        assert not len(cut.log) or cut.log.time.max() < choice.time[0]
        alone = scene_of(cut, prepared.cuts, choice, settings, prepared.vectors)
        assert as_bytes(alone) == as_bytes(whole.get(hex_digits(choice.scene_id)[0].decode()))
        compared += alone is not None
    return compared


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("exposure", ["natural", "hard", "retrieved"])
def test_scenes_of_a_small_log(small, exposure: str, split: str) -> None:
    settings = SceneSettings(split, SCENES, exposure, min_exposure=2, max_exposure=12)
    times = 6 if exposure == "hard" else 8  # `hard` fits every model twice
    assert check(small, settings, times) >= times // 2


@pytest.mark.parametrize(("exposure", "times"), [("natural", 5), ("hard", 2), ("retrieved", 4)])
def test_scenes_of_movielens(ml_100k, exposure: str, times: int) -> None:
    assert check(ml_100k, SceneSettings("test", SCENES, exposure), times) >= times - 1


def test_scenes_of_toy(toy) -> None:
    assert check(toy, SceneSettings("test", SCENES, "logged"), times=16) >= 14


def test_scenes_of_toy_log(toy_log) -> None:
    assert check(toy_log, SceneSettings("train", SCENES, "natural"), times=8) >= 6
    assert check(toy_log, SceneSettings("test", SCENES, "natural"), times=8) >= 6


def test_a_changed_future_changes_nothing_either(small) -> None:
    """Later events with other items and people, not only no later events."""
    settings = SceneSettings("test", SCENES, "natural")
    choices = small.choices(settings)
    middle = np.sort(choices.time)[len(choices) // 2]
    early = np.flatnonzero(choices.time <= middle)[:SCENES]
    tables: Tables = small.tables
    log = tables.log
    rng = np.random.default_rng(0)
    after = log.time >= middle
    user, item = log.user.copy(), log.item.copy()
    user[after], item[after] = rng.permutation(user[after]), rng.permutation(item[after])
    other = replace(
        tables,
        log=Log(user, item, log.time, log.users, log.items),
        behaviour=tables.behaviour.with_columns(rating=pl.when(pl.lit(after)).then(1).otherwise(pl.col("rating"))),
    )
    made = []
    for world in (tables, other):
        window = open_window(world, small.cuts, "test", "any", small.vectors)
        made.append(scene_table(window, *_drawn(window, choices.take(early), settings)).to_pylist())
    assert [as_bytes(scene) for scene in made[0]] == [as_bytes(scene) for scene in made[1]]
    assert made[0] != made[1], "the audit of the future alone may differ, and does"


def _drawn(window, choices, settings):
    drawn, names = draw(window, choices, settings)
    return drawn, settings, names
