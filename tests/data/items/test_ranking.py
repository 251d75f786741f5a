"""The top of ranked lists against a plain sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.items.ranking import highest


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 45), st.sampled_from([2, 5, 1000]))
def test_the_top_is_that_of_a_full_sort(seed: int, items: int, depth: int, levels: int) -> None:
    """With few levels nearly everything is tied; some items are excluded, in some rows all of them."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels // 2, levels, size=(6, items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[0] = -np.inf
    for row, found in zip(scores.tolist(), highest(scores, depth).tolist(), strict=True):
        order = sorted((item for item in range(items) if np.isfinite(row[item])), key=lambda item: (-row[item], item))
        expected = order[:depth]
        assert found == expected + [-1] * (depth - len(expected))
