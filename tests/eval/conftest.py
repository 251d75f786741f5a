from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from handmade import frame, scene


@pytest.fixture
def scenes() -> pl.DataFrame:
    """120 scenes of 20 users in two domains of unequal size, five options, uniform positions."""
    rng = np.random.default_rng(0)
    return frame(
        [scene(str(i % 20), str(i), int(rng.integers(5)), dataset="shop" if i % 3 else "books") for i in range(120)]
    )
