"""What tells chosen from rejected without reading either: four one-feature rules, and the balance of letters.

If chosen texts are longer, more often lettered A, or more often by the strong model, a trained model learns that
instead of the user. Each rule sees one feature of both sides and is tested on the half of the users that it was not
fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.measures import Estimate, column, scoped_intervals


WARN_ABOVE = 0.60
"""A rule that tells chosen from rejected more often than this is a warning."""

PRIOR = 2.0
"""Pseudo-observations at one half for each category."""

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(chosen, rejected, a, b) → how much `a` is preferred to `b`, given known pairs of (chosen, rejected)."""


def rule_accuracies(
    numbers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    categories: Mapping[str, tuple[np.ndarray, np.ndarray]],
    users: np.ndarray,
) -> dict[str, Estimate]:
    """How often each rule names the chosen side, with its interval, users resampled; a tie is half a hit.

    `numbers` and `categories` map a rule's name to its feature on the (chosen, rejected) side, `(pairs,)` each;
    categories are codes from 0. `users` is `(pairs,)`.
    """
    _, person = np.unique(users, return_inverse=True)
    half = np.random.default_rng(0).permutation(person.max(initial=0) + 1)[person] % 2
    hits = {name: _cross_fitted(sides, half, _more_or_less) for name, sides in numbers.items()}
    hits |= {name: _cross_fitted(sides, half, _by_category) for name, sides in categories.items()}
    matrix = np.column_stack(list(hits.values()))
    statistics = {name: column(i) for i, name in enumerate(hits)}
    return scoped_intervals(matrix, statistics, users, np.zeros(len(users)))["pooled"]


def letter_positions(pairs: pl.DataFrame, eligible: pl.DataFrame) -> dict[str, Any]:
    """For every number of options: letters of chosen and rejected, and their total variation from uniform.

    `eligible` has a row for every scene that gives a pair: the letters of the chosen without balancing.
    """
    positions = {}
    for n in sorted(set(pairs["choice_cnt"])):
        here, there = (rows.filter(pl.col("choice_cnt") == n) for rows in (pairs, eligible))
        sides = here["item_pos"], here["label"], there["item_pos"]
        letters = [np.bincount(side.to_numpy(), minlength=n) for side in sides]
        shares = [side / side.sum() for side in letters]
        positions[str(n)] = {
            "chosen": letters[0].tolist(),
            "rejected": letters[1].tolist(),
            "chosen_from_uniform": float(np.abs(shares[0] - 1 / n).sum() / 2),
            "rejected_from_uniform": float(np.abs(shares[1] - 1 / n).sum() / 2),
            "chosen_from_rejected": float(np.abs(shares[0] - shares[1]).sum() / 2),
            "available_from_uniform": float(np.abs(shares[2] - 1 / n).sum() / 2),
        }
    return positions


def _cross_fitted(sides: tuple[np.ndarray, np.ndarray], half: np.ndarray, rule: Rule) -> np.ndarray:
    """Hits `(pairs,)` of a rule fitted on the other half of the users; 0.5 if there is no other half."""
    hits = np.full(len(half), 0.5)
    for fold in (0, 1):
        inside, outside = half == fold, half != fold
        if inside.any() and outside.any():
            chosen, rejected = (side[outside] for side in sides)
            preference = rule(chosen, rejected, sides[0][inside], sides[1][inside])
            hits[inside] = 0.5 + 0.5 * np.sign(preference)
    return hits


def _more_or_less(chosen: np.ndarray, rejected: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Prefers the larger number, or the smaller, whichever was chosen more often."""
    return np.sign(chosen - rejected).sum() * np.sign(a - b)


def _by_category(chosen: np.ndarray, rejected: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Prefers the category that was more often on the chosen side, relative to both sides."""
    most = max(int(side.max(initial=0)) for side in (chosen, rejected, a, b)) + 1
    up, down = np.bincount(chosen, minlength=most), np.bincount(rejected, minlength=most)
    share = (up + PRIOR / 2) / (up + down + PRIOR)
    return share[a] - share[b]
