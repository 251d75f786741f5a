"""Measures of predictions and their error bars: one definition for every room.

Lists of options differ in length, so predictions are a zero-padded matrix `probs` of shape `(scenes, options)`, with
`counts` of shape `(scenes,)`, the number of real options, and `choice` of shape `(scenes,)`, the 0-based option really
chosen. Several decision processes of one scene are several rows, `(rows, options)`, with `group` of shape `(rows,)`
giving each row's scene as an index 0…groups−1.

An arg-max can be shared: options within `TIE` of the highest probability split the hit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import numpy as np


TIE = 1e-12
"""Probabilities closer than this are equal: the mean of ten times 0.2 is not exactly 0.2."""

FLOOR = 1e-10
"""Lowest probability in a log loss (as published); a scene costs at most 33.2 bits."""

TEMPERATURES = (0.02, 50.0)
"""Range of fitted temperatures; a predictor that knows nothing gets the upper end."""


class Estimate(TypedDict):
    """A value, its 95 % interval and the number of scenes behind it."""

    value: float
    low: float
    high: float
    n: int


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


def disagreement(probs: np.ndarray, group: np.ndarray) -> np.ndarray:
    """entropy_total − entropy_expected of each scene, `(groups,)`, never negative. The paper calls it aleatoric."""
    return np.maximum(entropy_total(probs, group) - entropy_expected(probs, group), 0.0)


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


def position_bias_of(means: np.ndarray) -> np.ndarray:
    """Total variation from uniform of mean predictions `(…, options)` without padding, to `(…)`; 0…1 − 1/n."""
    return np.abs(means - 1 / means.shape[-1]).sum(axis=-1) / 2


def position_bias(probs: np.ndarray, counts: np.ndarray) -> dict[int, float]:
    """For every list length, how far the mean predicted position is from uniform."""
    return {int(n): float(position_bias_of(probs[counts == n, :n].mean(axis=0))) for n in np.unique(counts) if n > 0}


# --- temperature ---


def apply_temperature(probs: np.ndarray, counts: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), renormalised over the real options of each row; p is at least `FLOOR`."""
    real = np.arange(probs.shape[1]) < counts[:, None]
    logits = np.where(real, np.log(np.maximum(probs, FLOOR)) / temperature, -np.inf)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probs: np.ndarray, choice: np.ndarray, counts: np.ndarray) -> float:
    """The temperature with the lowest log loss over these scenes, within `TEMPERATURES`.

    The loss is convex in 1/T, so bisection finds the zero of its slope, the mean of E_T[log p] − log p(choice).
    """
    logs = np.log(np.maximum(probs, FLOOR))
    chosen = choice_probability(logs, choice)

    def slope(inverse: float) -> float:
        return float(((apply_temperature(probs, counts, 1 / inverse) * logs).sum(axis=1) - chosen).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low) >= 0:
        return TEMPERATURES[1]
    if slope(high) <= 0:
        return TEMPERATURES[0]
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / (low * high) ** 0.5


# --- error bars: users resampled within domain ---


def resample(
    values: np.ndarray, users: np.ndarray, domains: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap sums over scenes: `(domains, draws, columns)`, and the number of scenes drawn, `(domains, draws)`.

    `values` is `(scenes, columns)`, `users` and `domains` are labels `(scenes,)`. In each domain a draw takes as many
    users as there are, with replacement, and all scenes of each. The same users, domains and seed give the same draws,
    so comparisons are paired.
    """
    names = np.unique(domains)
    sums, scenes = np.empty((len(names), draws, values.shape[1])), np.empty((len(names), draws))
    for d, name in enumerate(names):
        inside = domains == name
        _, user = np.unique(users[inside], return_inverse=True)
        per_user = np.zeros((user.max() + 1, values.shape[1] + 1))
        np.add.at(per_user, user, np.column_stack([values[inside], np.ones(inside.sum())]))
        rng = np.random.default_rng([seed, len(per_user)])
        block = max(1, 4_000_000 // len(per_user))  # bounds the memory of the weights, draws × users
        for start in range(0, draws, block):
            size = min(block, draws - start)
            drawn = rng.integers(len(per_user), size=(size, len(per_user)))
            drawn += np.arange(size)[:, None] * len(per_user)
            weights = np.bincount(drawn.ravel(), minlength=size * len(per_user)).reshape(size, -1)
            total = weights @ per_user
            sums[d, start : start + size], scenes[d, start : start + size] = total[:, :-1], total[:, -1]
    return sums, scenes


Statistic = Callable[[np.ndarray], np.ndarray]
"""Maps means of columns `(…, columns)` to `(…)`."""


class Scoped(TypedDict):
    """Estimates by statistic: mean over domains, all scenes together, and each domain."""

    macro: dict[str, Estimate]
    pooled: dict[str, Estimate]
    domains: dict[str, dict[str, Estimate]]


def column(index: int) -> Statistic:
    """The mean of one column."""
    return lambda means: means[..., index]


def scoped_intervals(
    columns: np.ndarray,
    statistics: Mapping[str, Statistic],
    users: np.ndarray,
    domains: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
) -> Scoped:
    """Statistics of means over scenes with 95 % percentile intervals, users resampled within domain.

    `columns` is `(scenes, columns)`. Statistics that are sums of absolute values (ECE, position bias) are biased
    upwards in a bootstrap: near 0 the interval can lie above the value.
    """
    names = np.unique(domains)
    sums, scenes = resample(columns, users, domains, draws, seed)
    means, drawn = np.stack([columns[domains == name].mean(axis=0) for name in names]), sums / scenes[..., None]
    sizes = [int((domains == name).sum()) for name in names]
    total, drawn_total = columns.mean(axis=0), sums.sum(axis=0) / scenes.sum(axis=0)[:, None]
    return {
        "macro": {key: _estimate(f(means).mean(), f(drawn).mean(axis=0), len(users)) for key, f in statistics.items()},
        "pooled": {key: _estimate(f(total), f(drawn_total), len(users)) for key, f in statistics.items()},
        "domains": {
            str(name): {key: _estimate(f(means[d]), f(drawn[d]), sizes[d]) for key, f in statistics.items()}
            for d, name in enumerate(names)
        },
    }


def interval(
    values: np.ndarray,
    users: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    domains: np.ndarray | None = None,
    pooled: bool = False,
    statistic: Statistic | None = None,
) -> Estimate:
    """The mean of `values` `(scenes,)`, or a statistic of `(scenes, columns)`, with its interval.

    With several domains it is the mean of the domains' values or, if `pooled`, that of all scenes together.
    """
    columns = values[:, None] if values.ndim == 1 else values
    labels = np.zeros(len(users), dtype=np.int64) if domains is None else domains
    scoped = scoped_intervals(columns, {"": statistic or column(0)}, users, labels, draws, seed)
    return (scoped["pooled"] if pooled else scoped["macro"])[""]


def _estimate(value: np.ndarray, drawn: np.ndarray, scenes: int) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high), "n": scenes}


def paired_interval(
    a: np.ndarray,
    b: np.ndarray,
    users: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    domains: np.ndarray | None = None,
    pooled: bool = False,
) -> Estimate:
    """Mean of a − b over the same scenes, `(scenes,)` each, with its interval; users resampled within domain."""
    return interval(np.asarray(a) - np.asarray(b), users, draws, seed, domains, pooled)
