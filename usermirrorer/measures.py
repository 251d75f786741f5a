"""Measures of predictions: one definition for every room. `intervals` adds the error bars.

Lists of options differ in length, so predictions are a zero-padded matrix `probs` of shape `(scenes, options)`, with
`counts` of shape `(scenes,)`, the number of real options, and `choice` of shape `(scenes,)`, the 0-based option really
chosen. Several decision processes of one scene are several rows, `(rows, options)`, with `group` of shape `(rows,)`
giving each row's scene as an index 0…groups−1.

An arg-max can be shared: options within `TIE` of the highest probability split the hit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


TIE = 1e-12
"""Probabilities closer than this are equal: the mean of ten times 0.2 is not exactly 0.2."""

FLOOR = 1e-10
"""Lowest probability in a log loss (as published); a scene costs at most 33.2 bits."""

NULL_DRAWS = 200
"""Draws of hits behind `expected_ece`; its standard error is a hundredth of its value or less."""


def padded(probs: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Ragged probabilities as `(rows, options)` padded with zeros, and the lengths `(rows,)`."""
    counts = np.array([len(row) for row in probs], dtype=np.int64)
    matrix = np.zeros((len(counts), counts.max(initial=0)))
    if matrix.size:
        matrix[np.arange(matrix.shape[1]) < counts[:, None]] = np.concatenate([np.asarray(row) for row in probs])
    return matrix, counts


def mean_by(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Means of `values`, `(rows,)` or `(rows, columns)`, by group; every group has at least one row."""
    sums = np.zeros((group.max(initial=-1) + 1, *values.shape[1:]))
    np.add.at(sums, group, values)
    sizes = np.bincount(group)
    return sums / sizes.reshape(-1, *[1] * (values.ndim - 1))


# --- uncertainty: bits ---


def entropy(probs: np.ndarray) -> np.ndarray:
    """Entropy of each row of `(rows, options)` in bits, `(rows,)`; padding adds nothing."""
    logs = np.log2(probs, out=np.zeros_like(probs), where=probs > 0)
    return np.abs(-(probs * logs).sum(axis=-1))  # a certain row would give -0.0


def entropy_expected(probs: np.ndarray, group: np.ndarray) -> np.ndarray:
    """mean_j H(p_j) of each scene, `(groups,)`. The paper calls it epistemic."""
    return mean_by(entropy(probs), group)


def entropy_total(probs: np.ndarray, group: np.ndarray) -> np.ndarray:
    """H of the mean prediction of each scene, `(groups,)`."""
    return entropy(mean_by(probs, group))


def normalised(bits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Bits as a share of the maximum for `counts` options, log2 n; 0 for a single option."""
    most = np.log2(counts)
    return np.divide(bits, most, out=np.zeros(len(bits)), where=most > 0)


# --- one value per scene ---


def choice_probability(probs: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """p(choice) of each row: the expected hit of one sampled answer. Its mean is the accuracy."""
    return probs[np.arange(len(probs)), choice]


def argmax_hit(probs: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """1 if the most probable option is the choice, 1/k if it is one of k equally probable ones, else 0."""
    top = probs >= probs.max(axis=1, keepdims=True) - TIE
    return top[np.arange(len(probs)), choice] / top.sum(axis=1)


def information_gain(probs: np.ndarray, choice: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """log2 n + log2 p(choice) in bits: the gain over a uniform guess; p is at least `FLOOR`."""
    return np.log2(counts) + np.log2(np.maximum(choice_probability(probs, choice), FLOOR))


def reciprocal_rank(probs: np.ndarray, choice: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1 / rank of the choice; equally probable options share the mean of their ranks."""
    own = choice_probability(probs, choice)[:, None]
    real = np.arange(probs.shape[1]) < counts[:, None]
    above = (real & (probs > own + TIE)).sum(axis=1)
    equal = (real & (np.abs(probs - own) <= TIE)).sum(axis=1)
    return 1 / (above + (equal + 1) / 2)


def brier(probs: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Σ_i (p_i − y_i)² of each row, 0…2."""
    return (probs**2).sum(axis=1) - 2 * choice_probability(probs, choice) + 1


# --- calibration and position ---


def confidence_bins(probs: np.ndarray, bins: int = 15) -> np.ndarray:
    """Bin `(scenes,)` of each row by its highest probability, in bins of equal mass; equal values share a bin."""
    confidence = np.round(probs.max(axis=1), 12)
    edges = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.searchsorted(edges, confidence, side="left")


def calibration_gaps(probs: np.ndarray, choice: np.ndarray, bins: int = 15) -> np.ndarray:
    """max p − hit of each row in the column of its bin, `(scenes, bins)`; `ece_of` turns its means into the error."""
    gaps = np.zeros((len(probs), bins))
    gaps[np.arange(len(probs)), confidence_bins(probs, bins)] = probs.max(axis=1) - argmax_hit(probs, choice)
    return gaps


def ece_of(means: np.ndarray) -> np.ndarray:
    """Expected calibration error from means of `calibration_gaps`, `(…, bins)` to `(…)`."""
    return np.abs(means).sum(axis=-1)


def ece(probs: np.ndarray, choice: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence − hits| over bins of equal mass of max p, weighted by mass."""
    return float(ece_of(calibration_gaps(probs, choice, bins).mean(axis=0)))


def expected_ece(probs: np.ndarray, bin_of: np.ndarray) -> float:
    """The `ece` that these predictions would show on average if they were perfectly calibrated: its null.

    The mean over `NULL_DRAWS` seeded draws of every hit from the row's own probabilities, independently. `bin_of`,
    `(scenes,)`, comes from `confidence_bins`.
    """
    confidence = probs.max(axis=1)
    tied = (probs >= confidence[:, None] - TIE).sum(axis=1)
    in_bin = np.zeros((len(probs), bin_of.max(initial=0) + 1))
    in_bin[np.arange(len(probs)), bin_of] = 1
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(NULL_DRAWS):
        hits = (rng.random(len(probs)) < tied * confidence) / tied
        errors.append(np.abs((confidence - hits) @ in_bin).sum() / len(probs))
    return float(np.mean(errors))


def position_bias_of(means: np.ndarray) -> np.ndarray:
    """Total variation from uniform of mean predictions `(…, options)` without padding, to `(…)`; 0…1 − 1/n."""
    return np.abs(means - 1 / means.shape[-1]).sum(axis=-1) / 2
