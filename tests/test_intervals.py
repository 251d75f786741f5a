"""Error bars: known cases, invariances, and coverage where people share lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from usermirrorer import intervals, measures


def crossed(seed: int, people: int = 40, lists: int = 60, size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Users, some far busier than others, and groups of `size` different users each: `(lists × size,)` both."""
    rng = np.random.default_rng(seed)
    busy = rng.exponential(size=people) + 0.02
    users = [rng.choice(people, size=size, replace=False, p=busy / busy.sum()) for _ in range(lists)]
    return np.concatenate(users), np.repeat(np.arange(lists), size)


def test_the_variance_is_that_of_users_and_groups_less_what_both_count():
    users, groups = crossed(0)
    values = np.random.default_rng(1).normal(size=len(users)) + users / 10 + groups % 3
    got = intervals.interval(values, users, groups=groups)
    mean, people = values.mean(), np.unique(users)
    left_out = [values[users != user].mean() for user in people]
    by_user = (len(people) - 1) / len(people) * sum((one - mean) ** 2 for one in left_out)
    shares = (values - mean) / len(values)
    shared = sum(shares[i] * shares[j] for i in range(len(users)) for j in range(len(users)) if groups[i] == groups[j])
    sizes = np.bincount(users)
    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    half = stats.t.ppf(0.975, freedom) * math.sqrt(by_user + shared - (shares**2).sum())
    assert (got["value"], got["low"], got["high"]) == pytest.approx((mean, mean - half, mean + half))
    alone = intervals.interval(values, users)
    assert alone["high"] == pytest.approx(mean + stats.t.ppf(0.975, freedom) * math.sqrt(by_user))


def test_domains_are_averaged_or_pooled():
    rng = np.random.default_rng(2)
    users, domains = rng.integers(0, 30, 400).astype(str), rng.integers(0, 2, 400)
    values = rng.normal(size=400) + domains
    scoped = intervals.scoped_intervals(values[:, None], {"mean": intervals.column(0)}, users, domains)
    alone = [intervals.interval(values[domains == d], users[domains == d]) for d in (0, 1)]
    assert scoped["domains"] == {str(d): {"mean": alone[d]} for d in (0, 1)}
    macro, pooled = scoped["macro"]["mean"], scoped["pooled"]["mean"]
    assert macro["value"] == pytest.approx(np.mean([one["value"] for one in alone]))
    assert pooled["value"] == pytest.approx(values.mean()) and pooled["n"] == macro["n"] == 400
    widths = [one["high"] - one["low"] for one in alone]
    assert macro["high"] - macro["low"] == pytest.approx(math.hypot(*widths) / 2, rel=0.05)  # more degrees of freedom
    assert intervals.interval(values, users, domains, pooled=True) == pooled


def test_users_with_the_same_name_in_two_domains_are_two_people():
    users, domains = np.tile(np.arange(25), 2), np.repeat(["a", "b"], 25)
    values = np.tile(np.random.default_rng(0).normal(size=25), 2)
    alone = intervals.interval(values[:25], users[:25])
    both = intervals.interval(values, users, domains, pooled=True)
    assert (both["high"] - both["low"]) / (alone["high"] - alone["low"]) == pytest.approx(0.7, abs=0.02)


def test_what_no_group_can_change_has_no_error():
    users, groups = crossed(3, size=5)
    hits = np.concatenate([np.random.default_rng(g).permutation([1.0, 0, 0, 0, 0]) for g in range(60)])
    got = intervals.interval(hits, users, groups=groups)
    assert got["low"] == pytest.approx(0.2) and got["high"] == pytest.approx(0.2)
    assert intervals.interval(hits, users)["high"] > 0.22


def test_a_statistic_that_is_not_a_mean_is_linearised_and_keeps_its_bound():
    users, _ = crossed(4)
    gaps = np.random.default_rng(5).normal(loc=[0.4, -0.3], size=(len(users), 2))
    error = intervals.Statistic(measures.ece_of, least=0.0)
    signed = intervals.interval(gaps[:, 0] - gaps[:, 1], users)
    got = intervals.interval(gaps, users, statistic=error)
    assert (got["value"], got["low"], got["high"]) == pytest.approx((signed["value"], signed["low"], signed["high"]))
    assert intervals.interval(gaps - gaps.mean(axis=0), users, statistic=error)["low"] == 0


def test_there_is_no_interval_from_fewer_than_twenty_users():
    values, users = np.arange(100.0), np.arange(100) % 19
    few = intervals.interval(values, users)
    assert few == {"value": pytest.approx(49.5), "low": None, "high": None, "n": 100}
    assert intervals.interval(values, np.arange(100) % 20)["low"] is not None
    domains = np.repeat(["many", "few"], [81, 19])
    scoped = intervals.scoped_intervals(values[:, None], {"": intervals.column(0)}, np.arange(100), domains)
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
        estimate, difference = (intervals.interval(v, users, groups=groups) for v in (values, values - other))
        covered += estimate["low"] <= 0 <= estimate["high"]
        level += not difference["low"] <= 0 <= difference["high"]
    assert 0.92 <= covered / 300 <= 0.98 and 0.02 <= level / 300 <= 0.08


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
@example([(0.0, 0.0), (0.0, 0.0), (0.0, 3.4863028175557514e-105)])
def test_paired_interval_is_the_interval_of_the_differences(values):
    a, b = np.tile(np.array(values), (20, 1)).T
    users, groups = np.arange(len(a)), np.arange(len(a)) // 2
    difference = intervals.paired_interval(a, b, users, groups=groups)
    assert difference == intervals.interval(a - b, users, groups=groups)
    assert intervals.paired_interval(a, a, users)["high"] == 0
    one_domain = intervals.pooled_intervals((a - b)[:, None], {"": intervals.column(0)}, users, groups)
    assert one_domain[""] == difference
