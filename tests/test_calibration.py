"""Smoothing, temperature and prior correction, on predictions whose flaws are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer import measures
from usermirrorer.calibration import calibrate, cross_calibrated, fit_calibration, prior_corrected


def drawn(rng: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """One choice of each row."""
    return (probs.cumsum(axis=1) > rng.uniform(size=(len(probs), 1))).argmax(axis=1)


def loss(probs: np.ndarray, choice: np.ndarray) -> float:
    return float(-np.log(measures.choice_probability(probs, choice)).mean())


def votes_of(rng: np.random.Generator, probs: np.ndarray, m: int) -> np.ndarray:
    """The mean of m decisions that are nearly sure of one option each."""
    counts = np.stack([rng.multinomial(m, row) for row in probs])
    return 0.99 * counts / m + 0.01 / probs.shape[1]


@given(st.integers(0, 50), st.floats(-6, 0), st.floats(-1, 1.5))
def test_nothing_on_a_grid_beats_what_was_fitted(seed, log_smoothing, log_temperature):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(4), size=300)
    probs, choice = votes_of(rng, truth, 5), drawn(rng, truth)
    counts, votes = np.full(300, 4), np.full(300, 5)
    fitted = calibrate(probs, counts, votes, *fit_calibration(probs, choice, counts, votes))
    other = calibrate(probs, counts, votes, np.exp(log_smoothing), np.exp(log_temperature))
    assert loss(fitted, choice) <= loss(other, choice) + 1e-3


def test_the_fit_undoes_a_known_temperature():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.ones(5), size=20_000)
    counts, votes = np.full(len(truth), 5), np.ones(len(truth))
    sharp = calibrate(truth, counts, votes, 1e-9, 0.4)
    smoothing, temperature = fit_calibration(sharp, drawn(rng, truth), counts, votes)
    assert temperature == pytest.approx(2.5, rel=0.05) and smoothing < 0.01


def test_votes_are_smoothed_as_a_dirichlet_prior_would():
    rng = np.random.default_rng(2)
    truth = rng.dirichlet(np.full(5, 0.5), size=20_000)
    counts, votes = np.full(len(truth), 5), np.full(len(truth), 5)
    shares = np.stack([rng.multinomial(5, row) for row in truth]) / 5
    choice = drawn(rng, truth)
    smoothing, temperature = fit_calibration(shares, choice, counts, votes)
    assert (smoothing, temperature) == pytest.approx((0.5, 1.0), rel=0.1)
    gain = measures.information_gain(calibrate(shares, counts, votes, smoothing, temperature), choice, counts).mean()
    assert measures.information_gain(shares, choice, counts).mean() < 0 < gain


@given(st.integers(0, 100), st.floats(0, 1), st.floats(0.1, 8))
def test_calibration_keeps_order_and_padding(seed, smoothing, temperature):
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(n)).tolist() for n in rng.integers(1, 7, size=20)]
    probs, counts = measures.padded(rows)
    calibrated = calibrate(probs, counts, np.full(20, 3), smoothing, temperature)
    assert calibrated.sum(axis=1) == pytest.approx(np.ones(20))
    assert (calibrated[np.arange(probs.shape[1]) >= counts[:, None]] == 0).all()
    assert (calibrated.argmax(axis=1) == probs.argmax(axis=1)).all()


def test_each_half_of_the_users_is_fitted_on_the_other():
    rng = np.random.default_rng(3)
    users = np.arange(400) % 40
    truth = rng.dirichlet(np.ones(5), size=400)
    choice, counts, votes = drawn(rng, truth), np.full(400, 5), np.ones(400)
    calibrated, fits = cross_calibrated(truth, choice, counts, votes, users)
    assert sum(fit["scenes"] for fit in fits) == 400
    for user in range(40):
        own = users == user
        # whatever this user chose, their predictions are calibrated alike
        changed, _ = cross_calibrated(truth, np.where(own, (choice + 1) % 5, choice), counts, votes, users)
        np.testing.assert_array_equal(changed[own], calibrated[own])
    alone, none = cross_calibrated(truth, choice, counts, votes, np.zeros(400, dtype=int))
    assert none == [] and (alone == truth).all()


def test_a_prejudice_about_the_list_is_taken_out():
    rng = np.random.default_rng(4)
    groups, counts = np.repeat(np.arange(30), 5), np.full(150, 5)
    interest = rng.normal(size=(30, 5, 5))
    interest -= interest.mean(axis=1, keepdims=True)  # by option, within the group
    fame = rng.normal(size=(30, 1, 5)) * 3
    probs, pure = (
        np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for logits in ((interest + fame).reshape(150, 5), interest.reshape(150, 5))
    )
    corrected, changed = prior_corrected(probs, counts, groups)
    np.testing.assert_allclose(corrected, pure)
    assert changed.all()
    blind, _ = prior_corrected(np.repeat(probs[::5], 5, axis=0), counts, groups)
    np.testing.assert_allclose(blind, 0.2)


def test_groups_that_are_not_whole_stay_as_they_are():
    probs = np.random.default_rng(5).dirichlet(np.ones(3), size=6)
    corrected, changed = prior_corrected(probs, np.full(6, 3), np.array([0, 0, 0, 1, 1, 2]))
    assert changed.tolist() == [True, True, True, False, False, False]
    np.testing.assert_array_equal(corrected[3:], probs[3:])
    assert (corrected[:3] != probs[:3]).all()
