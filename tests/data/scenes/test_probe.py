"""The exposure probe on toy-log, whose users choose from lists by taste; popularity plays no part."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usermirrorer.data.scenes.features import Features, whole_groups_within
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.scenes.probe import run_probe
from usermirrorer.data.scenes.trees import import_lightgbm
from usermirrorer.errors import StepFailed
from usermirrorer.steps import GROUPED_EXPOSURES, SceneSettings


CHANCE = 0.2
MODES = (*GROUPED_EXPOSURES, "published")


@pytest.fixture(scope="module")
def probes(toy_log, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The manifests of test scenes with five options, by exposure; the probe is fitted on train scenes."""
    found = {}
    for mode in MODES:
        work: Path = tmp_path_factory.mktemp(mode)
        for step in ("tables", "embeddings"):
            shutil.copytree(toy_log.work / step, work / step)
        train = make_scenes("toy-log", work, SceneSettings("train", 3000, mode, min_exposure=5, max_exposure=5))
        test = make_scenes("toy-log", work, SceneSettings("test", 1000, mode))
        assert test["probe"]["classifier"] == train["probe"]["classifier"]
        assert test["probe"]["fitted_on"] == "train scenes" and train["probe"]["fitted_on"] == "the other half"
        found[mode] = test
    return found


@pytest.mark.parametrize("mode", GROUPED_EXPOSURES)
def test_in_groups_every_classifier_of_lists_is_exactly_at_chance(probes, mode: str) -> None:
    probe = probes[mode]["probe"]
    assert probe["exact"] and not probe["warning"]
    for name, found in probe["classifiers"].items():
        assert found["value"] == pytest.approx(CHANCE, abs=1e-12), name
        assert found["low"] == pytest.approx(found["high"], abs=1e-12)
    for name in ("uniform", "best position", "popularity", "exposure probe"):
        assert probes[mode]["baselines"][name]["argmax_accuracy"]["value"] == pytest.approx(CHANCE, abs=1e-6), name
    time_aware = probe["time_aware"]
    assert time_aware["low"] <= CHANCE + 0.02 and time_aware["low"] < time_aware["value"] < time_aware["high"]


def test_published_lists_give_the_choice_away(probes) -> None:
    probe = probes["published"]["probe"]
    assert not probe["exact"] and probe["chance"] == pytest.approx(CHANCE)
    assert probe["accuracy"]["low"] > CHANCE + 0.05
    assert probe["warning"]


@pytest.mark.parametrize("mode", MODES)
def test_permuted_labels_are_at_chance(probes, mode: str) -> None:
    assert abs(probes[mode]["probe"]["permuted"]["value"] - CHANCE) < 0.05  # three standard errors of 800 scenes


def test_knowing_the_user_helps(probes) -> None:
    """Content similarity to the history finds the taste."""
    for mode, least in (("matched", 0.4), ("hard", 0.25)):
        baselines = probes[mode]["baselines"]
        assert baselines["content"]["argmax_accuracy"]["value"] > least
        assert baselines["reference"]["argmax_accuracy"]["low"] > baselines["content"]["argmax_accuracy"]["low"]


def scenes_with(tell: str, rng: np.random.Generator, scenes: int = 400, options: int = 5) -> Features:
    """Scenes that stand alone, whose choice is told by one kind of feature."""
    choice = rng.integers(options, size=scenes)
    chosen = np.zeros((scenes, options), dtype=bool)
    chosen[np.arange(scenes), choice] = True
    item = rng.integers(0, 50, (scenes, options))
    number = rng.normal(size=(scenes, options))
    hour = np.broadcast_to(rng.integers(0, 24, scenes)[:, None], item.shape)
    if tell == "item":
        item = np.where(chosen, rng.integers(0, 10, item.shape), item)
    if tell == "word":  # many items, of which the first half share a word
        item = np.where(chosen, rng.integers(0, 2000, item.shape), rng.integers(0, 4000, item.shape))
    if tell == "number":
        number += chosen
    if tell == "time":  # the sign of the tell depends on the hour
        number += np.where(hour < 12, 1.5, -1.5) * chosen
    ids = rng.integers(0, 2**63, scenes).astype(np.uint64)
    return Features(
        scene_id=ids, user=rng.integers(0, 100, scenes), count=np.full(scenes, options), choice=choice, group=ids,
        item=item.ravel(), user_free={"number": number.ravel().astype(np.float32)},
        scene_time={"hour": hour.ravel().astype(np.float32)}, of_user={}, scores={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tell", "classifier"), [("item", "identity"), ("number", "trees"), ("time", "trees"), ("word", "words")]
)
def test_each_tell_is_found_by_its_classifier(tell: str, classifier: str) -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    words = sparse.csr_matrix((np.arange(4000) < 2000).astype(float)[:, None])
    train, test = scenes_with(tell, rng, 1500), scenes_with(tell, rng)
    cross_fitted, _ = run_probe(train, None, None, words)
    assert cross_fitted["classifier"] == classifier and cross_fitted["warning"]
    summary, _ = run_probe(test, train, classifier, words)
    assert summary["accuracy"]["low"] > 0.25 and summary["warning"]
    nothing, _ = run_probe(scenes_with("", rng), scenes_with("", rng, 1500), "trees", words)
    assert not nothing["warning"]


def test_a_sample_of_scenes_has_whole_groups() -> None:
    group = np.repeat([3, 5, 7, 9], [5, 4, 2, 6])
    assert [whole_groups_within(group, most) for most in (4, 5, 8, 9, 10, 11, 16, 17, 99)] == [
        0, 5, 5, 9, 9, 11, 11, 17, 17,
    ]  # fmt: skip


def test_a_system_without_openmp_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As LightGBM's own import ends on a minimal Debian.
    reason = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "lightgbm.py").write_text(f"raise OSError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    with pytest.raises(StepFailed, match=r"libgomp\.so\.1.*: install .* libgomp1$"):
        import_lightgbm()
