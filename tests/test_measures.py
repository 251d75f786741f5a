"""Every measure against its most direct computation, on scenes of different lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

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
    assert (total >= expected - 1e-9).all()
    assert (measures.normalised(total, np.full(count, options)) <= 1 + 1e-12).all()


def test_uniform_is_zero_everywhere_it_should_be():
    probs, counts = measures.padded([[0.5] * 2, [0.2] * 5, [1 / 12] * 12])
    choice = np.array([1, 3, 7])
    assert measures.information_gain(probs, choice, counts) == pytest.approx([0, 0, 0])
    assert measures.normalised(measures.entropy(probs), counts) == pytest.approx([1, 1, 1])
    assert measures.argmax_hit(probs, choice) == pytest.approx([1 / 2, 1 / 5, 1 / 12])
    assert measures.reciprocal_rank(probs, choice, counts) == pytest.approx([1 / 1.5, 1 / 3, 1 / 6.5])
    assert [measures.position_bias_of(probs[i, :n]) for i, n in enumerate(counts)] == pytest.approx([0, 0, 0])
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


@settings(max_examples=20)
@given(scenes(min_rows=2))
def test_the_null_of_ece_is_its_mean_over_choices_drawn_from_the_predictions(drawn):
    probs, _ = drawn
    matrix, _ = measures.padded(probs)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        choice = (matrix.cumsum(axis=1) < rng.random((len(matrix), 1)) * matrix.sum(axis=1, keepdims=True)).sum(axis=1)
        errors.append(measures.ece(matrix, choice, 3))
    null = measures.expected_ece(matrix, measures.confidence_bins(matrix, 3))
    assert null == pytest.approx(np.mean(errors), abs=6 * np.std(errors) / 10 + 1e-9)


def test_uniform_predictions_are_calibrated_whatever_is_chosen():
    assert measures.expected_ece(np.full((50, 5), 0.2), np.zeros(50, dtype=int)) == pytest.approx(0)


def test_position_bias_of_a_predictor_that_always_says_a():
    assert measures.position_bias_of(np.array([1.0, 0, 0, 0])) == pytest.approx(0.75)
    assert measures.position_bias_of(np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]).mean(axis=0)) == pytest.approx(0.5)


def crossed(seed: int, people: int = 40, lists: int = 60, size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Users, some far busier than others, and groups of `size` different users each: `(lists × size,)` both."""
    rng = np.random.default_rng(seed)
    busy = rng.exponential(size=people) + 0.02
    users = [rng.choice(people, size=size, replace=False, p=busy / busy.sum()) for _ in range(lists)]
    return np.concatenate(users), np.repeat(np.arange(lists), size)


def test_the_variance_is_that_of_users_and_groups_less_what_both_count():
    users, groups = crossed(0)
    values = np.random.default_rng(1).normal(size=len(users)) + users / 10 + groups % 3
    got = measures.interval(values, users, groups=groups)
    mean, people = values.mean(), np.unique(users)
    left_out = [values[users != user].mean() for user in people]
    by_user = (len(people) - 1) / len(people) * sum((one - mean) ** 2 for one in left_out)
    shares = (values - mean) / len(values)
    shared = sum(shares[i] * shares[j] for i in range(len(users)) for j in range(len(users)) if groups[i] == groups[j])
    sizes = np.bincount(users)
    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    half = stats.t.ppf(0.975, freedom) * math.sqrt(by_user + shared - (shares**2).sum())
    assert (got["value"], got["low"], got["high"]) == pytest.approx((mean, mean - half, mean + half))
    alone = measures.interval(values, users)
    assert alone["high"] == pytest.approx(mean + stats.t.ppf(0.975, freedom) * math.sqrt(by_user))


def test_domains_are_averaged_or_pooled():
    rng = np.random.default_rng(2)
    users, domains = rng.integers(0, 30, 400).astype(str), rng.integers(0, 2, 400)
    values = rng.normal(size=400) + domains
    scoped = measures.scoped_intervals(values[:, None], {"mean": measures.column(0)}, users, domains)
    alone = [measures.interval(values[domains == d], users[domains == d]) for d in (0, 1)]
    assert scoped["domains"] == {str(d): {"mean": alone[d]} for d in (0, 1)}
    macro, pooled = scoped["macro"]["mean"], scoped["pooled"]["mean"]
    assert macro["value"] == pytest.approx(np.mean([one["value"] for one in alone]))
    assert pooled["value"] == pytest.approx(values.mean()) and pooled["n"] == macro["n"] == 400
    widths = [one["high"] - one["low"] for one in alone]
    assert macro["high"] - macro["low"] == pytest.approx(math.hypot(*widths) / 2, rel=0.05)  # more degrees of freedom
    assert measures.interval(values, users, domains, pooled=True) == pooled


