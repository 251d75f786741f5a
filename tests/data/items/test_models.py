"""Models over items against their formulas, computed directly in float64, and against themselves in other blocks."""

from __future__ import annotations

import numpy as np
import pytest

from usermirrorer.data.items import histories as histories_module
from usermirrorer.data.items.histories import histories_in_blocks
from usermirrorer.data.items.models import DECAYING, LOW_PASS_WEIGHT, RANK, WINDOW, fit_models
from usermirrorer.data.items.recency import DECAY_BITS, LATEST, decay
from usermirrorer.data.log.events import Log
from usermirrorer.data.log.side_tables import Friends


@pytest.fixture(scope="module")
def world(ml_100k):
    """Models fitted on the first 60,000 ratings, 300 later queries, and each query's history as a dense row."""
    log = ml_100k.tables.log
    fitted = log.take(np.arange(60_000))
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(np.arange(60_000, len(log)), 300, replace=False))
    user, time = log.user[rows].astype(np.int64), log.time[rows]
    history = np.zeros((len(rows), log.items))
    for query, (person, now) in enumerate(zip(user, time, strict=True)):
        history[query, log.item[(log.user == person) & (log.time < now)]] = 1
    ring = np.arange(log.users)
    friends = Friends(np.arange(log.users + 1), (ring + 1) % log.users)
    return log, fitted, fit_models(fitted, log, ml_100k.vectors, friends), user, time, history, ml_100k.vectors


def scores_of(model, log, user, time, half_life: float | None = None) -> np.ndarray:
    """Scores of all items, as if a list held them all."""
    found = np.empty((len(user), log.items), dtype=np.float32)
    for rows, histories in histories_in_blocks(log, user, time):
        every = np.broadcast_to(np.arange(log.items), (len(rows), log.items))
        found[rows] = model.option_scores(histories, every, decay(half_life)[None])[0]
    return found


def interactions(fitted) -> np.ndarray:
    dense = np.zeros((fitted.users, fitted.items))
    dense[fitted.user, fitted.item] = 1
    return dense


def test_content_is_the_cosine_with_the_mean_of_the_history(world) -> None:
    log, _, models, user, time, history, vectors = world
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    profile = history @ vectors.astype(np.float64)
    profile /= np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(scores_of(models["content"], log, user, time), profile @ unit.T, atol=2e-3)


def test_item_knn_sums_the_nearest_neighbours(world) -> None:
    log, fitted, models, user, time, history, _ = world
    dense = interactions(fitted)
    norm = np.sqrt(np.maximum(dense.sum(axis=0), 1))
    cosine = dense.T @ dense / norm / norm[:, None]
    np.fill_diagonal(cosine, 0)
    cut = np.sort(cosine, axis=1)[:, -100][:, None]
    kept = np.where(cosine >= cut, cosine, 0)
    # Items tied at the hundredth place may or may not count, hence small differences.
    agreement = agreements(scores_of(models["item-knn"], log, user, time), history @ kept.T, history)
    assert agreement.mean() > 0.99 and agreement.min() > 0.9


