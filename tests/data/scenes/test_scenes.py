"""Scenes on disk: what they can hold, and that their bytes depend only on inputs and seed."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from usermirrorer.data.artefacts.store import MANIFEST, directory_of, manifest_path, read_manifest, read_parts
from usermirrorer.data.log.choices import MIN_OCCASIONS
from usermirrorer.data.scenes import draw as draw_module
from usermirrorer.data.scenes import make as scenes_module
from usermirrorer.data.scenes import scores as scores_module
from usermirrorer.data.scenes.draw import draw
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.errors import StepFailed, UserError
from usermirrorer.steps import SceneSettings


SOURCES = {"matched": {"matched"}, "hard": {"hard"}, "published": {"random", "collaborative", "content"}}
MODES = list(SOURCES)
GROUPED = ["matched", "hard"]


def copy_work(prepared, target: Path) -> Path:
    """A work directory with the same tables and embeddings, to write scenes into."""
    for step in ("tables", "embeddings"):
        shutil.copytree(prepared.work / step, target / step)
    return target


def patch_batches(monkeypatch, size: int) -> None:
    """Draw and score in other blocks."""
    monkeypatch.setattr(draw_module, "BATCH", size)
    monkeypatch.setattr(scores_module, "BLOCK", size // 4)


def output(work: Path) -> dict[str, bytes]:
    """Everything under `work` that the settings determine: shards, and manifests without their run blocks."""
    found = {str(path.relative_to(work)): path.read_bytes() for path in sorted(work.rglob("*.parquet"))}
    for path in sorted(work.rglob(f"*{MANIFEST}")):
        found[str(path.relative_to(work))] = repr(read_manifest(directory_of(path))["content"]).encode()
    return found


@pytest.fixture(scope="module")
def written(small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All scenes of the small log, train and test, by exposure."""
    works = {}
    for mode in MODES:
        works[mode] = copy_work(small, tmp_path_factory.mktemp(mode))
        for split in ("train", "test"):
            make_scenes("ml-100k", works[mode], SceneSettings(split, 10_000, mode, min_exposure=2, max_exposure=8))
    return works


def read(work: Path, split: str, name: str = "ml-100k") -> list[dict]:
    return read_parts(work / "scenes" / name / split).to_pylist()


def events_of(prepared) -> dict[str, list[tuple[int, str]]]:
    """(time, item) of every user, from the tables."""
    users, items, log = prepared.tables.users["user_id"], prepared.tables.items["item_id"], prepared.tables.log
    events = defaultdict(list)
    for user, item, time in zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True):
        events[users[user]].append((time, items[item]))
    return events


@pytest.mark.parametrize("mode", GROUPED)
def test_scenes_hold_what_existed_and_nothing_of_their_own_occasion(small, written, mode: str) -> None:
    events = events_of(small)
    dates = dict(zip(small.tables.items["item_id"], small.tables.released, strict=True))
    item_text = dict(zip(small.tables.items["item_id"], small.tables.items["text"], strict=True))
    for scene in read(written[mode], "train") + read(written[mode], "test"):
        time = int(scene["timestamp"].replace(tzinfo=UTC).timestamp() * 1000)
        options, mine = scene["impression_list"], events[scene["user_id"]]
        assert options[scene["item_pos"]] == scene["item_id"] and (time, scene["item_id"]) in mine
        assert scene["choices"] == [scene["item_pos"]]
        assert len(set(options)) == len(options) == scene["choice_cnt"] == len(scene["text"]["action_list"])
        assert 2 <= scene["choice_cnt"] <= 8
        assert all(dates[item] <= scene["group_time"].timestamp() * 1000 for item in options)
        others = set(options) - {scene["item_id"]}
        assert not others & {item for when, item in mine if when <= time}
        assert all(item_text[item] in line for item, line in zip(options, scene["text"]["action_list"], strict=True))

        earlier = [item for when, item in mine if when < time]
        assert scene["user_cnt"] == len(earlier)
        assert len({when for when, _ in mine if when < time}) >= MIN_OCCASIONS
        shown = scene["text"]["history"].split("\n")
        assert len(shown) == scene["history_len"] and 2 <= len(shown) <= 10
        assert all(any(item_text[item] in line for item in earlier) for line in shown)
        later = {item for when, item in mine if when > time}
        assert {options[position] for position in scene["later_chosen"]} == later & others
        assert scene["sources"][scene["item_pos"]] == "choice" and scene["sources"].count("choice") == 1
        assert set(scene["sources"]) - {"choice"} <= SOURCES[mode]


@pytest.mark.parametrize("mode", GROUPED)
def test_one_occasion_gives_one_scene_in_one_split(small, written, mode: str) -> None:
    splits = {split: read(written[mode], split) for split in ("train", "test")}
    occasions = Counter((scene["user_id"], scene["timestamp"]) for rows in splits.values() for scene in rows)
    assert max(occasions.values()) == 1
    ids = [scene["scene_id"] for rows in splits.values() for scene in rows]
    assert len(set(ids)) == len(ids)
    for split, rows in splits.items():
        order = [(scene["group_id"], scene["scene_id"]) for scene in rows]
        assert order == sorted(order)
        assert {scene["split"] for scene in rows} == {split}
    cut = small.cuts.test / 1000
    assert max(scene["timestamp"].timestamp() for scene in splits["train"]) < cut
    assert min(scene["timestamp"].timestamp() for scene in splits["test"]) >= cut


