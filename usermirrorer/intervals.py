"""Error bars of means and of what is computed from them: users and groups as crossed clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np


FEWEST_USERS = 20
"""An interval from fewer users than this would promise more than it can hold, so there is none."""


class Estimate(TypedDict):
    """A value, its 95 % interval (None from fewer than `FEWEST_USERS` users) and the number of scenes behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


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
    if total > 0:  # Satterthwaite's degrees of freedom for a sum, in shares of it: tiny squares would vanish
        freedom = 1 / ((variances / total) ** 2 / [max(part.freedom, 1.0) for part in parts]).sum()
        half = float(stdtrit(freedom, 0.975) * total**0.5)
    return {"value": value, "low": max(value - half, statistic.least), "high": value + half, "n": scenes}
