"""What a model would score if its confidence were right, and without its prejudice about a list: no further inference.

Decision processes are sure of themselves, so the mean of m of them is m votes: options without a vote get next to
nothing. Two numbers mend that, a smoothing a and a temperature T: p ∝ (m·p̄ + a)^(1/T). They are fitted on one half of
the users and applied to the other, both ways.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from usermirrorer.measures import FLOOR, choice_probability
from usermirrorer.seeds import halves


SMOOTHINGS = (1e-6, 10.0)
"""Range of the fitted smoothing, in votes for each option. A high one at a low temperature is a softmax of votes."""

TEMPERATURES = (0.02, 50.0)
"""Range of fitted temperatures; a predictor that knows nothing gets the upper end."""

START = (0.3, 1.0)
"""Smoothing and temperature from which the fit sets out."""


class Fit(TypedDict):
    """What was fitted, and the number of scenes it was fitted on."""

    smoothing: float
    temperature: float
    scenes: int


def calibrate(
    probs: np.ndarray, counts: np.ndarray, votes: np.ndarray, smoothing: float, temperature: float
) -> np.ndarray:
    """(m·p + a)^(1/T), renormalised over the real options of each row; p is at least `FLOOR`: `(scenes, options)`.

    `votes` is m, the number of decision processes behind each row, `(scenes,)`.
    """
    return _softmax(_logs(probs, votes, smoothing) / temperature, counts)


def fit_calibration(
    probs: np.ndarray, choice: np.ndarray, counts: np.ndarray, votes: np.ndarray
) -> tuple[float, float]:
    """The smoothing and the temperature with the lowest log loss over these scenes, within their ranges."""
    from scipy.optimize import minimize

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean log loss and its slopes by (log a, log T)."""
        smoothing, temperature = np.exp(logarithms)
        logs = _logs(probs, votes, smoothing)
        fitted = _softmax(logs / temperature, counts)
        chosen = choice_probability(fitted, choice)
        by_smoothing = smoothing / np.exp(logs)
        slopes = [
            (choice_probability(change, choice) - (fitted * change).sum(axis=1)).mean() / temperature
            for change in (-by_smoothing, logs)
        ]
        return float(-np.log(np.maximum(chosen, np.finfo(float).tiny)).mean()), np.array(slopes)

    bounds = np.log([SMOOTHINGS, TEMPERATURES])
    found = minimize(loss, np.log(START), jac=True, method="L-BFGS-B", bounds=bounds)
    smoothing, temperature = np.exp(np.clip(found.x, *bounds.T))
    return float(smoothing), float(temperature)


def cross_calibrated(
    probs: np.ndarray, choice: np.ndarray, counts: np.ndarray, votes: np.ndarray, users: np.ndarray
) -> tuple[np.ndarray, list[Fit]]:
    """Each half of the users calibrated with what was fitted on the other, `(scenes, options)`, and both fits.

    `users` are labels, `(scenes,)`. A single user has no other half: the predictions stay as they are, and
    nothing is fitted.
    """
    half = halves(users)
    calibrated, fits = probs.copy(), []
    for fold in (0, 1):
        inside, outside = half == fold, half != fold
        if inside.any() and outside.any():
            fit = fit_calibration(*(values[outside] for values in (probs, choice, counts, votes)))
            calibrated[inside] = calibrate(probs[inside], counts[inside], votes[inside], *fit)
            fits.append(Fit(smoothing=fit[0], temperature=fit[1], scenes=int(outside.sum())))
    return calibrated, fits


def prior_corrected(probs: np.ndarray, counts: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions less what the model says of the list whoever looks at it, and which scenes this changed.

    From the log-probabilities of each scene the mean over its group is subtracted, option by option, and the softmax
    taken: `(scenes, options)`. Every member of a group is shown the same list, so that mean is the model's prejudice
    about it: letters, fame, position. `groups` are numbers from 0, `(scenes,)`. Only whole groups, which have a scene
    for each option, are changed; the second result marks theirs, `(scenes,)`.
    """
    whole = np.bincount(groups)[groups] == counts
    logs = np.log(np.maximum(probs, FLOOR))
    sums = np.zeros((groups.max(initial=-1) + 1, probs.shape[1]))
    np.add.at(sums, groups, logs)
    corrected = _softmax(logs - sums[groups] / counts[:, None], counts)
    return np.where(whole[:, None], corrected, probs), whole


def _logs(probs: np.ndarray, votes: np.ndarray, smoothing: float) -> np.ndarray:
    return np.log(votes[:, None] * np.maximum(probs, FLOOR) + smoothing)


def _softmax(logits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over the real options of each row; 0 elsewhere."""
    real = np.arange(logits.shape[1]) < counts[:, None]
    logits = np.where(real, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