def test_scenes_of_a_user_are_capped(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(scenes_module.USER_CAP, "train", 3)
    content = make_scenes("ml-100k", copy_work(small, tmp_path), SceneSettings("train", 10_000))
    users = Counter(scene["user_id"] for scene in read(tmp_path, "train"))
    assert max(users.values()) == 3
    assert content["counts"]["over_user_cap"] > 0
    assert content["recipe"]["user_cap"] == 3


def test_counts_add_up(written) -> None:
    for mode in MODES:
        for split in ("train", "test"):
            content = read_manifest(written[mode] / "scenes" / "ml-100k" / split)["content"]
            counts = content["counts"]
            left_out = ("item_not_yet_available", "too_little_history", "had_before", "same_occasion", "over_user_cap")
            assert counts["choices_in_window"] - sum(counts[reason] for reason in left_out) == counts["qualifying"]
            not_kept = sum(counts.get(reason, 0) for reason in ("left_over", "beyond_num", "exposure_too_short"))
            assert counts["qualifying"] - not_kept == counts["kept"] == content["rows"]
            assert sum(content["lengths"].values()) == content["rows"]
            assert content["rows"] == len(read(written[mode], split)) < content["asked"]


def test_the_position_of_the_choice_is_uniform(toy_log) -> None:
    """For every number of options and every exposure; Holm's correction over all of them."""
    from usermirrorer.data.scenes.window import open_window

    values = []
    for mode in MODES:
        settings = toy_log.filled_in(SceneSettings("train", 3000, mode, min_exposure=2, max_exposure=6))
        window = open_window(toy_log.tables, toy_log.cuts, "train", "any", toy_log.vectors)
        drawn, _, _ = draw(window, toy_log.choices(settings), settings, 2, lambda done, total: None)
        for count in range(2, 7):
            positions = drawn.position[drawn.count == count]
            assert len(positions) > 200
            values.append(stats.chisquare(np.bincount(positions, minlength=count)).pvalue)
            assert (drawn.options[drawn.count == count][np.arange(len(positions)), positions] >= 0).all()
    holm = np.sort(values) * np.arange(len(values), 0, -1)
    assert holm.min() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_workers_and_batches_change_no_byte(small, written, tmp_path: Path, monkeypatch, mode: str) -> None:
    patch_batches(monkeypatch, 97)
    work = copy_work(small, tmp_path)
    for split in ("train", "test"):
        make_scenes("ml-100k", work, SceneSettings(split, 10_000, mode, min_exposure=2, max_exposure=8), workers=2)
    ours, theirs = output(work), output(written[mode])
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_workers_change_no_byte_of_logged_scenes(toy, tmp_path: Path, monkeypatch) -> None:
    patch_batches(monkeypatch, 150)
    for workers in (1, 2):
        work = copy_work(toy, tmp_path / str(workers))
        make_scenes("toy", work, SceneSettings("test", 400, "logged"), workers=workers)
    assert output(tmp_path / "1") == output(tmp_path / "2")


def test_logged_scenes_are_the_real_lists(toy, tmp_path: Path) -> None:
    make_scenes("toy", copy_work(toy, tmp_path), SceneSettings("test", 400, "logged"))
    shown = {
        (row["user_id"], row["timestamp"]): (set(row["items"]), row["clicked"])
        for row in toy.tables.impressions.iter_rows(named=True)
    }
    scenes = read(tmp_path, "test", "toy")
    assert len(scenes) == 400
    for scene in scenes:
        items, clicked = shown[scene["user_id"], round(scene["timestamp"].timestamp() * 1000)]
        assert set(scene["impression_list"]) == items and [scene["item_id"]] == clicked


def test_fewer_scenes_are_the_first_of_the_same_draw(small, written, tmp_path: Path, monkeypatch) -> None:
    patch_batches(monkeypatch, 61)
    settings = SceneSettings("train", 200, min_exposure=2, max_exposure=8)
    content = make_scenes("ml-100k", copy_work(small, tmp_path), settings, workers=2)
    some, every = read(tmp_path, "train"), {scene["scene_id"]: scene for scene in read(written["matched"], "train")}
    assert content["counts"]["kept"] == len(some) and 192 < len(some) <= 200
    assert all(scene == every[scene["scene_id"]] for scene in some)


def test_a_second_run_does_nothing_and_other_settings_are_refused(small, tmp_path: Path) -> None:
    work, settings = copy_work(small, tmp_path), SceneSettings("test", 50)
    first = make_scenes("ml-100k", work, settings)
    times = {path: path.stat().st_mtime_ns for path in work.rglob("*.parquet")}
    assert make_scenes("ml-100k", work, settings) == first
    assert times == {path: path.stat().st_mtime_ns for path in work.rglob("*.parquet")}
    for changed, named in (({"seed": 1}, "seed: 0 → 1"), ({"exposure": "hard"}, "exposure: matched → hard")):
        with pytest.raises(UserError, match=named):
            make_scenes("ml-100k", work, SceneSettings(**{**vars(settings), **changed}))


@pytest.mark.parametrize("killed_in", ["render", "feature_table", "run_probe", "baseline_table"])
def test_a_killed_run_resumes_to_the_same_bytes(small, tmp_path: Path, monkeypatch, killed_in: str) -> None:
    settings = SceneSettings("test", 50, min_exposure=2, max_exposure=5)
    plain, killed = copy_work(small, tmp_path / "plain"), copy_work(small, tmp_path / "killed")
    make_scenes("ml-100k", plain, settings)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(scenes_module, killed_in, kill)
        make_scenes("ml-100k", killed, settings)
    assert not read_manifest(killed / "scenes" / "ml-100k" / "test")["content"]["finished"]
    make_scenes("ml-100k", killed, settings)
    assert output(plain) == output(killed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exposure": "logged"}, "matched, hard, published"),
        ({"exposure": "real"}, "choose one of"),
        ({"min_exposure": 1}, "min"),
        ({"max_exposure": 27}, "26"),
        ({"num": 4}, "at least 5, a whole group"),
        ({"num": 0, "exposure": "published"}, "at least 1"),
        ({"alike": "popularity"}, "or choose exposure hard"),
        ({"exposure": "hard", "alike": "colour"}, "content or popularity"),
        ({"max_span": 3, "exposure": "published"}, "matched or hard"),
        ({"max_span": -1}, "0 or more"),
        ({"choice": "liked"}, "min_rating"),
        ({"choice": "min_rating=x"}, "not a number"),
    ],
)
def test_impossible_settings_are_one_sentence(small, changed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_scenes("ml-100k", small.work, SceneSettings(**{"split": "test", "num": 5, **changed}))


def test_a_step_without_qualifying_choices_fails_and_leaves_no_settings_to_match(small, tmp_path: Path) -> None:
    work = copy_work(small, tmp_path)
    with pytest.raises(StepFailed, match="no choice"):
        make_scenes("ml-100k", work, SceneSettings("test", 5, choice="min_rating=6"))
    assert make_scenes("ml-100k", work, SceneSettings("test", 5, choice="min_rating=5"))["rows"] == 5


def test_without_repeats_an_item_that_the_user_had_before_is_not_a_choice(
    small_raw: Path, ready, tmp_path: Path
) -> None:
    """Other options are new to the user there, so the history alone would give away a choice that is not."""
    raw = tmp_path / "raw"
    shutil.copytree(small_raw, raw)
    rows = [line.split("\t") for line in (raw / "u.data").read_text().splitlines()]
    again = [f"{user}\t{item}\t5\t{int(time) + 90 * 86_400}" for user, item, _, time in rows[::7]]
    (raw / "u.data").write_text("\n".join(["\t".join(row) for row in rows] + again) + "\n")
    world = ready("ml-100k", raw)
    content = make_scenes("ml-100k", world.work, SceneSettings("train", 10_000))
    assert content["counts"]["had_before"] > 50
    events = events_of(world)
    for scene in read(world.work, "train"):
        time = round(scene["timestamp"].timestamp() * 1000)
        assert scene["item_id"] not in {item for when, item in events[scene["user_id"]] if when < time}


def test_choices_follow_their_rule(small, tmp_path: Path) -> None:
    make_scenes("ml-100k", copy_work(small, tmp_path), SceneSettings("train", 200, choice="min_rating=4"))
    rating = {}
    users, items, log = small.tables.users["user_id"], small.tables.items["item_id"], small.tables.log
    for row, value in enumerate(small.tables.event_columns["rating"].to_list()):
        rating[users[int(log.user[row])], items[int(log.item[row])]] = value
    assert {rating[scene["user_id"], scene["item_id"]] for scene in read(tmp_path, "train")} == {4, 5}


def test_the_first_scenes_are_a_fair_sample_of_all(ml_100k) -> None:
    """Neither crowded occasions nor busy users come first, however their events were selected."""
    choices, log = ml_100k.choices(SceneSettings("test", 5)), ml_100k.tables.log
    half = len(choices) // 2
    crowd = log.by_user.count(choices.user, log.position(choices.time + 1))
    crowd -= log.by_user.count(choices.user, log.position(choices.time))
    for numbers in (crowd, np.bincount(choices.user)[choices.user]):
        assert stats.mannwhitneyu(numbers[:half], numbers[half:]).pvalue > 0.01


def test_test_scenes_wait_for_train_scenes_that_are_not_finished(toy, tmp_path: Path) -> None:
    """Their probe and baselines would be fitted on something else."""
    work = copy_work(toy, tmp_path)
    make_scenes("toy", work, SceneSettings("train", 60, "logged"))
    manifest_path(work / "features/toy/train").unlink()
    with pytest.raises(UserError, match="features/toy/train is not finished: run .*--split train` again"):
        make_scenes("toy", work, SceneSettings("test", 20, "logged"))
    assert not (work / "scenes/toy/test").exists()
