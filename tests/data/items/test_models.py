"""Candidate models against their formulas, computed directly in float64, and against themselves in other blocks."""

from __future__ import annotations

import numpy as np
import pytest

from usermirrorer.data.items import histories as histories_module
from usermirrorer.data.items.histories import histories_in_blocks
from usermirrorer.data.items.models import LOW_PASS_WEIGHT, RANK, WINDOW, fit_models
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


def scores_of(model, log, user, time) -> np.ndarray:
    found = np.empty((len(user), log.items), dtype=np.float32)
    for rows, histories in histories_in_blocks(log, user, time):
        found[rows] = model.scores(histories)
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


def test_option_scores_and_other_blocks_have_the_same_bits(world, monkeypatch) -> None:
    log, _, models, user, time, _, _ = world
    whole = {name: scores_of(model, log, user, time) for name, model in models.items()}
    monkeypatch.setattr(histories_module, "BLOCK", 7)
    item = np.random.default_rng(1).integers(-20, log.items, size=(len(user), 4)).clip(-1)
    for name, model in models.items():
        np.testing.assert_array_equal(scores_of(model, log, user, time), whole[name])
        for rows, histories in histories_in_blocks(log, user, time):
            shown = item[rows]
            expected = np.take_along_axis(whole[name][rows], np.maximum(shown, 0), axis=1)
            np.testing.assert_array_equal(model.option_scores(histories, shown)[shown >= 0], expected[shown >= 0])