def agreements(found: np.ndarray, expected: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Correlation of the scores of each query whose user had chosen something that others chose too."""
    some = np.flatnonzero((history.sum(axis=1) > 0) & (expected.std(axis=1) > 0))
    assert len(some) > 100
    return np.array([np.corrcoef(found[row], expected[row])[0, 1] for row in some])


def test_gf_cf_is_its_two_filters(world) -> None:
    log, fitted, models, user, time, history, _ = world
    dense = interactions(fitted)
    people, items = (1 / np.sqrt(np.maximum(dense.sum(axis=axis), 1)) for axis in (1, 0))
    normalised = people[:, None] * dense * items
    linear = normalised.T @ normalised
    cut = np.sort(linear, axis=0)[-128]
    right = np.linalg.svd(normalised, full_matrices=False)[2][:RANK].T
    low_pass = items[:, None] * (right @ right.T) * np.sqrt(dense.sum(axis=0))
    expected = history @ np.where(linear >= np.maximum(cut, 1e-12), linear, 0) + LOW_PASS_WEIGHT * history @ low_pass
    agreement = agreements(scores_of(models["gf-cf"], log, user, time), expected, history)
    assert agreement.mean() > 0.99 and agreement.min() > 0.9


def test_popularity_counts_recent_choices_and_friends_count_once(world) -> None:
    log, _, models, user, time, _, _ = world
    popularity, social = (scores_of(models[name], log, user, time) for name in ("popularity", "friends"))
    for query in range(0, len(user), 30):
        position = int((log.time < time[query]).sum())
        recent = np.bincount(log.item[max(position - WINDOW, 0) : position], minlength=log.items)
        np.testing.assert_array_equal(popularity[query], recent)
        friend = (user[query] + 1) % log.users
        had = np.unique(log.item[(log.user == friend) & (log.time < time[query])])
        np.testing.assert_array_equal(np.flatnonzero(social[query]), had)
        assert set(social[query][had]) <= {1.0}


@pytest.mark.parametrize("half_life", [1.0, 4.0])
def test_recent_choices_count_more(world, half_life: float) -> None:
    """Each of the last choices counts half as much as one that was made `half_life` choices later."""
    log, _, models, user, time, _, _ = world
    alone = {name: model_of_single_choices(models[name], log) for name in DECAYING}
    for query in range(0, len(user), 30):
        mine = log.item[(log.user == user[query]) & (log.time < time[query])][::-1][:LATEST]
        weights = 0.5 ** (np.arange(len(mine)) / half_life)
        for name in DECAYING:
            [found] = scores_of(models[name], log, user[[query]], time[[query]], half_life)
            expected = weights @ alone[name][mine] if len(mine) else np.zeros(log.items)
            np.testing.assert_allclose(found, expected, atol=0.02 * max(np.abs(expected).max(), 1e-6))


def test_the_lead_is_the_choice_that_adds_most_of_those_shown(world) -> None:
    log, _, models, user, time, _, _ = world
    alone = model_of_single_choices(models["item-knn"], log)
    item = np.random.default_rng(3).integers(0, log.items, (len(user), 5))
    latest, weights, led = 6, decay(4.0), 0
    for rows, histories in histories_in_blocks(log, user, time):
        leads = models["item-knn"].leads(histories, item[rows], weights, np.full(len(rows), latest))
        for query, shown, found in zip(rows, item[rows], leads, strict=True):
            mine = log.item[(log.user == user[query]) & (log.time < time[query])][::-1][:latest]
            for option, lead in zip(shown, found, strict=True):
                added = weights[: len(mine)] / 2**DECAY_BITS * alone[mine, option]
                if not added.any():
                    assert lead == -1
                    continue
                led += 1
                assert added[mine.tolist().index(lead)] == pytest.approx(added.max(), rel=1e-5)
    assert led > 300


def model_of_single_choices(model, log) -> np.ndarray:
    """Scores of all items for a user who chose one item, by that item: `(items, items)`."""
    every = np.arange(log.items)
    one_each = Log(every.astype(np.int32), every.astype(np.int32), np.zeros(log.items, np.int64), log.items, log.items)
    return scores_of(model, one_each, every, np.ones(log.items, dtype=np.int64))


def test_counts_are_as_of_the_time_of_the_list_and_histories_as_of_the_users(world) -> None:
    log, _, models, user, time, _, _ = world
    earlier = time - 5 * 86_400_000
    item = np.random.default_rng(2).integers(0, log.items, (len(user), 5))
    whole = decay(None)[None]
    for name, model in models.items():
        for rows, histories in histories_in_blocks(log, user, time, earlier):
            shown = model.option_scores(histories, item[rows], whole)[0]
            own = name in ("content", *DECAYING)
            then = scores_of(model, log, user[rows], (time if own else earlier)[rows])
            np.testing.assert_array_equal(shown, np.take_along_axis(then, item[rows], axis=1))


def test_other_lists_and_blocks_have_the_same_bits(world, monkeypatch) -> None:
    log, _, models, user, time, _, _ = world
    whole = {name: scores_of(model, log, user, time) for name, model in models.items()}
    recent = {name: scores_of(models[name], log, user, time, 2.0) for name in DECAYING}
    monkeypatch.setattr(histories_module, "BLOCK", 7)
    item = np.random.default_rng(1).integers(-20, log.items, size=(len(user), 4)).clip(-1)
    both = np.stack([decay(None), decay(2.0)])
    for name, model in models.items():
        for rows, histories in histories_in_blocks(log, user, time):
            shown = item[rows]
            found = model.option_scores(histories, shown, both)
            forms = [whole[name], recent[name]] if name in DECAYING else [whole[name]]
            for one, expected in zip(found, forms, strict=True):
                expected = np.take_along_axis(expected[rows], np.maximum(shown, 0), axis=1)
                np.testing.assert_array_equal(one[shown >= 0], expected[shown >= 0])
