"""A made-up log for raw files: who chose what on which day, the same every time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st


USERS, ITEMS, EVENTS_PER_USER, DAYS = 40, 60, 15, 240


def events(seed: int = 0) -> Iterator[tuple[int, int, int]]:
    """600 events as (user, item, day from 0) in order of day; no user chooses an item twice or two on one day."""
    rng = np.random.default_rng(seed)
    law = 1 / np.arange(3, ITEMS + 3)
    rows = []
    for user in range(USERS):
        items = rng.choice(ITEMS, size=EVENTS_PER_USER, replace=False, p=law / law.sum())
        days = np.sort(rng.choice(DAYS, size=EVENTS_PER_USER, replace=False))
        rows += [(int(day), user, int(item)) for item, day in zip(items, days, strict=True)]
    for day, user, item in sorted(rows):
        yield user, item, day


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with up to 12 bytes replaced by up to 12 others, somewhere."""
    at = draw(st.integers(0, len(content)))
    removed, added = draw(st.integers(0, 12)), draw(st.binary(max_size=12))
    return content[:at] + added + content[at + removed :]
