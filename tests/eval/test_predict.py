"""A real engine answers scenes; what was answered is kept."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from handmade import frame, scene

from usermirrorer.data.artefacts.journal import Journal
from usermirrorer.data.artefacts.store import manifest_path
from usermirrorer.errors import UserError
from usermirrorer.eval.predict import PREDICTED, predict
from usermirrorer.eval.report.compare import report
from usermirrorer.eval.run import run_eval
from usermirrorer.llm.choose import prompt_limit
from usermirrorer.steps import EvalSettings, Sampling


SHORT = Sampling(max_tokens=8)
TASTES = ("sweet", "sour", "salty", "bitter", "hot")


def taste_scene(i: int, history: str) -> dict:
    text = {"profile": "", "history": history, "action_list": [f"{TASTES[(i + k) % 5]} tea" for k in range(5)]}
    return scene(f"u{i % 3}", str(i), i % 5, dataset="kitchen", text=text)


@pytest.fixture
def kitchen() -> pl.DataFrame:
    return frame([taste_scene(i, f"chose {TASTES[i % 5]} cake\nchose {TASTES[i % 5]} pie") for i in range(6)])


def predicted(engine, *args, seed: int) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as root:
        return predict(engine, *args, seed=seed, journal=Journal(Path(root)))


def test_every_scene_gets_its_samples_whatever_else_is_in_its_batch(engine, kitchen):
    rows = predicted(engine, kitchen, "plain", "decision", 3, "full", SHORT, seed=0)
    assert dict(rows.schema) == PREDICTED
    assert rows.group_by("scene_id").len()["len"].to_list() == [3] * 6
    assert np.allclose([sum(probs) for probs in rows["probs"]], 1) and set(rows["probs"].list.len()) == {5}
    assert (rows["unfinished"] == rows["behavior"].is_null()).all()
    alone = predicted(engine, kitchen[4:5], "plain", "decision", 3, "full", SHORT, seed=0)
    among = rows.filter(pl.col("scene_id") == kitchen["scene_id"][4])
    assert alone["text"].to_list() == among["text"].to_list()
    np.testing.assert_allclose(alone["probs"].to_list(), among["probs"].to_list(), rtol=1e-4)
    other = predicted(engine, kitchen, "plain", "decision", 3, "full", SHORT, seed=1)
    assert other["text"].to_list() != rows["text"].to_list()


def test_direct_mode_reads_once_without_writing(engine, kitchen):
    rows = predicted(engine, kitchen, "direct", "direct", 5, "full", SHORT, seed=0)
    assert len(rows) == 6 and set(rows["text"]) == {""} and not rows["unfinished"].any()


def test_long_scenes_shed_history_and_too_long_ones_have_no_row(engine):
    limit = prompt_limit(engine, SHORT, "decision")
    entries = "\n".join(f"chose sweet cake {i}" for i in range(limit))
    long = taste_scene(1, entries)
    hopeless = taste_scene(2, "")
    hopeless["text"]["action_list"][0] = "sweet " * 2 * limit
    scenes = frame([taste_scene(0, "chose sweet cake"), long, hopeless])
    rows = predicted(engine, scenes, "plain", "decision", 1, "full", SHORT, seed=0)
    shed = dict(rows.select("scene_id", "shed").iter_rows())
    assert hopeless["scene_id"] not in shed and len(shed) == 2
    assert 0 < shed[long["scene_id"]] < limit


def test_a_killed_evaluation_goes_on_after_the_scenes_that_were_answered(engine, kitchen, tmp_path):
    """To the same bytes, asking nothing twice."""
    whole = predicted(engine, kitchen, "plain", "decision", 2, "full", SHORT, seed=0)
    first = Journal(tmp_path)
    done: list[int] = []

    def killed(count: int, total: int, read: int, written: int) -> None:
        done.append(count)
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(engine, kitchen, "plain", "decision", 2, "full", SHORT, 0, first, killed)
    first.close()
    again = Journal(tmp_path)
    again.resume()
    assert again.units == 4
    rows = predict(
        engine, kitchen, "plain", "decision", 2, "full", SHORT, 0, again, lambda count, *_: done.append(count)
    )
    assert rows.equals(whole) and done == [1, 2, 3, 4, 5, 6]


def test_a_run_keeps_what_was_answered_before_it_failed(engine, kitchen, tmp_path):
    source, out = str(tmp_path / "scenes.parquet"), tmp_path / "out"
    kitchen.write_parquet(source)
    settings = EvalSettings(repeat=2, context="full,swapped-history", prompt="plain", **asdict(SHORT))
    (tmp_path / "broken").mkdir()
    with pytest.raises(Exception):  # noqa: B017 - whatever the engine says of a directory without a model
        run_eval({"tiny": engine.name, "broken": f"vllm:{tmp_path / 'broken'}"}, source, out, settings)
    parts = {path: path.stat().st_mtime_ns for path in (out / ".parts").iterdir()}
    assert len(parts) == 2 and not (out / "metrics.json").exists()
    metrics = run_eval({"tiny": engine.name}, source, out, settings)
    assert {path: path.stat().st_mtime_ns for path in (out / ".parts").iterdir()} == parts
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert "no log" in metrics["notes"][0] and metrics["probe"].startswith("no probe")
    assert metrics["models"]["tiny"]["counts"]["full"]["rows"] == 12
    rows = pl.read_parquet(out / "predictions.parquet")
    assert len(rows) == 24 and {"model", "dataset", "user_id", "item_pos"} < set(rows.columns)
    run_eval({"tiny": engine.name}, source, out, replace(settings, repeat=1, context="full"))
    assert len(list((out / ".parts").iterdir())) == 3


def test_baselines_and_train_scenes_of_the_same_work_directory_are_found(engine, tmp_path):
    split = {name: tmp_path / "scenes" / "kitchen" / name for name in ("train", "test")}
    rows = {"train": range(6, 16), "test": range(6)}
    for name, directory in split.items():
        directory.mkdir(parents=True)
        frame([taste_scene(i, "chose hot cake") for i in rows[name]]).write_parquet(directory / "part-00000.parquet")
    accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 6}
    probe = {"accuracy": accuracy, "exact": False, "classifier": "trees", "chance": 0.2, "warning": True}
    manifest_path(split["test"]).write_text(json.dumps({"content": {"probe": probe}, "run": {}}))
    test = pl.read_parquet(split["test"] / "part-00000.parquet")
    (tmp_path / "baselines" / "kitchen" / "test").mkdir(parents=True)
    popularity = test.select("scene_id", pl.lit("popularity").alias("baseline"), pl.lit([0.2] * 5).alias("probs"))
    popularity.write_parquet(tmp_path / "baselines" / "kitchen" / "test" / "part-00000.parquet")
    metrics = run_eval(
        {"tiny": engine.name},
        str(split["test"]),
        tmp_path / "out",
        EvalSettings(repeat=1, prompt="plain", **asdict(SHORT)),
    )
    assert list(metrics["baselines"]) == ["popularity"] and metrics["probe"] == probe and metrics["notes"] == []
    model = metrics["models"]["tiny"]
    assert len(model["calibrated"]["halves"]) == 2 and model["against"]["popularity"]["accuracy"]["n"] == 6
    assert model["parts"]["warm_users"]["accuracy"]["n"] == 6
    page = report([tmp_path / "out"], tmp_path / "report").read_text()
    assert "the exposure gives the choice away" in page


def test_wrong_use_fails_before_any_model_is_loaded(kitchen, tmp_path):
    source = str(tmp_path / "scenes.parquet")
    kitchen.write_parquet(source)
    for wrong in ({"repeat": 0}, {"mode": "both"}, {"context": "none"}, {"context": ""}, {"prompt": "short"}):
        with pytest.raises(UserError, match="--"):
            run_eval({"m": "vllm:tiny-base"}, source, tmp_path / "out", EvalSettings(**wrong))
    with pytest.raises(UserError, match="no model at '/not/there'"):
        run_eval({"m": f"vllm:{tmp_path}", "lost": "vllm:/not/there"}, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
