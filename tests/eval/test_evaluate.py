"""Measures of hand-made predictions, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from handmade import blind, frame, groups, predictions, scene

from usermirrorer import measures
from usermirrorer.data.artefacts.schema import BASELINES
from usermirrorer.data.artefacts.store import write_parquet
from usermirrorer.errors import UserError
from usermirrorer.eval.baselines import load_baselines
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.scene_predictions import paired, per_scene


def run(scenes, rows, **more):
    baselines, _ = load_baselines(None, scenes, None)
    return evaluate(rows, scenes, baselines, "no probe: made by hand", **more)


def test_two_scenes_by_hand():
    scenes = frame([scene("1", "1", 1, options=2), scene("2", "2", 0, options=4, dataset="books")])
    by_item = {row["item_id"]: row["scene_id"] for row in scenes.iter_rows(named=True)}
    rows = predictions(scenes, 0.0, samples=1)
    first, second = [[0.5, 0.5], [0.1, 0.9]], [[0.2, 0.4, 0.2, 0.2], [0.4, 0.4, 0.1, 0.1]]
    rows = pl.DataFrame(
        [
            {**rows.row(0, named=True), "scene_id": by_item[item], "sample": j, "probs": probs}
            for item, samples in (("1", first), ("2", second))
            for j, probs in enumerate(samples)
        ],
        schema=rows.schema,
    )
    full = run(scenes, rows)["models"]["m"]["contexts"]["full"]
    assert full["domains"]["shop"]["accuracy"]["value"] == pytest.approx((0.5 + 0.9) / 2)
    assert full["domains"]["books"]["accuracy"]["value"] == pytest.approx((0.2 + 0.4) / 2)
    assert full["macro"]["argmax_accuracy"]["value"] == pytest.approx((1 + 0) / 2)
    gain = ((1 + math.log2(0.7)) + (2 + math.log2(0.3))) / 2
    assert full["macro"]["information_gain"]["value"] == pytest.approx(gain)
    assert full["macro"]["mrr"]["value"] == pytest.approx((1 + 1 / 2) / 2)
    assert full["macro"]["accuracy"]["low"] is None and full["user_gain"] is None  # two users, no group
    assert full["positions"]["4"] == pytest.approx([0.3, 0.4, 0.15, 0.15])
    assert full["position_bias"]["4"]["value"] == pytest.approx(0.2)


def test_rows_are_joined_by_id_whatever_their_order(scenes):
    rows = predictions(scenes, 1.0)
    assert run(scenes, rows) == run(scenes.sample(fraction=1, shuffle=True, seed=3), rows)
    shuffled = run(scenes, rows.sample(fraction=1, shuffle=True, seed=3))["models"]["m"]["contexts"]["full"]["macro"]
    for name, estimate in run(scenes, rows)["models"]["m"]["contexts"]["full"]["macro"].items():
        assert shuffled[name] == pytest.approx(estimate)


def test_macro_weighs_domains_alike_and_pooled_weighs_scenes(scenes):
    full = run(scenes, predictions(scenes, 1.0))["models"]["m"]["contexts"]["full"]
    shop, books = full["domains"]["shop"]["accuracy"], full["domains"]["books"]["accuracy"]
    assert (shop["n"], books["n"]) == (80, 40)
    assert full["macro"]["accuracy"]["value"] == pytest.approx((shop["value"] + books["value"]) / 2)
    assert full["pooled"]["accuracy"]["value"] == pytest.approx((80 * shop["value"] + 40 * books["value"]) / 120)
    for scope in (full["macro"], full["pooled"], full["domains"]["shop"]):
        assert all(one["low"] <= one["value"] <= one["high"] for name, one in scope.items() if name != "ece_null")


def test_unfinished_cut_off_and_missing_rows_are_counted_and_measured_apart(scenes):
    rows = predictions(scenes, 1.0)
    spoilt = pl.col("sample") == 1
    rows = rows.with_columns(
        unfinished=spoilt,
        behavior=pl.when(spoilt).then(None).otherwise("behavior"),
        finish_reason=pl.when(spoilt).then(pl.lit("length")).otherwise("finish_reason"),
        probs=pl.when(spoilt).then(pl.lit([0.2] * 5)).otherwise("probs"),
        shed=pl.lit(2),
    ).filter(pl.col("scene_id") != scenes["scene_id"][0])
    model = run(scenes, rows)["models"]["m"]
    assert model["counts"]["full"] == {
        "scenes": 120, "answered": 119, "too_long": 1, "shed": 119, "rows": 238, "unfinished": 119, "cut_off": 119,
        "disagrees": 0,
    }  # fmt: skip
    alone = measures.choice_probability(per_scene(rows.filter(~spoilt), scenes).probs, per_scene(rows, scenes).choice)
    assert model["without_unfinished"]["accuracy"]["n"] == 119
    assert model["contexts"]["full"]["pooled"]["accuracy"]["value"] == pytest.approx((alone.mean() + 0.2) / 2)


def test_user_gain_is_paired_and_nothing_without_a_difference(scenes):
    full = predictions(scenes, 2.0)
    same = pl.concat([full, full.with_columns(context=pl.lit("swapped-history"))])
    gain = run(scenes, same)["models"]["m"]["user_gain"]
    assert (gain["value"], gain["low"], gain["high"]) == (0, 0, 0)
    blind = pl.concat([full, predictions(scenes, 0.0, context="swapped-history")])
    model = run(scenes, blind)["models"]["m"]
    contexts = {name: one["macro"]["argmax_accuracy"]["value"] for name, one in model["contexts"].items()}
    assert model["user_gain"]["value"] == pytest.approx(contexts["full"] - contexts["swapped-history"])
    assert model["user_gain"]["low"] > 0
    assert run(scenes, full)["models"]["m"]["user_gain"] is None


def test_differences_use_the_scenes_both_have(scenes):
    a, b = per_scene(predictions(scenes, 2.0), scenes), per_scene(predictions(scenes.head(50), 0.0), scenes)
    assert paired(a, b)["accuracy"]["n"] == 50
    assert paired(a, b)["accuracy"]["value"] > 0.1
    both = pl.concat([predictions(scenes, 0.0, "base"), predictions(scenes, 2.0, "sft", seed=1)])
    (comparison,) = run(scenes, both)["comparisons"]
    assert (comparison["a"], comparison["b"]) == ("base", "sft") and comparison["argmax_accuracy"]["low"] > 0


def test_in_groups_a_model_blind_to_the_user_is_exactly_at_chance_and_gains_nothing():
    scenes = groups(40)
    model = run(scenes, pl.concat([blind(scenes, "blind"), predictions(scenes, 2.0, "seeing")]))["models"]
    at_chance = model["blind"]["contexts"]["full"]["macro"]
    for name in ("accuracy", "argmax_accuracy"):
        assert [at_chance[name][end] for end in ("value", "low", "high")] == pytest.approx([0.2] * 3)
    assert [model["blind"]["user_gain"][end] for end in ("value", "low", "high")] == pytest.approx([0] * 3, abs=1e-9)
    seeing = model["seeing"]["contexts"]["full"]["macro"]["argmax_accuracy"]["value"]
    assert model["seeing"]["user_gain"]["value"] == pytest.approx((5 * seeing - 1) / 4)
    assert model["seeing"]["user_gain"]["low"] > 0.3


def test_groups_of_different_sizes_are_weighed_scene_by_scene():
    scenes = pl.concat([groups(20, options=2), groups(20, options=5, dataset="books")])
    perfect = predictions(scenes, 50.0)
    assert run(scenes, perfect)["models"]["m"]["user_gain"]["value"] == pytest.approx(1)
    alone = scenes.with_columns(group_id=pl.lit(None, dtype=pl.String))
    assert run(alone, perfect)["models"]["m"]["user_gain"] is None


def test_a_prejudiced_model_is_corrected_in_whole_answered_groups():
    scenes = groups(60)
    lists = dict(blind(scenes).select("scene_id", pl.col("probs").list.eval(pl.element() ** 2)).iter_rows())
    rows = predictions(scenes, 1.5)
    prejudiced = [
        (np.array(probs) * np.array(lists[key])).tolist()
        for key, probs in rows.select("scene_id", "probs").iter_rows()
    ]
    rows = rows.with_columns(probs=pl.Series([[p / sum(row) for p in row] for row in prejudiced]))
    model = run(scenes, rows)["models"]["m"]
    corrected, raw = model["prior_corrected"], model["contexts"]["full"]
    assert (corrected["scenes"], corrected["incomplete"]) == (300, 0)
    assert corrected["macro"]["argmax_accuracy"]["low"] > raw["macro"]["argmax_accuracy"]["value"]
    assert corrected["user_gain"]["value"] > model["user_gain"]["value"]
    partly = run(scenes, rows.filter(pl.col("scene_id") != scenes["scene_id"][0]))["models"]["m"]["prior_corrected"]
    assert (partly["scenes"], partly["incomplete"]) == (295, 4)
    assert (
        "prior_corrected" not in run(scenes.with_columns(group_id=pl.lit(None, dtype=pl.String)), rows)["models"]["m"]
    )


def test_every_model_is_shown_calibrated_across_halves_of_the_users():
    rng = np.random.default_rng(4)
    scenes = frame([scene(str(i % 50), str(i), int(rng.integers(5))) for i in range(600)])
    sharp = pl.col("probs").list.eval(pl.element() ** 4 / (pl.element() ** 4).sum())
    model = run(scenes, predictions(scenes, 1.0, samples=1).with_columns(probs=sharp))["models"]["m"]
    assert [fit["temperature"] for fit in model["calibrated"]["halves"]] == pytest.approx([4, 4], rel=0.3)
    before, after = model["contexts"]["full"]["macro"], model["calibrated"]["macro"]
    assert after["information_gain"]["low"] > before["information_gain"]["high"]
    assert after["information_gain"] == before["calibrated_gain"]
    assert abs(after["ece"]["value"] - after["ece_null"]["value"]) < 0.03 < before["ece"]["value"]
    assert after["argmax_accuracy"]["value"] == pytest.approx(before["argmax_accuracy"]["value"])


def test_a_model_is_compared_with_its_parent_and_with_the_strongest_baseline(scenes):
    rows = [predictions(scenes, skill, name) for name, skill in (("sft", 1.5), ("other", 0.5), ("base", 0.0))]
    metrics = run(scenes, pl.concat(rows), parents={"sft": "base"})
    pairs = [(pair["a"], pair["b"], pair["parent"]) for pair in metrics["comparisons"]]
    assert pairs == [("base", "sft", True), ("sft", "other", False), ("other", "base", False)]
    assert metrics["comparisons"][0]["argmax_accuracy"]["low"] > 0
    baselines = {name: one["macro"]["argmax_accuracy"]["value"] for name, one in metrics["baselines"].items()}
    assert metrics["strongest_baseline"] == max(baselines, key=baselines.__getitem__)
    difference = metrics["models"]["sft"]["against"][metrics["strongest_baseline"]]["argmax_accuracy"]["value"]
    own = metrics["models"]["sft"]["contexts"]["full"]["macro"]["argmax_accuracy"]["value"]
    assert difference == pytest.approx(own - max(baselines.values()))


def test_missing_intervals_are_explained(scenes):
    assert run(scenes, predictions(scenes, 1.0))["no_intervals"] is None
    few = scenes.filter((pl.col("dataset") == "shop") | (pl.col("user_id").cast(int) < 7))
    metrics = run(few, predictions(few, 1.0))
    assert metrics["no_intervals"] == "no interval from fewer than 20 users: books has 7"
    full = metrics["models"]["m"]["contexts"]["full"]
    assert full["macro"]["accuracy"]["low"] is None and full["domains"]["shop"]["accuracy"]["low"] is not None


def test_scenes_with_later_choices_and_known_users_are_reported_apart():
    rows = [scene(str(i % 10), str(i), i % 5, later_chosen=[(i + 1) % 5] if i < 10 else []) for i in range(60)]
    scenes = frame(rows)
    parts = run(scenes, predictions(scenes, 1.0), train_users=[("shop", "0"), ("books", "1")])["models"]["m"]["parts"]
    sizes = {name: one["accuracy"]["n"] for name, one in parts.items()}
    assert sizes == {"later_chosen": 10, "none_later_chosen": 50, "warm_users": 6, "cold_users": 54}
    unknown = scenes.with_columns(later_chosen=pl.lit(None, dtype=scenes.schema["later_chosen"]))
    assert run(unknown, predictions(scenes, 1.0))["models"]["m"]["parts"] == {}


def test_baselines_are_joined_by_id_and_have_to_cover_every_scene(scenes, tmp_path):
    rows = predictions(scenes, 1.0, samples=1).select("scene_id", pl.lit("item-kNN").alias("baseline"), "probs")
    write_parquet(rows.reverse().to_arrow().cast(BASELINES), tmp_path / "part-00000.parquet")
    loaded, note = load_baselines(tmp_path, scenes, None)
    assert note is None
    measured = run(scenes, predictions(scenes, 1.0, samples=1))["models"]["m"]["contexts"]["full"]["macro"]
    result = evaluate(predictions(scenes, 0.0), scenes, loaded, "no probe")
    assert result["baselines"]["item-kNN"]["macro"]["mrr"] == pytest.approx(measured["mrr"])
    write_parquet(rows.head(100).to_arrow().cast(BASELINES), tmp_path / "part-00000.parquet")
    with pytest.raises(UserError, match="item-kNN lacks 20 of 120 scenes"):
        load_baselines(tmp_path, scenes, None)


def test_without_a_log_there_are_uniform_and_best_position_and_a_reason():
    scenes = frame([scene(str(i), str(i), 2 if i < 9 else 0, options=3) for i in range(12)])
    loaded, note = load_baselines(None, scenes, None)
    assert note is not None and "no log" in note
    by_name = {name: rows["probs"].to_list() for (name,), rows in loaded.group_by(["baseline"])}
    assert by_name["uniform"][0] == pytest.approx([1 / 3] * 3)
    assert by_name["best position of this file"][0] == pytest.approx([4 / 15, 1 / 15, 10 / 15])
    from_train, _ = load_baselines(None, scenes, scenes.filter(pl.col("item_pos") == 0))
    assert from_train.filter(pl.col("baseline") == "best position")["probs"][0].to_list() == [4 / 6, 1 / 6, 1 / 6]
