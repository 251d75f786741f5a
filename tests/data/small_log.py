"""A generated log in the raw format of MovieLens 100K, small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_small_log(raw: Path, users: int = 120, items: int = 80, seed: int = 0) -> None:
    """Write u.data, u.item and u.user: users rate one to three films at a time, and no film twice."""
    rng = np.random.default_rng(seed)
    flags = "|".join(["0", "1"] + ["0"] * 17)
    dates = ["" if item % 20 == 0 else f"01-Jan-{1980 + item % 20}" for item in range(items)]
    dates[5] = "09-Sep-2001"  # released in the middle of the log
    lines = [f"{item}|Film {item} (Cité)|{dates[item]}||http://x|{flags}" for item in range(items)]
    (raw / "u.item").write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
    (raw / "u.user").write_text("".join(f"{u}|{18 + u % 50}|{'MF'[u % 2]}|writer|94703\n" for u in range(users)))
    law = 1 / np.arange(1, items + 1)
    ratings = []
    for user in range(users):
        seen = rng.choice(items, size=40, replace=False, p=law / law.sum())
        time = 1_000_000_000 + int(rng.integers(0, 200)) * 86_400
        while len(seen):
            together = int(rng.integers(1, 4))
            ratings += [(user, item, int(rng.integers(1, 6)), time) for item in seen[:together]]
            seen, time = seen[together:], time + int(rng.integers(3_600, 5 * 86_400))
    (raw / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
