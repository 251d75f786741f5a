"""The theorem: whoever looks at a list without its reader is right exactly once in n, whatever the log is like."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usermirrorer.data.log.choices import USER_CAP, Choices, qualifying_choices
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.tables import Cuts, Tables
from usermirrorer.data.scenes.as_of import DAY_MS
from usermirrorer.data.scenes.draw import Drawn, draw
from usermirrorer.data.scenes.groups import Pick, find_cliques, hardest, widest
from usermirrorer.data.scenes.make import scene_table
from usermirrorer.data.scenes.window import Window, open_window
from usermirrorer.data.sources.toy import TOY_LOG
from usermirrorer.steps import SceneSettings


SHOP = replace(TOY_LOG, name="shop", option="{item}< | {count} sold>", as_of={"count": "count"})


@dataclass(frozen=True)
class World:
    """A generated log: tables, and the same events as plain tuples (time, user, item)."""

    tables: Tables
    events: list[tuple[int, int, int]]


def world(
    events: list[tuple[int, int, int]], users: int, items: int, released: list[int | None], repeats: bool
) -> World:
    """Tables of these events; `released` has a time for each item whose release is known."""
    events = sorted(set(events))
    first = {item: min(time for time, _, i in events if i == item) for _, _, item in events}
    known = {item: released[item] for item in first}
    available = {item: first[item] + 1 if known[item] is None else known[item] for item in first}
    order = sorted(available, key=lambda item: (available[item], item))
    row = {item: number for number, item in enumerate(order)}
    time, user, item = (np.array([event[k] for event in events], dtype=np.int64) for k in range(3))
    log = Log(
        user.astype(np.int32), np.array([row[i] for i in item.tolist()], dtype=np.int32), time, users, len(order)
    )
    ids = [hashlib.blake2b(repr(event).encode(), digest_size=8).digest() for event in events]
    tables = Tables(
        domain=replace(SHOP, repeats=repeats),
        users=pl.DataFrame({"user_id": [f"u{u}" for u in range(users)]}),
        items=pl.DataFrame(
            {
                "item_id": [f"i{i}" for i in order],
                "text": [f"thing {i}" for i in order],
                "available_from": [available[i] for i in order],
                "dated": [known[i] is not None for i in order],
            }
        ),
        log=log,
        scene_id=np.frombuffer(b"".join(ids), dtype=">u8").astype(np.uint64),
        event_columns=pl.DataFrame({"_row": np.arange(len(events))}),
    )
    return World(tables, [(t, u, row[i]) for t, u, i in events])


@st.composite
def worlds(draw_: st.DrawFn) -> World:
    """Dense, sparse and bursty logs, few items, ties, undated items, repeats."""
    users, items = draw_(st.sampled_from([2, 5, 9, 14])), draw_(st.sampled_from([2, 6, 20, 60]))
    count, ticks = draw_(st.sampled_from([250, 120, 60, 20, 1])), draw_(st.sampled_from([60, 12, 1000, 3, 1]))
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    skewed = rng.random((2, count)) ** draw_(st.sampled_from([1, 3]))
    time = rng.integers(0, ticks, count) * DAY_MS // 4
    user, item = (skewed * np.array([[users], [items]])).astype(int)
    share = draw_(st.sampled_from([0.0, 0.5, 1.0]))
    released = [int(rng.integers(-5, ticks)) * DAY_MS // 4 if rng.random() < share else None for _ in range(items)]
    events = list(zip(time.tolist(), user.tolist(), item.tolist(), strict=True))
    return world(events, users, items, released, draw_(st.booleans()))


def scenes_of(world: World, settings: SceneSettings) -> tuple[Window, Drawn, Choices, dict[str, int], list[dict]]:
    full = settings.for_domain("shop", world.tables.domain.exposures, {"any": None})
    cuts = Cuts(train=0, test=2**60)
    choices, _ = qualifying_choices(world.tables, cuts, "train", "any", full.exposure, full.seed)
    vectors = np.random.default_rng(0).standard_normal((len(world.tables.items), 4)).astype(np.float32)
    window = open_window(world.tables, cuts, "train", "any", vectors)
    drawn, names, counts = draw(window, choices, full, 1, lambda done, total: None)
    return window, drawn, choices, counts, scene_table(window, drawn, full, names).to_pylist()


@settings(max_examples=300)
@given(
    worlds(),
    st.sampled_from([(2, 2), (2, 5), (3, 3), (5, 5)]),
    st.sampled_from(["matched", "hard"]),
    st.sampled_from([None, 0.0, 1.0, 10.0]),
)
def test_no_list_tells_its_choice(
    world: World, lengths: tuple[int, int], exposure: str, max_span: float | None
) -> None:
    settings = SceneSettings("train", 10_000, exposure, "", *lengths, max_span=max_span)
    _, drawn, choices, counts, scenes = scenes_of(world, settings)
    groups = defaultdict(list)
    for scene in scenes:
        groups[scene["group_id"]].append(scene)
    assert counts["left_over"] == len(choices) - len(scenes)
    for members in groups.values():
        n = len(members)
        assert lengths[0] <= n <= lengths[1]
        assert len({scene["user_id"] for scene in members}) == len({scene["item_id"] for scene in members}) == n
        # One list for all: the same items in the same order with the same numbers.
        for shared in ("impression_list", "item_cnt", "choice_cnt", "group_time"):
            assert all(scene[shared] == members[0][shared] for scene in members), shared
        options = members[0]["text"]["action_list"]
        assert all(scene["text"]["action_list"] == options for scene in members)
        # Each item is the choice once, and so is each position.
        assert sorted(scene["item_pos"] for scene in members) == list(range(n))
        assert members[0]["impression_list"] == [
            scene["item_id"] for scene in sorted(members, key=lambda scene: scene["item_pos"])
        ]
        assert members[0]["group_time"] == min(scene["timestamp"] for scene in members)
        # So a rule that reads nothing of the user, whatever it is, finds one choice in n.
        for salt in range(3):
            key = repr((salt, options, members[0]["item_cnt"], members[0]["group_time"])).encode()
            answer = int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") % n
            assert sum(scene["item_pos"] == answer for scene in members) == 1


def test_generated_worlds_have_groups() -> None:
    """Otherwise the properties below would hold of nothing."""
    scenes = []

    @settings(max_examples=60, database=None, derandomize=True)
    @given(worlds())
    def count(world: World) -> None:
        scenes.append(len(scenes_of(world, SceneSettings("train", 10_000, "matched", "", 2, 5))[1]))

    count()
    assert np.mean(np.array(scenes) > 0) > 0.15 and max(scenes) > 50


@settings(max_examples=200)
@given(worlds(), st.sampled_from([None, 2.0]))
def test_conditions_hold_for_every_ordered_pair(world: World, max_span: float | None) -> None:
    settings = SceneSettings("train", 10_000, "matched", "", 2, 5, max_span=max_span)
    _, drawn, _, _, _ = scenes_of(world, settings)
    repeats, dated = world.tables.domain.repeats, world.tables.items["dated"].to_list()
    chosen, available = drawn.choices, world.tables.available_from
    had = defaultdict(list)
    for time, user, item in world.events:
        had[user, item].append(time)
    for group in np.unique(drawn.group):
        rows = np.flatnonzero(drawn.group == group)
        for a in rows:
            for b in rows[rows != a]:
                user, time, item = int(chosen.user[a]), int(chosen.time[a]), int(chosen.item[b])
                seen = [when for when in had[user, item] if when == time or (when < time and not repeats)]
                assert not seen
                assert not dated[item] or available[item] <= drawn.group_time[a]
                assert max_span is None or abs(time - chosen.time[b]) <= max_span * DAY_MS
    # A choice is used once, and the caps are those of the split.
    assert len(np.unique(chosen.scene_id)) == len(chosen)
    assert np.bincount(chosen.user).max(initial=0) <= USER_CAP["train"]


@settings(max_examples=200)
@given(st.integers(0, 40), st.floats(0, 1), st.integers(0, 2**32 - 1), st.sampled_from([hardest, widest]))
def test_cliques_are_disjoint_compatible_and_of_the_wanted_size(
    rows: int, density: float, seed: int, pick: Pick
) -> None:
    rng = np.random.default_rng(seed)
    compatible = np.triu(rng.random((rows, rows)) < density, 1)
    compatible |= compatible.T
    wanted = rng.integers(2, 6, rows)
    groups, unused = find_cliques(compatible, wanted, pick)
    assert sorted([*np.concatenate([*groups, []]).astype(int), *unused]) == list(range(rows))
    for group in groups:
        assert len(group) in wanted[group]
        assert (compatible[np.ix_(group, group)] | np.eye(len(group), dtype=bool)).all()


def test_a_time_that_only_the_members_know_orders_nothing(ml_100k) -> None:
    """Options are not in the order of choices in time, nor in that of the search for groups."""
    settings = ml_100k.filled_in(SceneSettings("train", 5000, min_exposure=5, max_exposure=5))
    window = open_window(ml_100k.tables, ml_100k.cuts, "train", "any", ml_100k.vectors)
    drawn, _, _ = draw(window, ml_100k.choices(settings), settings, 1, lambda done, total: None)
    first = drawn.choices.time == drawn.group_time
    places = np.bincount(drawn.position[first], minlength=5)
    assert places.min() > 0.15 * places.sum() and len(drawn) == 5000


@pytest.mark.parametrize("exposure", ["matched", "hard"])
@pytest.mark.parametrize(("split", "options", "least"), [("test", 5, 0.95), ("train", 5, 0.98), ("test", 2, 0.98)])
def test_nearly_every_choice_finds_a_group(ml_100k, exposure: str, split: str, options: int, least: float) -> None:
    settings = ml_100k.filled_in(SceneSettings(split, 10**6, exposure, "", options, options))
    choices = ml_100k.choices(settings)
    window = open_window(ml_100k.tables, ml_100k.cuts, split, "any", ml_100k.vectors)
    drawn, _, counts = draw(window, choices, settings, 2, lambda done, total: None)
    assert len(drawn) + counts["left_over"] == len(choices)
    assert len(drawn) >= least * len(choices)


def test_hard_groups_are_of_alike_items(ml_100k) -> None:
    window = open_window(ml_100k.tables, ml_100k.cuts, "train", "any", ml_100k.vectors)
    unit = window.vectors / np.linalg.norm(window.vectors, axis=1, keepdims=True).clip(1e-9)

    def likeness(**changes: str) -> tuple[float, float]:
        settings = ml_100k.filled_in(SceneSettings("train", 5000, **changes))
        drawn, _, _ = draw(window, ml_100k.choices(settings), settings, 2, lambda done, total: None)
        lists = [row[row >= 0] for row in drawn.options[drawn.lists[0]]]
        counts = np.log1p(ml_100k.tables.log.by_item.count(np.arange(len(unit)), np.full(len(unit), 60_000)))
        cosines = np.mean([((unit[row] @ unit[row].T).sum() - len(row)) / len(row) / (len(row) - 1) for row in lists])
        return float(cosines), float(np.mean([counts[row].std() for row in lists]))

    matched, content, popularity = likeness(), likeness(exposure="hard"), likeness(exposure="hard", alike="popularity")
    assert content[0] > 2 * matched[0]
    assert popularity[1] < 0.6 * matched[1]


def test_any_number_of_scenes_gives_the_same_groups(small) -> None:
    window = open_window(small.tables, small.cuts, "train", "any", small.vectors)
    every: dict[str, dict] = {}
    for num in (3000, 500, 12):
        settings = small.filled_in(SceneSettings("train", num))
        drawn, names, counts = draw(window, small.choices(settings), settings, 1, lambda done, total: None)
        scenes = {scene["scene_id"]: scene for scene in scene_table(window, drawn, settings, names).to_pylist()}
        assert num - 12 < len(scenes) <= num or counts["left_over"] + len(scenes) == counts["searched"]
        every = every or scenes
        assert all(every[key] == scene for key, scene in scenes.items())