def test_users_with_the_same_name_in_two_domains_are_two_people():
    users, domains = np.tile(np.arange(25), 2), np.repeat(["a", "b"], 25)
    values = np.tile(np.random.default_rng(0).normal(size=25), 2)
    alone = measures.interval(values[:25], users[:25])
    both = measures.interval(values, users, domains, pooled=True)
    assert (both["high"] - both["low"]) / (alone["high"] - alone["low"]) == pytest.approx(0.7, abs=0.02)


def test_what_no_group_can_change_has_no_error():
    users, groups = crossed(3, size=5)
    hits = np.concatenate([np.random.default_rng(g).permutation([1.0, 0, 0, 0, 0]) for g in range(60)])
    got = measures.interval(hits, users, groups=groups)
    assert got["low"] == pytest.approx(0.2) and got["high"] == pytest.approx(0.2)
    assert measures.interval(hits, users)["high"] > 0.22


def test_a_statistic_that_is_not_a_mean_is_linearised_and_keeps_its_bound():
    users, _ = crossed(4)
    gaps = np.random.default_rng(5).normal(loc=[0.4, -0.3], size=(len(users), 2))
    error = measures.Statistic(measures.ece_of, least=0.0)
    signed = measures.interval(gaps[:, 0] - gaps[:, 1], users)
    got = measures.interval(gaps, users, statistic=error)
    assert (got["value"], got["low"], got["high"]) == pytest.approx((signed["value"], signed["low"], signed["high"]))
    assert measures.interval(gaps - gaps.mean(axis=0), users, statistic=error)["low"] == 0


def test_there_is_no_interval_from_fewer_than_twenty_users():
    values, users = np.arange(100.0), np.arange(100) % 19
    few = measures.interval(values, users)
    assert few == {"value": pytest.approx(49.5), "low": None, "high": None, "n": 100}
    assert measures.interval(values, np.arange(100) % 20)["low"] is not None
    domains = np.repeat(["many", "few"], [81, 19])
    scoped = measures.scoped_intervals(values[:, None], {"": measures.column(0)}, np.arange(100), domains)
    known = {name: scope[""]["low"] is not None for name, scope in scoped["domains"].items()}
    assert known == {"many": True, "few": False}
    assert scoped["macro"][""]["low"] is None and scoped["pooled"][""]["low"] is not None


def test_intervals_cover_the_truth_when_scenes_of_a_user_resemble_each_other_and_lists_are_shared():
    covered = level = 0
    for seed in range(300):
        users, groups = crossed(seed, people=50, lists=120, size=5)
        rng = np.random.default_rng([1, seed])
        values, other = (
            rng.normal(size=50)[users] + rng.normal(size=120)[groups] / 2 + rng.normal(size=600) for _ in range(2)
        )
        estimate, difference = (measures.interval(v, users, groups=groups) for v in (values, values - other))
        covered += estimate["low"] <= 0 <= estimate["high"]
        level += not difference["low"] <= 0 <= difference["high"]
    assert 0.92 <= covered / 300 <= 0.98 and 0.02 <= level / 300 <= 0.08


@given(scenes(min_rows=3))
def test_paired_interval_is_the_interval_of_the_differences(drawn):
    probs, choice = drawn
    matrix, _ = measures.padded(probs)
    a, b = (np.tile(f(matrix, choice), 20) for f in (measures.choice_probability, measures.argmax_hit))
    users, groups = np.arange(len(a)), np.arange(len(a)) // 2
    difference = measures.paired_interval(a, b, users, groups=groups)
    assert difference == measures.interval(a - b, users, groups=groups)
    assert measures.paired_interval(a, a, users)["high"] == 0
    one_domain = measures.pooled_intervals((a - b)[:, None], {"": measures.column(0)}, users, groups)
    assert one_domain[""] == difference
