"""Arithmetic within each list of options: comparison, softmax, and flat values as a matrix."""

from __future__ import annotations

import numpy as np

from usermirrorer.data.scenes.features import Features


def standardised(values: np.ndarray, features: Features) -> np.ndarray:
    """Values minus their scene's mean, divided by its standard deviation: `(options,)`."""
    scene, start, count = features.scene, features.start, features.count
    filled = np.nan_to_num(values.astype(np.float64))
    centred = filled - (np.add.reduceat(filled, start) / count)[scene]
    spread = np.sqrt(np.add.reduceat(centred**2, start) / count)
    return centred / np.maximum(spread, 1e-9)[scene]


def softmax(values: np.ndarray, features: Features) -> np.ndarray:
    """Softmax within each scene: `(options,)`."""
    start, scene = features.start, features.scene
    weights = np.exp(values - np.maximum.reduceat(values, start)[scene])
    return weights / np.add.reduceat(weights, start)[scene]


def matrix(probs: np.ndarray, features: Features) -> np.ndarray:
    """Flat probabilities as `(scenes, options)`, padded with zeros."""
    width = np.arange(int(features.count.max())) < features.count[:, None]
    padded = np.zeros(width.shape)
    padded[width] = probs
    return padded
