"""The exposure probe on toy-log, whose users choose from lists by taste; popularity plays no part."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.steps import SceneSettings


pytestmark = pytest.mark.slow

CHANCE = 0.2


@pytest.fixture(scope="module")
def probes(toy_log, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The manifests of test scenes with five options, by exposure; the probe is fitted on train scenes."""
    found = {}
    for mode in ("natural", "retrieved"):
        work: Path = tmp_path_factory.mktemp(mode)
        for step in ("tables", "embeddings"):
            shutil.copytree(toy_log.work / step, work / step)
        make_scenes("toy-log", work, SceneSettings("train", 6000, mode, min_exposure=5, max_exposure=5))
        found[mode] = make_scenes("toy-log", work, SceneSettings("test", 2000, mode, min_exposure=5, max_exposure=5))
    return found


def test_top_lists_give_the_choice_away(probes) -> None:
    probe = probes["retrieved"]["probe"]
    assert probe["chance"] == pytest.approx(CHANCE)
    assert probe["accuracy"]["low"] > CHANCE + 0.05
    assert probe["warning"]


def test_natural_exposures_do_not(probes) -> None:
    probe = probes["natural"]["probe"]
    for classifier in ("identity", "trees"):
        found = probe[classifier]
        assert found["low"] <= CHANCE <= found["high"] or abs(found["value"] - CHANCE) <= 0.03, classifier
    assert not probe["warning"]


@pytest.mark.parametrize("mode", ["natural", "retrieved"])
def test_permuted_labels_are_at_chance(probes, mode: str) -> None:
    for classifier, found in probes[mode]["probe"]["permuted"].items():
        assert abs(found["value"] - CHANCE) < 0.04, classifier  # three standard errors of 1,300 scenes


def test_knowing_the_user_still_helps(probes) -> None:
    """Content similarity to the history finds the taste: natural scenes are not just noise."""
    accuracy = probes["natural"]["baselines"]["content"]["argmax_accuracy"]
    assert accuracy["low"] > 0.4
    assert probes["natural"]["baselines"]["reference"]["argmax_accuracy"]["low"] > accuracy["low"]
