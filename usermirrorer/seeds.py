"""Random numbers of a scene: a function of (seed, scene_id, stream), whatever else is drawn around it."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What `uniforms` are drawn for. The streams of a scene are independent; give a new one an unused number."""

    POSITION = 1
    HISTORY = 2
    EXPOSURE = 16
    """16 to 18: what is shown beside the choice in `logged` and `published`"""
    LENGTH = 32
    """32 to 63: number of options, drawn again in each pass over the choices that are left"""
    BEHAVIOUR = 64
    """Predicted behaviour: 64 for strong, 65 for weak decisions"""
    SELECT = 72


class Order(IntEnum):
    """What `other_keys` order scenes for."""

    OCCASION = 1
    CAP = 2
    PORTION = 3


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def scene_keys(seed: int, scene_ids: np.ndarray) -> np.ndarray:
    """A 64-bit key for each scene id (16 hex digits): uint64 `(scenes,)`. Scenes are drawn in key order."""
    return number_keys(seed, numbers(scene_ids))


def number_keys(seed: int, ids: np.ndarray) -> np.ndarray:
    """The same for scene ids as uint64 numbers."""
    return _mix(ids ^ _mix(np.array([seed], dtype=np.int64).astype(np.uint64) + _GOLDEN))


def other_keys(keys: np.ndarray, stream: int) -> np.ndarray:
    """Keys that put the same scenes in another, independent order: uint64 `(scenes,)`."""
    return _mix(keys + (np.uint64(stream) << np.uint64(48)))


def set_ids(ids: np.ndarray, start: np.ndarray) -> np.ndarray:
    """An id for each set of ids: uint64 `(sets,)`, whatever the order within a set.

    `ids` are uint64, set after set; `start` says where each set begins.
    """
    return _mix(np.add.reduceat(_mix(ids + _GOLDEN), start))


def numbers(scene_ids: np.ndarray) -> np.ndarray:
    """Scene ids (16 hex digits) as numbers, which sort the same way: uint64 `(scenes,)`."""
    digits = np.asarray(scene_ids, dtype="S16").tobytes().decode()
    return np.frombuffer(bytes.fromhex(digits), dtype=">u8").astype(np.uint64)


def hex_digits(ids: np.ndarray) -> np.ndarray:
    """Scene ids as text, the inverse of `numbers`: S16 `(scenes,)`."""
    return np.frombuffer(ids.astype(">u8").tobytes().hex().encode(), dtype="S16")


def uniforms(keys: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Numbers in [0, 1), `(scenes, count)`; each `stream` of a scene is independent of the others."""
    counters = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(stream) << np.uint64(32))
    bits = _mix(keys[:, None] + counters[None, :] * _GOLDEN)
    return (bits >> np.uint64(11)) * (1.0 / (1 << 53))


def scene_seed(seed: int, key: str) -> int:
    """The 31-bit seed of one scene's samples, from the run's seed and the scene's id (or text)."""
    digest = hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33


def draw(probs: np.ndarray, seed: int, key: str) -> int:
    """An index drawn by its probability, `(options,)`: a function of the probabilities, the seed and the key."""
    drawn = np.random.default_rng(scene_seed(seed, key)).random()
    return int(np.searchsorted(np.cumsum(probs)[:-1], drawn * probs.sum(), side="right"))


def halves(labels: np.ndarray) -> np.ndarray:
    """0 or 1 for each row, `(rows,)`, the same for rows with the same label; a seeded draw of half the labels."""
    _, unit = np.unique(labels, return_inverse=True)
    return np.random.default_rng(0).permutation(unit.max(initial=0) + 1)[unit] % 2


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
