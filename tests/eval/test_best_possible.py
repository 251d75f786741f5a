"""The posterior is what the simulation does, in real impressions and in groups, from the text and from the log."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from handmade import frame, scene

from usermirrorer import measures
from usermirrorer.data.sources import toy
from usermirrorer.errors import UserError
from usermirrorer.eval.best_possible import FROM_LOG, FROM_TEXT, best_possible, expected


TEXT = {"profile": "", "history": "chose sweet cake\nchose sweet pie", "action_list": ["sour tea", "sweet tea"]}


def toy_scene(**changes) -> dict:
    return scene("1", "1", 1, options=2, **{"dataset": "toy", "text": TEXT, **changes})


def test_it_is_known_for_real_impressions_of_toy_and_groups_of_toy_log():
    best = best_possible(frame([toy_scene()]))
    assert list(best) == [FROM_TEXT] and best[FROM_TEXT]["probs"][0][1] > 0.5
    grouped = toy_scene(dataset="toy-log", group_id="0" * 16)
    assert best_possible(frame([grouped])) != {}
    for unknown in ({"dataset": "shop"}, {"dataset": "toy-log"}):
        assert best_possible(frame([toy_scene(**unknown)])) == {}


def test_the_whole_history_is_what_came_before_the_scene(tmp_path):
    log = [("1", "sour-cake", 1), ("1", "sour-tea", 2), ("1", "sweet-tea", 3), ("2", "sweet-pie", 1)]
    rows = [(user, item, datetime(2020, 1, day, tzinfo=UTC)) for user, item, day in log]
    frame_of = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame_of = frame_of.with_columns(pl.col("timestamp").dt.epoch("ms"))
    frame_of.write_parquet(tmp_path / "interactions.parquet")
    scenes = frame([toy_scene(timestamp=datetime(2020, 1, 3, tzinfo=UTC))])
    best = best_possible(scenes, tmp_path)
    sour_twice = toy.best_possible(["sour", "sour"], ["sour", "sweet"])
    assert best[FROM_LOG]["probs"][0].to_list() == pytest.approx(sour_twice.tolist())
    frame_of.filter(pl.col("user_id") == "2").write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(UserError, match="lacks user 1"):
        best_possible(scenes, tmp_path)


def grouped_choices(size: int = 5) -> tuple[list[tuple[list[str], list[str]]], np.ndarray]:
    """(history tastes, option tastes) and position of the choice, in groups of choices of the log close in time."""
    log = toy.generate(3).interactions.sort("timestamp")
    earlier: dict[str, list[str]] = {}
    waiting: list[tuple[str, str, list[str]]] = []
    shown, positions = [], []
    for user, item in log.select("user_id", "item_id").iter_rows():
        history = earlier.setdefault(user, [])
        if len(history) >= 3 and all(user != other and item != taken for other, taken, _ in waiting):
            waiting.append((user, item, history[-6:]))
        history.append(item.split("-")[0])
        if len(waiting) == size:
            options = [taken.split("-")[0] for _, taken, _ in waiting]
            shown += [(before, options) for _, _, before in waiting]
            positions += range(size)
            waiting = []
    return shown, np.array(positions)


def test_the_posterior_in_groups_is_calibrated_and_as_accurate_as_it_says():
    shown, chosen = grouped_choices()
    best = pl.DataFrame({"probs": [toy.best_possible_in_group(*tastes).tolist() for tastes in shown]})
    probs = np.array(best["probs"].to_list())
    hits = measures.argmax_hit(probs, chosen)
    assert measures.choice_probability(probs, chosen).mean() == pytest.approx(expected(best)["accuracy"], abs=0.012)
    assert hits.mean() == pytest.approx(expected(best)["argmax_accuracy"], abs=0.012)
    top = probs.max(axis=1)
    for low, high in [(0.0, 0.4), (0.4, 0.7), (0.7, 1.0)]:
        inside = (top > low) & (top <= high)
        assert hits[inside].mean() == pytest.approx(top[inside].mean(), abs=3 * np.sqrt(0.25 / inside.sum()))
    as_impressions = np.array([toy.best_possible(*tastes) for tastes in shown])
    counts = np.full(len(chosen), 5)
    gains = [measures.information_gain(one, chosen, counts).mean() for one in (probs, as_impressions)]
    assert gains[0] > gains[1]
