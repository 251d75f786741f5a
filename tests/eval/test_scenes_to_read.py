"""The scenes that a report shows in full."""

from __future__ import annotations

import polars as pl
import pytest
from handmade import frame, groups, predictions, scene

from usermirrorer.eval.examples import examples, redistributable


KINDS = ["right and sure", "right", "most surprised", "wrong", "drawn by seed"]


@pytest.mark.parametrize("skill", [0.0, 1.5])
def test_each_kind_is_what_it_says(skill):
    scenes = groups(20)
    rows = predictions(scenes, skill)
    found = examples(rows, scenes, seed=0)
    assert [one["kind"] for one in found] == KINDS and len({one["scene_id"] for one in found}) == 5
    mean = rows.group_by("scene_id").agg(
        pl.concat_list(pl.col("probs").list.get(i).mean() for i in range(5)).alias("probs")
    )
    every = mean.join(scenes, on="scene_id").with_columns(
        own=pl.col("probs").list.get(pl.col("item_pos")), hit=pl.col("probs").list.arg_max() == pl.col("item_pos")
    )
    own = {one["kind"]: one["probs"][one["choice"]] for one in found}
    assert own["right and sure"] == pytest.approx(every.filter("hit")["own"].max())
    assert own["most surprised"] == pytest.approx(every.filter(~pl.col("hit"))["own"].min())
    for kind, hit in (("right", True), ("wrong", False)):
        [one] = [one for one in found if one["kind"] == kind]
        assert (one["probs"][one["choice"]] == max(one["probs"])) == hit
        theirs = every.filter(hit=hit)["own"].sort()
        assert theirs.quantile(0.4) <= own[kind] <= theirs.quantile(0.6)
    shown = {row["scene_id"]: row for row in scenes.iter_rows(named=True)}
    first = {row["scene_id"]: row for row in rows.filter(sample=0).iter_rows(named=True)}
    for one in found:
        assert one["options"] == shown[one["scene_id"]]["text"]["action_list"] and sum(one["probs"]) == pytest.approx(
            1
        )
        assert (one["named"], one["samples"]) == (first[one["scene_id"]]["behavior"], 2)


def test_the_order_of_rows_does_not_matter_and_the_seed_draws():
    scenes = groups(20)
    rows = predictions(scenes, 1.0)
    assert examples(rows.reverse(), scenes.reverse(), 0) == examples(rows, scenes, 0)
    assert len({examples(rows, scenes, seed)[-1]["scene_id"] for seed in range(8)}) > 1


def test_kinds_without_a_scene_are_left_out():
    scenes = groups(1)
    always = [one["kind"] for one in examples(predictions(scenes, 50.0), scenes, 0)]
    assert always == ["right and sure", "right", "drawn by seed"]
    assert [one["kind"] for one in examples(predictions(scenes, -50.0), scenes, 0)] == KINDS[2:]
    assert len(examples(predictions(scenes.head(1), 50.0), scenes, 0)) == 1


def test_a_long_history_is_cut_to_its_latest_and_lists_keep_their_length():
    text = {"profile": "", "history": "\n".join(f"bought {i}" for i in range(9)), "action_list": ["a", "b", "c"]}
    scenes = frame([scene("u", "i", 2, 3, text=text), scene("v", "j", 1, 5)])
    [long] = [one for one in examples(predictions(scenes, 1.0), scenes, 0) if one["choice"] == 2]
    assert long["history"] == [f"bought {i}" for i in range(4, 9)] and long["earlier"] == 4
    assert len(long["probs"]) == len(long["options"]) == 3


def test_texts_may_be_passed_on_only_where_that_is_known():
    assert redistributable(["toy", "ml-100k", "nobody's"], None) == {"toy": True, "ml-100k": False, "nobody's": False}
