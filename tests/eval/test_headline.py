"""The headline says no more than the intervals allow."""

from __future__ import annotations

import polars as pl
import pytest
from handmade import blind, frame, groups, predictions, scene

from usermirrorer.eval.baselines import load_baselines, uniform
from usermirrorer.eval.evaluate import evaluate
from usermirrorer.eval.report.headline import headline, ranked


PROBE = {
    "accuracy": {"value": 0.3, "low": 0.25, "high": 0.35, "n": 120},
    "exact": False, "classifier": "trees", "chance": 0.2, "warning": True,
}  # fmt: skip


def measured(scenes, rows, probe=PROBE, baselines=None, bases=None, parents=None):
    """Metrics as `report` puts them together."""
    baselines = load_baselines(None, scenes, None)[0] if baselines is None else baselines
    metrics = evaluate(rows, scenes, baselines, probe, parents=parents)
    for name, model in metrics["models"].items():
        model["bases"] = (bases or {}).get(name, [])
    return metrics


def test_in_groups_what_is_above_chance_is_owed_to_the_person():
    scenes = groups(40)
    first, second, *_ = headline(measured(scenes, predictions(scenes, 1.5)))
    assert first.startswith("m picks what the person chose in ") and first.endswith(" of 200 lists; chance is 20 %.")
    assert second.startswith("All of the difference is owed to knowing the person")
    assert headline(measured(scenes, blind(scenes)))[1] == "That cannot be told from chance."
    assert headline(measured(scenes, predictions(scenes, -3.0)))[1] == "That is below chance."


def test_elsewhere_the_probe_stands_beside(scenes):
    rows = predictions(scenes, 1.5)
    known = "A probe that sees nothing of the person (boosted trees) is right in 30 % [25, 35] of such lists"
    assert headline(measured(scenes, rows))[1] == f"{known}."
    probe = uniform(scenes).with_columns(baseline=pl.lit("exposure probe"))
    with_probe = pl.concat([uniform(scenes), probe])
    assert headline(measured(scenes, rows, baselines=with_probe))[1].startswith(f"{known}: m is ahead of it by ")
    [unknown] = [s for s in headline(measured(scenes, rows, probe="no probe")) if "lists alone" in s]
    assert unknown == "How much of that the lists alone give away is unknown."


def test_what_another_history_costs_is_said_where_it_was_measured(scenes):
    rows = predictions(scenes, 1.5)
    swapped = predictions(scenes, 0.0, context="swapped-history", seed=5)
    sentence = headline(measured(scenes, pl.concat([rows, swapped])))[2]
    assert sentence.startswith("With another person's history in its place, that is lower by ")
    same = rows.with_columns(context=pl.lit("swapped-history"))
    assert headline(measured(scenes, pl.concat([rows, same])))[2].endswith("that is the same as far as can be told.")


def test_too_few_people_give_no_claim():
    scenes = groups(12, users=12)
    sentences = headline(measured(scenes, predictions(scenes, 1.5)))
    assert sentences[1] == "There are too few people for an interval, so that may be chance."
    assert "[" not in "".join(sentences)


def test_trained_models_come_first_and_are_compared_with_their_parents(scenes):
    skills = {"base": 3.0, "dpo": 1.6, "sft": 0.5}
    rows = pl.concat(predictions(scenes, skill, name, seed=i) for i, (name, skill) in enumerate(skills.items()))
    bases = {"sft": ["base"], "dpo": ["base", "sft"]}
    metrics = measured(scenes, rows, bases=bases, parents={"sft": "base", "dpo": "sft"})
    assert ranked(metrics) == ["dpo", "sft", "base"]
    sentences = headline(metrics)
    assert sentences[0].startswith("dpo picks") and "the mean over 2 domains" in sentences[0]
    [dpo], [sft] = ([s for s in sentences if s.startswith(f"{name} was")] for name in ("dpo", "sft"))
    assert "it is ahead of sft by" in dpo and "it is behind base by" in sft
    same = pl.concat([predictions(scenes, 1.0, "a"), predictions(scenes, 1.0, "b")])
    [told] = [s for s in headline(measured(scenes, same, parents={"b": "a"})) if "trained" in s]
    assert told == "b was trained from a: it cannot be told from a (0.0 points [0.0, 0.0] behind)."


def test_without_whole_scenes_there_is_no_headline():
    scenes = frame([scene(str(i), str(i), i % 5) for i in range(30)])
    [sentence] = headline(measured(scenes, predictions(scenes, 1.0, context="no-history")))
    assert "context full" in sentence


@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_the_strongest_baseline_is_named(scenes, skill):
    [sentence] = [s for s in headline(measured(scenes, predictions(scenes, skill))) if "strongest baseline" in s]
    assert sentence.endswith(".") and ("ahead of it" in sentence) == (skill > 0)
