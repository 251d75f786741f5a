"""`scripted:neighbours` names an earlier choice that the prompt shows, and the option that it leads to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from usermirrorer.data.decisions.decide import decide
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.errors import UserError
from usermirrorer.llm import load_model
from usermirrorer.llm.prompts import conversation
from usermirrorer.llm.scripted import title
from usermirrorer.steps import DecideSettings, Sampling, SceneSettings


FORMS = {
    False: re.compile(r"(?:After (?P<lead>.+) comes|Nothing I chose leads to) (?P<name>.+)\. I take (?P<again>.+)\."),
    True: re.compile(
        r"(?P<word>Often|Sometimes|Rarely): (?P<name>.+?)(?:, after (?P<lead>.+))?\. I take (?P<again>.+)\."
    ),
}


def decided(work: Path, prompt: str = "plain", samples: int = 3) -> pl.DataFrame:
    settings = DecideSettings(n=samples, prompt=prompt)
    decide("ml-100k", work, "strong", load_model("scripted:neighbours"), settings)
    rows = pl.read_parquet(sorted((work / "decisions" / "ml-100k" / "strong").glob("*.parquet")))
    scenes = pl.read_parquet(sorted((work / "scenes" / "ml-100k" / "train").glob("*.parquet")))
    features = pl.read_parquet(sorted((work / "features" / "ml-100k" / "train").glob("*.parquet")))
    shown = scenes.select("scene_id", scene="text").join(
        features.select("scene_id", scores="score.recent item-knn"), on="scene_id"
    )
    return rows.join(shown, on="scene_id", maintain_order="left")


@pytest.fixture
def work(small, tmp_path: Path) -> Path:
    for part in ("tables", "embeddings"):
        shutil.copytree(small.work / part, tmp_path / part)
    return tmp_path


@pytest.mark.parametrize("evidence", [False, True])
def test_a_rationale_names_what_is_shown(work: Path, evidence: bool) -> None:
    make_scenes("ml-100k", work, SceneSettings("train", 200, "matched", evidence=evidence))
    leads, picked, best = 0, [], []
    for row in decided(work).iter_rows(named=True):
        option = row["scene"]["action_list"][row["behavior"]]
        found = FORMS[evidence].fullmatch(row["text"])
        assert found and found["name"] == found["again"] == title(option)
        if evidence:
            assert f"(chosen {found['word'].lower()} after these)" in option
        if found["lead"]:
            leads += 1
            assert f"{found['lead']} - " in row["scene"]["history"]
        picked.append(row["scores"][row["behavior"]])
        best.append(max(row["scores"]))
    assert leads > 100
    # Options are drawn by their scores: far better than a blind draw, and not always the best.
    assert np.mean(picked) > 0.7 * np.mean(best)
    assert (np.array(picked) < np.array(best)).any()


def test_the_long_form_and_the_same_bytes_again(work: Path) -> None:
    make_scenes("ml-100k", work, SceneSettings("train", 60, "matched"))
    first = decided(work, "ekb", samples=2)
    assert first["text"].str.starts_with("Thought:\nStimulus: ").all() and first["behavior"].null_count() == 0
    shutil.rmtree(work / "decisions")
    assert decided(work, "ekb", samples=2).equals(first)


def test_it_has_no_prompt_to_write_from() -> None:
    scene = conversation({"profile": "", "history": "", "action_list": ["a", "b"]}, "plain")
    with pytest.raises(UserError, match="writes from the log: use it as a writer of decide or build"):
        load_model("scripted:neighbours").generate([scene], 1, Sampling(), [0])
