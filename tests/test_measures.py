"""Every measure against its most direct computation, on scenes of different lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
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
