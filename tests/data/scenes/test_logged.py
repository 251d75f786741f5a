"""Real impressions of any length: the click stays, the rest is drawn evenly, and what can't be shown is counted."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import raw_mind
from built import edit_table
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from usermirrorer.data.artefacts.store import read_parts
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.choices import Choices, qualifying_choices
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import load_cuts, load_tables
from usermirrorer.data.scenes import draw as draw_module
from usermirrorer.data.scenes.logged import UNKNOWN, Impressions, shown_beside
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.seeds import number_keys
from usermirrorer.steps import SceneSettings


FEWEST, MOST = 3, 6


def clicks(impressions: Impressions, seed: int) -> Choices:
    """One choice for each impression: its third item, or the last of a shorter one."""
    number = np.arange(len(impressions.start) - 1)
    length = np.diff(impressions.start)
    item = impressions.item[impressions.start[:-1] + np.minimum(2, length - 1)]
    ids = number.astype(np.uint64)
    return Choices(number, item, number, ids, number_keys(seed, ids), number)


@given(
    lists=st.lists(st.lists(st.integers(0, 30) | st.just(UNKNOWN), min_size=1, max_size=25, unique=True), min_size=1),
    most=st.integers(2, 12),
    seed=st.integers(0, 100),
)
def test_what_is_shown_beside_the_click(lists: list[list[int]], most: int, seed: int) -> None:
    impressions = Impressions(np.concatenate(lists), np.cumsum([0, *map(len, lists)]))
    choices = clicks(impressions, seed)
    beside, length = shown_beside(impressions, choices, (2, most))
    assert beside.shape == (len(lists), most - 1)
    for items, clicked, others, counted in zip(lists, choices.item.tolist(), beside.tolist(), length, strict=True):
        assert counted == (0 if UNKNOWN in items else len(items))
        shown = others[: min(len(items), most) - 1]
        assert len(set(shown)) == len(shown) and set(shown) <= set(items) - {clicked}
        assert set(others[len(shown) :]) <= {-1}
    # An impression's draw is its own, whatever else is drawn with it.
    alone, _ = shown_beside(impressions, choices.take(np.array([0])), (2, most))
    assert alone.tolist() == beside[:1].tolist()


@pytest.mark.parametrize("most", [2, 5, 19])
def test_every_other_item_is_shown_equally_often(most: int) -> None:
    lists, items = 5_000, 20
    impressions = Impressions(np.tile(np.arange(items), lists), np.arange(lists + 1) * items)
    beside, _ = shown_beside(impressions, clicks(impressions, 0), (2, most))
    found = np.delete(np.bincount(beside.ravel(), minlength=items), 2)
    assert beside.min() >= 0 and found.sum() == lists * (most - 1)
    # Drawn without replacement, counts spread less than in independent draws.
    others, drawn = items - 1, most - 1
    spread = ((found - found.mean()) ** 2).sum() / found.mean() * (others - 1) / (others - drawn)
    assert stats.chi2.sf(spread, others - 1) > 0.001


def of_all_lengths(impressions: pl.DataFrame, catalogue: list[str]) -> pl.DataFrame:
    """Impressions of 1 to 12 items around the same clicks; a tenth have an item that is in no table."""
    rng = np.random.default_rng(0)
    lists = []
    for [clicked] in impressions["clicked"].to_list():
        others = [item for item in rng.choice(catalogue, size=12, replace=False).tolist() if item != clicked]
        shown = [clicked, *others[: int(rng.integers(0, 12))]]
        lists.append(rng.permutation([*shown, *(["gone"] if rng.random() < 0.1 else [])]).tolist())
    return impressions.with_columns(items=pl.Series(lists))


@pytest.fixture(scope="module")
def work(toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy log, its impressions of all lengths."""
    target = tmp_path_factory.mktemp("lengths")
    for step in ("tables", "embeddings"):
        shutil.copytree(toy.work / step, target / step)
    catalogue = toy.tables.items["item_id"].to_list()
    edit_table(target / "tables" / "toy" / "impressions.parquet", lambda frame: of_all_lengths(frame, catalogue))
    return target


def made(work: Path, target: Path, num: int = 20_000, workers: int = 1) -> tuple[dict[str, Any], list[dict]]:
    """The manifest's content and the rows of test scenes, made in a copy of the work directory."""
    shutil.copytree(work, target)
    content = make_scenes("toy", target, SceneSettings("test", num, "logged", "", FEWEST, MOST), workers=workers)
    return content, read_parts(target / "scenes" / "toy" / "test").to_pylist()


def test_long_ones_are_cut_short_ones_and_unknown_items_are_counted(work: Path, tmp_path: Path) -> None:
    content, scenes = made(work, tmp_path / "made")
    tables = load_tables(work, "toy")
    assert tables.impressions is not None
    choices, counts = qualifying_choices(tables, load_cuts(work, "toy"), "test", "any", "logged", 0)
    lists = tables.impressions["items"].to_list()
    lengths = [0 if "gone" in lists[row] else len(lists[row]) for row in choices.impression.tolist()]
    usable = Counter(str(min(length, MOST)) for length in lengths if length >= FEWEST)
    assert content["lengths"] == dict(sorted(usable.items())) and len(usable) == MOST - FEWEST + 1
    assert sum(length > MOST for length in lengths) > 100 < sum(length < FEWEST for length in lengths)
    assert content["counts"] == {
        **counts,
        "tried": len(choices),
        "exposure_too_short": len(choices) - usable.total(),
        "kept": len(scenes),
    }
    of = {f"{scene_id:016x}": lists[row] for scene_id, row in zip(choices.scene_id, choices.impression, strict=True)}
    for scene in scenes:
        shown, logged = scene["impression_list"], of[scene["scene_id"]]
        assert len(set(shown)) == len(shown) == scene["choice_cnt"] == min(len(logged), MOST)
        assert set(shown) <= set(logged) and shown[scene["item_pos"]] == scene["item_id"]


def test_neither_workers_nor_the_number_asked_for_change_a_scene(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, scenes = made(work, tmp_path / "all")
    monkeypatch.setattr(draw_module, "BATCH", 150)
    assert made(work, tmp_path / "two", workers=2) == (content, scenes)
    every = {scene["scene_id"]: scene for scene in scenes}
    few, some = made(work, tmp_path / "some", num=333, workers=2)
    assert few["rows"] == len(some) == 333 and few["counts"]["tried"] < content["counts"]["tried"]
    assert all(scene == every[scene["scene_id"]] for scene in some)


def test_long_impressions_of_mind_become_scenes(tmp_path: Path) -> None:
    raw_mind.write(tmp_path / "raw", length=20)
    prepare("mind", tmp_path / "raw", tmp_path)
    embed_items("mind", tmp_path)
    made = make_scenes("mind", tmp_path, SceneSettings("train", 1_000, "logged", "", 2, 5))
    assert made["lengths"] == {"5": made["rows"]} and made["rows"] == made["counts"]["qualifying"] > 100
    assert made["counts"]["exposure_too_short"] == 0
