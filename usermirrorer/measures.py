"""Measures of predictions and their error bars: one definition for every room.

Lists of options differ in length, so predictions are a zero-padded matrix `probs` of shape `(scenes, options)`, with
`counts` of shape `(scenes,)`, the number of real options, and `choice` of shape `(scenes,)`, the 0-based option really
chosen. Several decision processes of one scene are several rows, `(rows, options)`, with `group` of shape `(rows,)`
giving each row's scene as an index 0…groups−1.

An arg-max can be shared: options within `TIE` of the highest probability split the hit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np


TIE = 1e-12
"""Probabilities closer than this are equal: the mean of ten times 0.2 is not exactly 0.2."""

FLOOR = 1e-10
"""Lowest probability in a log loss (as published); a scene costs at most 33.2 bits."""

FEWEST_USERS = 20
"""An interval from fewer users than this would promise more than it can hold, so there is none."""

NULL_DRAWS = 200
"""Draws of hits behind `expected_ece`; its standard error is a hundredth of its value or less."""


class Estimate(TypedDict):
    """A value, its 95 % interval (None from fewer than `FEWEST_USERS` users) and the number of scenes behind it."""

    value: float
    low: float | None
    high: float | None
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


# --- error bars: users and groups as crossed clusters ---


@dataclass(frozen=True)
class Statistic:
    """A function of means of columns, `(…, columns)` to `(…)`, and the least value it can take."""

    of: Callable[[np.ndarray], np.ndarray]
    least: float = -np.inf


class Scoped(TypedDict):
    """Estimates by statistic: mean over domains, all scenes together, and each domain."""

    macro: dict[str, Estimate]
    pooled: dict[str, Estimate]
    domains: dict[str, dict[str, Estimate]]


def column(index: int) -> Statistic:
    """The mean of one column."""
    return Statistic(lambda means: means[..., index])


def scoped_intervals(
    columns: np.ndarray,
    statistics: Mapping[str, Statistic],
    users: np.ndarray,
    domains: np.ndarray,
    groups: np.ndarray | None = None,
) -> Scoped:
    """Statistics of means over scenes with 95 % intervals that allow for users and shared lists.

    `columns` is `(scenes, columns)`; `users`, `domains` and `groups` are labels `(scenes,)`. Users of two domains are
    different people. Scenes with the same group show the same list; a scene without a group has a label of its own.

    The variance is V_user + V_group − V_scene (Cameron, Gelbach and Miller, 2011), with V_user by the jackknife; a
    statistic that is not a mean is linearised. V_group < V_scene, which people who compete for the items of a list
    bring about, is not counted on, with one exception: a total that is the same in every group, as that of the hits
    of a predictor blind to the user, has no error. So the variance is at most the sum over groups of total² × scenes
    of the group's busiest user. The quantile is Student's with (Σ n_u)² / Σ n_u² − 1 degrees of freedom, n_u being the
    scenes of a user (Carter, Schnepel and Steigerwald, 2017). `benchmarks/intervals.py` measures the coverage.
    """
    names, domain = np.unique(domains, return_inverse=True)
    own = np.arange(len(users)) if groups is None else np.unique(groups, return_inverse=True)[1]
    person = np.unique(np.unique(users, return_inverse=True)[1] * len(names) + domain, return_inverse=True)[1]
    masks = [domain == d for d in range(len(names))]
    parts = [_Part(columns[inside], person[inside], own[inside]) for inside in masks]
    alone = {str(name): _estimates([part], statistics) for name, part in zip(names, parts, strict=True)}
    if len(parts) == 1:
        [only] = alone.values()
        return {"macro": {**only}, "pooled": {**only}, "domains": alone}
    pooled = _estimates([_Part(columns, person, own)], statistics)
    return {"macro": _estimates(parts, statistics), "pooled": pooled, "domains": alone}


def pooled_intervals(
    columns: np.ndarray, statistics: Mapping[str, Statistic], users: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Estimate]:
    """`scoped_intervals` of the scenes of one domain."""
    return scoped_intervals(columns, statistics, users, np.zeros(len(users), dtype=np.int64), groups)["pooled"]


def interval(
    values: np.ndarray,
    users: np.ndarray,
    domains: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    pooled: bool = False,
    statistic: Statistic | None = None,
) -> Estimate:
    """The mean of `values` `(scenes,)`, or a statistic of `(scenes, columns)`, with its interval.

    With several domains it is the mean of the domains' values or, if `pooled`, that of all scenes together.
    """
    columns = values[:, None] if values.ndim == 1 else values
    labels = np.zeros(len(users), dtype=np.int64) if domains is None else domains
    scoped = scoped_intervals(columns, {"": statistic or column(0)}, users, labels, groups)
    return (scoped["pooled"] if pooled else scoped["macro"])[""]


def paired_interval(
    a: np.ndarray,
    b: np.ndarray,
    users: np.ndarray,
    domains: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    pooled: bool = False,
) -> Estimate:
    """Mean of a − b over the same scenes, `(scenes,)` each, with its interval."""
    return interval(np.asarray(a) - np.asarray(b), users, domains, groups, pooled)


class _Part:
    """The scenes of one domain: means, and what the variance of any statistic of them needs."""

    def __init__(self, columns: np.ndarray, users: np.ndarray, groups: np.ndarray) -> None:
        self.means, self.scenes = columns.mean(axis=0, dtype=np.float64), len(columns)
        self._columns, self._users, self._groups = columns, _Clusters(users), _Clusters(groups)
        self.users = len(self._users.sizes)
        self.freedom = self.scenes**2 / (self._users.sizes**2).sum() - 1

    def variance(self, statistic: Statistic) -> float:
        """Of the statistic of these means."""
        scenes, users, groups = self.scenes, self._users, self._groups
        influence = (self._columns - self.means) @ _gradient(statistic, self.means) / scenes
        left_out = users.sums(influence) * scenes / (scenes - users.sizes)
        variance = (left_out**2).sum() * (1 - 1 / self.users)
        if len(groups.sizes) < scenes:
            totals = groups.sums(influence) ** 2
            variance += max(totals.sum() - (influence**2).sum(), 0.0)
            busiest = groups.most(users.sizes[users.index])
            variance = min(variance, (totals * busiest).sum() / (1 - 1 / self.users))
        return float(variance)


class _Clusters:
    """Scenes sorted by a label, so that sums and maxima by cluster are fast."""

    def __init__(self, labels: np.ndarray) -> None:
        _, self.index, self.sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self._order = np.argsort(self.index, kind="stable")
        self._start = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def sums(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[self._order], self._start)

    def most(self, values: np.ndarray) -> np.ndarray:
        return np.maximum.reduceat(values[self._order], self._start)


def _gradient(statistic: Statistic, means: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences: exact for means, and 0 for an absolute value at 0."""
    steps = np.eye(len(means)) * step
    return (statistic.of(means + steps) - statistic.of(means - steps)) / (2 * step)


def _estimates(parts: Sequence[_Part], statistics: Mapping[str, Statistic]) -> dict[str, Estimate]:
    return {key: _estimate(parts, statistic) for key, statistic in statistics.items()}


def _estimate(parts: Sequence[_Part], statistic: Statistic) -> Estimate:
    """The mean of a statistic over these parts, which share no users."""
    from scipy.special import stdtrit

    value = float(np.mean([statistic.of(part.means) for part in parts]))
    scenes = sum(part.scenes for part in parts)
    if min(part.users for part in parts) < FEWEST_USERS:
        return {"value": value, "low": None, "high": None, "n": scenes}
    variances = np.array([part.variance(statistic) for part in parts]) / len(parts) ** 2
    total = variances.sum()
    half = 0.0
    if total > 0:  # Satterthwaite's degrees of freedom for a sum
        freedom = total**2 / (variances**2 / [max(part.freedom, 1.0) for part in parts]).sum()
        half = float(stdtrit(freedom, 0.975) * total**0.5)
    return {"value": value, "low": max(value - half, statistic.least), "high": value + half, "n": scenes}
