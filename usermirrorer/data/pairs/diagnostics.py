"""What tells chosen from rejected without knowing the user: rules of one kind of feature each, and letters' balance.

If chosen texts are longer, more often lettered A, more often by the strong model, of other items or in other words, a
trained model learns that instead of the user. Each rule sees one thing about both sides and is tested on the half that
it was not fitted on.

Pairs of scenes that show the same list (a group) are in one half. Each of a group's items is chosen once and otherwise
only rejected, so a rule that knew some of the group's pairs would be misled about the others: it would find less than
there is. Pairs without a group are divided by user. A rule below one half finds nothing either: what is balanced as a
whole is opposite in its halves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.intervals import Estimate, column, interval, pooled_intervals
from usermirrorer.seeds import halves


WARN_ABOVE = 0.60
"""A rule that tells chosen from rejected more often than this is a warning."""

PRIOR = 2.0
"""Pseudo-observations at one half for each category."""

WORD_PAIRS = 2048
"""Pairs whose texts are read, drawn by seed: enough for an interval of ± 0.02, in 2 s if texts have 500 words."""

RARE = 5
"""A word in fewer texts is left out."""

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(chosen, rejected, a, b) → how much `a` is preferred to `b`, given known pairs of (chosen, rejected)."""


def rule_accuracies(
    numbers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    categories: Mapping[str, tuple[np.ndarray, np.ndarray]],
    users: np.ndarray,
    together: np.ndarray,
) -> dict[str, Estimate]:
    """How often each rule names the chosen side, with its interval; a tie is half a hit.

    `numbers` and `categories` map a rule's name to its feature on the (chosen, rejected) side, `(pairs,)` each;
    categories are codes from 0. `users` and `together` are `(pairs,)`; pairs with the same value of `together` are in
    one half.
    """
    half = halves(together)
    hits = {name: _cross_fitted(sides, half, _more_or_less) for name, sides in numbers.items()}
    hits |= {name: _cross_fitted(sides, half, _by_category) for name, sides in categories.items()}
    matrix = np.column_stack(list(hits.values()))
    statistics = {name: column(i) for i, name in enumerate(hits)}
    return pooled_intervals(matrix, statistics, users)


def word_accuracy(chosen: pl.Series, rejected: pl.Series, users: np.ndarray, together: np.ndarray) -> Estimate:
    """How often logistic regression on the words of two texts names the chosen one, with its interval.

    The texts are `(pairs,)`; `users` and `together` as in `rule_accuracies`. A word counts as often as it occurs. At
    most `WORD_PAIRS` pairs are read.
    """
    drawn = np.sort(np.random.default_rng(0).permutation(len(chosen))[:WORD_PAIRS])
    half, known = halves(together[drawn]), _words(chosen[drawn], rejected[drawn])
    hits = np.full(len(drawn), 0.5)
    for fold in (0, 1):
        inside, outside = half == fold, half != fold
        if inside.any() and outside.any() and known.shape[1]:
            hits[inside] = 0.5 + 0.5 * np.sign(known[inside] @ _word_weights(known[outside]))
    return interval(hits, users[drawn])


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


def _words(chosen: pl.Series, rejected: pl.Series) -> Any:
    """How much more often each word is in the chosen text than in the rejected: sparse `(pairs, words)`."""
    from scipy.sparse import csr_array

    pairs = len(chosen)
    texts = pl.DataFrame({"text": chosen.append(rejected)}).with_row_index("row")
    words = texts.select("row", word=pl.col("text").str.to_lowercase().str.extract_all(r"\w+"))
    words = words.explode("word", empty_as_null=False).group_by("row", "word").agg(times=pl.len())
    common = words.group_by("word").len().filter(pl.col("len") >= RARE).select(pl.col("word").sort())
    found = words.join(common.with_row_index("code"), on="word").sort("row", "code")
    row, code = found["row"].cast(pl.Int64).to_numpy(), found["code"].cast(pl.Int64).to_numpy()
    signed = np.where(row < pairs, 1.0, -1.0) * found["times"].to_numpy()
    return csr_array((signed, (row % pairs, code)), shape=(pairs, len(common)))


def _word_weights(differences: Any) -> np.ndarray:
    """Weights `(words,)` under which the chosen texts of these pairs, `(pairs, words)`, outweigh the rejected."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    both_ways = vstack([differences, -differences])
    first = np.repeat([True, False], differences.shape[0])
    return LogisticRegression(fit_intercept=False, max_iter=100).fit(both_ways, first).coef_[0]


def _more_or_less(chosen: np.ndarray, rejected: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Prefers the larger number, or the smaller, whichever was chosen more often."""
    return np.sign(chosen - rejected).sum() * np.sign(a - b)


def _by_category(chosen: np.ndarray, rejected: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Prefers the category that was more often on the chosen side, relative to both sides."""
    most = max(int(side.max(initial=0)) for side in (chosen, rejected, a, b)) + 1
    up, down = np.bincount(chosen, minlength=most), np.bincount(rejected, minlength=most)
    share = (up + PRIOR / 2) / (up + down + PRIOR)
    return share[a] - share[b]
