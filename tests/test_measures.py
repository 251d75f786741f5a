"""Every measure against its most direct computation, on scenes of different lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer import measures


@st.composite
def scenes(draw, min_rows: int = 1):
    """Ragged predictions, some with ties and zeros, and a choice each."""
    rows = draw(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=min_rows, max_size=12))
    rows = [row if sum(row) else [1] * len(row) for row in rows]
    probs = [[value / sum(row) for value in row] for row in rows]
    choice = np.array([draw(st.integers(0, len(row) - 1)) for row in rows])
    return probs, choice


def plain_entropy(row) -> float:
    return -sum(p * math.log2(p) for p in row if p > 0)


@given(scenes())
def test_padding_keeps_every_probability(drawn):
    probs, _ = drawn
    matrix, counts = measures.padded(probs)
    assert [list(row[:n]) for row, n in zip(matrix, counts, strict=True)] == probs
    assert matrix.sum() == pytest.approx(len(probs))


@given(scenes())
def test_per_scene_measures_equal_brute_force(drawn):
    probs, choice = drawn
    matrix, counts = measures.padded(probs)
    entropy, rank = measures.entropy(matrix), measures.reciprocal_rank(matrix, choice, counts)
    hit, gain = measures.argmax_hit(matrix, choice), measures.information_gain(matrix, choice, counts)
    for i, (row, g) in enumerate(zip(probs, choice, strict=True)):
        assert entropy[i] == pytest.approx(plain_entropy(row), abs=1e-9)
        better, equal = sum(p > row[g] for p in row), sum(p == row[g] for p in row)
        assert rank[i] == pytest.approx(1 / (better + (equal + 1) / 2))
        top = [j for j, p in enumerate(row) if p == max(row)]
        assert hit[i] == pytest.approx((g in top) / len(top))
        assert gain[i] == pytest.approx(math.log2(len(row)) + math.log2(max(row[g], measures.FLOOR)))
        assert measures.brier(matrix, choice)[i] == pytest.approx(sum((p - (j == g)) ** 2 for j, p in enumerate(row)))


@given(st.data(), st.integers(2, 6), st.integers(1, 5))
def test_uncertainty_of_several_decisions_decomposes(data, options, count):
    group = np.sort(np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=8)) + list(range(count))))
    row = st.lists(st.integers(1, 9), min_size=options, max_size=options)
    weights = data.draw(st.lists(row, min_size=len(group), max_size=len(group)))
    probs = np.array(weights) / np.array(weights).sum(axis=1, keepdims=True)
    expected, total = measures.entropy_expected(probs, group), measures.entropy_total(probs, group)
    for scene in range(count):
        rows = probs[group == scene]
        assert expected[scene] == pytest.approx(np.mean([plain_entropy(row) for row in rows]))
        assert total[scene] == pytest.approx(plain_entropy(rows.mean(axis=0)))
    apart = measures.disagreement(probs, group)
    assert (apart >= 0).all() and apart == pytest.approx(total - expected, abs=1e-9)
    assert (measures.normalised(total, np.full(count, options)) <= 1 + 1e-12).all()


def test_uniform_is_zero_everywhere_it_should_be():
    probs, counts = measures.padded([[0.5] * 2, [0.2] * 5, [1 / 12] * 12])
    choice = np.array([1, 3, 7])
    assert measures.information_gain(probs, choice, counts) == pytest.approx([0, 0, 0])
    assert measures.normalised(measures.entropy(probs), counts) == pytest.approx([1, 1, 1])
    assert measures.argmax_hit(probs, choice) == pytest.approx([1 / 2, 1 / 5, 1 / 12])
    assert measures.reciprocal_rank(probs, choice, counts) == pytest.approx([1 / 1.5, 1 / 3, 1 / 6.5])
    assert measures.position_bias(probs, counts) == pytest.approx({2: 0, 5: 0, 12: 0})
    assert measures.normalised(np.zeros(1), np.ones(1)) == pytest.approx([0])


@given(scenes(min_rows=2), st.integers(1, 15))
def test_ece_equals_brute_force_and_ignores_row_order(drawn, bins):
    probs, choice = drawn
    matrix, _ = measures.padded(probs)
    confidence, hit = matrix.max(axis=1), measures.argmax_hit(matrix, choice)
    bin_of = measures.confidence_bins(matrix, bins)
    plain = sum(
        (bin_of == b).mean() * abs(confidence[bin_of == b].mean() - hit[bin_of == b].mean()) for b in np.unique(bin_of)
    )
    assert measures.ece(matrix, choice, bins) == pytest.approx(plain, abs=1e-9)
    assert measures.ece(matrix[::-1], choice[::-1], bins) == pytest.approx(plain, abs=1e-9)


def test_confidence_bins_have_equal_mass_and_keep_ties_together():
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1, 1500)
    sizes = np.bincount(measures.confidence_bins(np.column_stack([top, 1 - top])))
    assert list(sizes) == [100] * 15
    assert len(np.unique(measures.confidence_bins(np.full((40, 5), 0.2)))) == 1


def test_position_bias_of_a_predictor_that_always_says_a():
    probs, counts = measures.padded([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0.5, 0.5]])
    assert measures.position_bias(probs, counts) == pytest.approx({2: 0.0, 4: 0.75})


@given(scenes(min_rows=2), st.floats(0.1, 8))
def test_no_temperature_on_a_grid_beats_the_fitted_one(drawn, other):
    probs, choice = drawn
    matrix, counts = measures.padded(probs)

    def loss(temperature: float) -> float:
        tempered = measures.apply_temperature(matrix, counts, temperature)
        return -np.log(measures.choice_probability(tempered, choice)).mean()

    best = measures.fit_temperature(matrix, choice, counts)
    assert loss(best) <= loss(other) + 1e-6


def test_fitted_temperature_undoes_a_known_one():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(5), size=20_000)
    choice = (probs.cumsum(axis=1) > rng.uniform(size=(len(probs), 1))).argmax(axis=1)
    counts = np.full(len(probs), 5)
    sharp = measures.apply_temperature(probs, counts, 0.4)
    assert measures.fit_temperature(sharp, choice, counts) == pytest.approx(2.5, rel=0.05)


@given(scenes(), st.floats(0.1, 8))
def test_temperature_keeps_order_and_padding(drawn, temperature):
    probs, choice = drawn
    matrix, counts = measures.padded(probs)
    tempered = measures.apply_temperature(matrix, counts, temperature)
    assert tempered.sum(axis=1) == pytest.approx(np.ones(len(probs)))
    assert (tempered[np.arange(matrix.shape[1]) >= counts[:, None]] == 0).all()
    assert measures.argmax_hit(tempered, choice) == pytest.approx(measures.argmax_hit(matrix, choice))


def test_interval_equals_a_plain_loop_over_draws():
    rng = np.random.default_rng(2)
    users, domains = rng.integers(0, 20, 200).astype(str), rng.integers(0, 2, 200)
    values = rng.normal(size=200) + domains
    got = measures.interval(values, users, draws=2000, domains=domains)
    means = []
    for _ in range(2000):
        per_domain = []
        for domain in (0, 1):
            own = [values[(domains == domain) & (users == user)] for user in np.unique(users[domains == domain])]
            drawn = [own[i] for i in rng.integers(len(own), size=len(own))]
            per_domain.append(np.concatenate(drawn).mean())
        means.append(np.mean(per_domain))
    assert got["value"] == pytest.approx(np.mean([values[domains == d].mean() for d in (0, 1)]))
    width = got["high"] - got["low"]
    assert [got["low"], got["high"]] == pytest.approx(list(np.quantile(means, [0.025, 0.975])), abs=0.1 * width)
    pooled = measures.interval(values, users, domains=domains, pooled=True)
    assert pooled["value"] == pytest.approx(values.mean()) and pooled["n"] == 200


def test_interval_covers_the_truth_when_scenes_of_a_user_resemble_each_other():
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(60), 10)
        values = rng.normal(size=60)[users] + rng.normal(size=600)
        estimate = measures.interval(values, users, draws=400, seed=seed)
        covered += estimate["low"] <= 0 <= estimate["high"]
    assert covered >= 85  # scenes resampled instead of users: about 55


def test_users_with_the_same_name_in_two_domains_are_two_people():
    values, users = np.array([0.0, 1.0]), np.array(["7", "7"])
    alone = measures.interval(values, users, domains=np.array(["a", "b"]))
    assert alone["low"] == alone["high"] == 0.5


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(3)
    values, users = rng.normal(size=300), rng.integers(0, 50, 300)
    whole = measures.interval(values, users, draws=500)
    again = measures.interval(values, users, draws=500)
    assert whole == again


@given(scenes(min_rows=3), st.integers(0, 3))
def test_paired_interval_is_the_interval_of_the_differences(drawn, seed):
    probs, choice = drawn
    matrix, _ = measures.padded(probs)
    a, b = measures.choice_probability(matrix, choice), measures.argmax_hit(matrix, choice)
    users = np.arange(len(a)) % 3
    difference = measures.paired_interval(a, b, users, draws=50, seed=seed)
    assert difference == measures.interval(a - b, users, draws=50, seed=seed)
    assert measures.paired_interval(a, a, users, draws=50)["high"] == 0
