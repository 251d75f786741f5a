"""Order of items under scores: highest first, ties in item order."""

from __future__ import annotations

import numpy as np


_ITEM_BITS = 24


def sortable(scores: np.ndarray) -> np.ndarray:
    """int64 keys of float32 scores `(…, items)` that ascend with the score and, at ties, descend with the item."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0 makes -0 and 0 one value
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    return (ascending << _ITEM_BITS) + (2**_ITEM_BITS - 1 - np.arange(scores.shape[-1]))


def last(keys: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The keys with items that are not `allowed` behind all others."""
    return np.where(allowed, keys, (keys & (2**_ITEM_BITS - 1)) + np.iinfo(np.int64).min)


def highest(keys: np.ndarray, depth: int) -> np.ndarray:
    """Items of the `depth` highest keys of each row, highest first: int64 `(rows, min(depth, items))`."""
    depth = min(depth, keys.shape[1])
    if depth < keys.shape[1]:
        keys = np.partition(keys, keys.shape[1] - depth, axis=1)[:, keys.shape[1] - depth :]
    return 2**_ITEM_BITS - 1 - (np.sort(keys, axis=1)[:, ::-1] & (2**_ITEM_BITS - 1))
