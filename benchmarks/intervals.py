"""Do the intervals hold when people share lists? Simulated evaluations whose truth is known.

People with tastes of their own choose among items, some people up to 60 times and others once; every five choices of
different people and items make a group, whose members are all shown those five. Two predictors know each person's
taste equally well, but with errors of their own. Printed are the share of 95 % intervals that hold the truth, for each
measure, and how often the two predictors are found to differ, which should be 5 %.

The truth is the mean over all simulations.

    python benchmarks/intervals.py [--simulations 1000]
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator

import numpy as np
import scipy

from usermirrorer import __version__
from usermirrorer.intervals import column, pooled_intervals
from usermirrorer.measures import argmax_hit, choice_probability, information_gain


OPTIONS = 5
ITEMS = 300
DIMENSIONS = 6
MOST_SCENES = 60
SPREAD = 0.3
"""Standard deviation of the logarithm of how strong a person's taste is."""

PREDICTORS = {"skilled": (0.9, 0.1), "weak": (0.5, 0.3), "very weak": (0.3, 0.3), "blind to the user": (0.0, 0.5)}
"""Name -> correlation with each person's taste, and how much it favours popular items whoever looks."""

MEASURES = ("accuracy", "arg-max accuracy", "information gain")


def main(simulations: int) -> None:
    versions = f"NumPy {np.__version__}, SciPy {scipy.__version__}, usermirrorer {__version__}"
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}; {simulations} simulations each\n")
    print("| users | predictor | scenes | " + " | ".join(f"{m}: value, coverage, level" for m in MEASURES) + " |")
    print("|---|---|---|" + "---|" * len(MEASURES))
    for users in (50, 150):
        for name, (knowledge, prejudice) in PREDICTORS.items():
            print(f"| {users} | {name} | " + " | ".join(_measured(users, knowledge, prejudice, simulations)) + " |")
            sys.stdout.flush()


def _measured(users: int, knowledge: float, prejudice: float, simulations: int) -> Iterator[str]:
    """Cells of the table: mean number of scenes, then each measure."""
    bounds, levels, values, scenes = [], [], [], []
    for seed in range(simulations):
        person, group, choice, probs = _evaluation(np.random.default_rng([users, seed]), users, knowledge, prejudice)
        a, b = (_columns(one, choice) for one in probs)
        own, difference = _intervals(a, person, group), _intervals(a - b, person, group)
        values.append(a.mean(axis=0))
        bounds.append(own)
        levels.append((difference[0] > 1e-9) | (difference[1] < -1e-9))
        scenes.append(len(choice))
    truth = np.mean(values, axis=0)
    covered = [(low - 1e-9 <= truth) & (truth <= high + 1e-9) for low, high in bounds]
    yield f"{np.mean(scenes):.0f}"
    for value, coverage, level in zip(truth, np.mean(covered, axis=0), np.mean(levels, axis=0), strict=True):
        yield f"{value:.3f}, {coverage:.3f}, {level:.3f}"


def _columns(probs: np.ndarray, choice: np.ndarray) -> np.ndarray:
    counts = np.full(len(choice), OPTIONS)
    gain = information_gain(probs, choice, counts)
    return np.column_stack([choice_probability(probs, choice), argmax_hit(probs, choice), gain])


def _intervals(columns: np.ndarray, person: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the measures' intervals, `(measures,)` both."""
    found = pooled_intervals(columns, {name: column(i) for i, name in enumerate(MEASURES)}, person, group)
    low, high = ([one[end] for one in found.values()] for end in ("low", "high"))
    return np.array(low, dtype=float), np.array(high, dtype=float)


_WORLD = np.random.default_rng(0)
VECTORS = _WORLD.normal(size=(ITEMS, DIMENSIONS)) * 1.5 / DIMENSIONS**0.5
POPULARITY = -0.7 * np.log(np.arange(1, ITEMS + 1))


def _evaluation(
    rng: np.random.Generator, users: int, knowledge: float, prejudice: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Person, group and choice, `(scenes,)`, and what each of two equally good predictors says, `(scenes, options)`.

    A person's taste differs from other people's in strength too, so some are easy to predict.
    """
    sizes = np.exp(rng.uniform(0, np.log(MOST_SCENES + 1), users)).astype(int)
    person = np.repeat(np.arange(users), sizes)
    taste = rng.normal(size=(users, DIMENSIONS)) * rng.lognormal(0, SPREAD, size=(users, 1))
    item = _softmax(taste @ VECTORS.T + POPULARITY)[person].cumsum(axis=1) < rng.uniform(size=(len(person), 1))
    chosen = np.minimum(item.sum(axis=1), ITEMS - 1)
    members = _groups(rng, person, chosen)
    order = rng.permuted(np.tile(np.arange(OPTIONS), (len(members), 1)), axis=1)
    lists = np.repeat(np.take_along_axis(chosen[members], order, axis=1), OPTIONS, axis=0)
    scenes, group = members.ravel(), np.repeat(np.arange(len(members)), OPTIONS)
    choice = (lists == chosen[scenes][:, None]).argmax(axis=1)
    probs = []
    for _ in range(2):
        known = knowledge * taste + (1 - knowledge**2) ** 0.5 * rng.normal(size=taste.shape)
        interest = np.einsum("sd,sod->so", known[person[scenes]], VECTORS[lists])
        probs.append(_softmax(knowledge * interest + prejudice * POPULARITY[lists]))
    return person[scenes], group, choice, probs


def _groups(rng: np.random.Generator, person: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Rows of the choices of every whole group, `(groups, options)`: in random order, each joins the first it fits."""
    waiting: list[list[int]] = []
    whole = []
    for row in rng.permutation(len(person)).tolist():
        for group in waiting:
            if all(person[row] != person[other] and item[row] != item[other] for other in group):
                group.append(row)
                if len(group) == OPTIONS:
                    whole.append(group)
                    waiting.remove(group)
                break
        else:
            waiting.append([row])
    return np.array(whole)


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--simulations", type=int, default=1000)
    main(parser.parse_args().simulations)
