"""How much a choice counts by how long ago it was, counted in choices."""

from __future__ import annotations

import numpy as np

from usermirrorer.data.items.histories import NEVER


DECAY_BITS = 10
"""Weights are whole numbers of 2^-DECAY_BITS, so that their sums are exact."""

LATEST = 32
"""A decaying history ends after so many choices."""

HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Choices after which a weight has halved: what the recency-weighted models choose from."""


def decay(half_life: float | None) -> np.ndarray:
    """Weight by recency, int32 `(256,)`, in units of 2^-DECAY_BITS; 1 for every choice if there is no half-life."""
    weights = np.full(NEVER + 1, 2**DECAY_BITS, dtype=np.int32)
    if half_life is not None:
        halved = 0.5 ** (np.arange(NEVER + 1) / half_life)
        weights = np.round(halved * 2**DECAY_BITS).astype(np.int32)
        weights[LATEST:] = 0
    weights[NEVER] = 0
    return weights
