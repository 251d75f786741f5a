"""The word beside an option: item-kNN's score of it for this person, and nothing else of the scene changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.artefacts.store import finished_manifest
from usermirrorer.data.scenes.evidence import QUANTILES, Evidence
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import EVIDENCE_WORDS, without_evidence
from usermirrorer.steps import SceneSettings


SCORES = st.lists(st.lists(st.floats(0, 5, width=32), min_size=4, max_size=4), min_size=1, max_size=30)


@given(SCORES)
def test_words_follow_the_scores(scores: list[list[float]]) -> None:
    table = np.array(scores, dtype=np.float32)
    evidence = Evidence.fit(table, 4.0)
    ranks = np.array([EVIDENCE_WORDS.index(word) for word in evidence.words(table.ravel())])
    order = np.argsort(table.ravel())
    assert (np.diff(ranks[order]) >= 0).all()
    assert (ranks[table.ravel() == 0] == 0).all(), "nothing in the log is no evidence"
    assert (ranks == 2).sum() <= (1 - QUANTILES[1]) * ranks.size + 1


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_the_word_comes_off_again(options: list[str], seed: int) -> None:
    scores = np.random.default_rng(seed).random((1, len(options) + 2)).astype(np.float32)
    scores[:, len(options) :] = np.nan
    [shown] = Evidence(4.0, (0.5, 0.8)).shown(pa.array([options]), scores).to_pylist()
    assert [without_evidence(text) for text in shown] == options
    assert all(text != option for text, option in zip(shown, options, strict=True))


@pytest.fixture(scope="module")
def both(small, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same scenes of the small log with and without evidence."""
    works = {}
    for evidence in (False, True):
        work = works[evidence] = tmp_path_factory.mktemp("work")
        for part in ("tables", "embeddings"):
            shutil.copytree(small.work / part, work / part)
        for split, count in (("train", 300), ("test", 100)):
            make_scenes(small.name, work, SceneSettings(split, count, "matched", evidence=evidence))
    return works


def read(work: Path, kind: str, split: str) -> pl.DataFrame:
    return pl.read_parquet(sorted((work / kind / "ml-100k" / split).glob("*.parquet")))


@pytest.mark.parametrize("split", ["train", "test"])
def test_only_the_words_are_added(both: dict[bool, Path], split: str) -> None:
    plain, shown = (read(both[evidence], "scenes", split) for evidence in (False, True))
    assert shown.drop("text").equals(plain.drop("text"))
    for before, after in zip(plain["text"].to_list(), shown["text"].to_list(), strict=True):
        assert [without_evidence(option) for option in after.pop("action_list")] == before.pop("action_list")
        assert after == before
    assert read(both[True], "baselines", split).equals(read(both[False], "baselines", split))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_words_are_those_of_the_scores_and_the_train_cuts(both: dict[bool, Path], split: str) -> None:
    record = finished_manifest(both[True] / "scenes" / "ml-100k" / "train")["evidence"]
    assert finished_manifest(both[True] / "scenes" / "ml-100k" / split)["evidence"] == record
    features = read(both[True], "features", split).select("scene_id", "score.recent item-knn")
    scenes = read(both[True], "scenes", split).select("scene_id", options=pl.col("text").struct.field("action_list"))
    words = set()
    for _, scores, options in features.join(scenes, on="scene_id").iter_rows():
        for score, option in zip(scores, options, strict=True):
            word = EVIDENCE_WORDS[int(np.searchsorted(record["cuts"], round(score, 6)))]
            assert option.endswith(f" (chosen {word} after these)")
            words.add(word)
    assert words == set(EVIDENCE_WORDS)


def test_people_see_one_list_in_words_of_their_own(both: dict[bool, Path]) -> None:
    scenes = read(both[True], "scenes", "test").with_columns(options=pl.col("text").struct.field("action_list"))
    assert scenes.group_by("group_id").agg(pl.col("options").n_unique())["options"].max() > 1


def test_test_scenes_need_train_scenes_with_evidence(small, tmp_path: Path) -> None:
    for part in ("tables", "embeddings"):
        shutil.copytree(small.work / part, tmp_path / part)
    with pytest.raises(UserError, match="no train scenes with evidence, on which its words are fitted"):
        make_scenes(small.name, tmp_path, SceneSettings("test", 100, "matched", evidence=True))
    make_scenes(small.name, tmp_path, SceneSettings("train", 100, "matched"))
    with pytest.raises(UserError, match="no train scenes with evidence"):
        make_scenes(small.name, tmp_path, SceneSettings("test", 100, "matched", evidence=True))
