"""Models over items: popularity, content, item-kNN and GF-CF. They propose distractors and serve as baselines.

Each is fitted on what precedes a window and asked about users as of a scene: a user's vector is folded in from that
user's own earlier choices. `scores` has shape `(scenes, items)`.

Dense factors are held in fixed point, so that sums of products are exact in float64: the score of a pair must not
depend on which other scenes and items it is computed with, and the rounding of a matrix product does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from usermirrorer.data.log import Log, ragged_ranges


WINDOW = 5000
"""Recent popularity counts the last so many choices before the scene; natural exposures draw from them."""

NEIGHBOURS = 100
RANK = 64
LOW_PASS_WEIGHT = 0.3


@dataclass(frozen=True)
class Queries:
    """Whose scores are asked for, and as of when."""

    position: np.ndarray
    """int64 `(scenes,)`: number of choices of anyone before the scene"""
    history: sparse.csr_matrix
    """float32 `(scenes, items)`: 1 where the user had chosen the item before"""


class CandidateModel(Protocol):
    def scores(self, queries: Queries) -> np.ndarray: ...


def queries(log: Log, user: np.ndarray, time: np.ndarray) -> Queries:
    """Queries for users at times, from a log of choices."""
    position = log.position(time)
    length = log.by_user.count(user, position)
    row, index = ragged_ranges(log.by_user.start[user], length)
    items = log.item[log.by_user.events[index]]
    ones = np.ones(len(items), dtype=np.float32)
    history = sparse.csr_matrix((ones, (row, items)), shape=(len(user), log.items))
    history.data[:] = 1.0
    return Queries(position, history)


def fit_models(fitted: Log, log: Log, vectors: np.ndarray) -> dict[str, CandidateModel]:
    """All candidate models. `fitted` is the part of `log` before the window, `vectors` are `(items, width)`."""
    return {
        "popularity": Popularity(log),
        "content": Content(fixed_point(vectors, bits=16)),
        "item-knn": ItemKNN(_item_similarity(fitted)),
        "gf-cf": fit_gf_cf(fitted),
    }


@dataclass(frozen=True)
class Popularity:
    """How often each item was chosen among the last `WINDOW` choices."""

    log: Log

    def scores(self, queries: Queries) -> np.ndarray:
        low = np.maximum(queries.position - WINDOW, 0)
        counts = [
            np.bincount(self.log.item[a:b], minlength=self.log.items)
            for a, b in zip(low.tolist(), queries.position.tolist(), strict=True)
        ]
        return np.array(counts, dtype=np.float32).reshape(-1, self.log.items)


@dataclass(frozen=True)
class Content:
    """Cosine between an item's text vector and the mean vector of the user's earlier choices."""

    vectors: np.ndarray
    """float64 `(items, width)`, in fixed point"""

    def scores(self, queries: Queries) -> np.ndarray:
        profile = queries.history @ self.vectors
        norm = np.linalg.norm(profile, axis=1, keepdims=True)
        return ((profile @ self.vectors.T) / np.maximum(norm, 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class ItemKNN:
    """Sum of the cosine similarities to the user's earlier choices, over each item's nearest neighbours."""

    similarity: sparse.csr_matrix

    def scores(self, queries: Queries) -> np.ndarray:
        return np.asarray((queries.history @ self.similarity).todense(), dtype=np.float32)


@dataclass(frozen=True)
class GFCF:
    """GF-CF (Shen et al., CIKM 2021, eq. 6): linear filter plus ideal low-pass filter of the item graph."""

    normalised: sparse.csr_matrix
    """D_U^-1/2 R D_I^-1/2, `(users, items)`"""
    into: np.ndarray
    """D_I^-1/2 V, float64 `(items, rank)`, in fixed point"""
    back: np.ndarray
    """V^T D_I^1/2, float64 `(rank, items)`, in fixed point"""

    def scores(self, queries: Queries) -> np.ndarray:
        linear = (queries.history @ self.normalised.T) @ self.normalised
        low_pass = (queries.history @ self.into) @ self.back
        return (np.asarray(linear.todense()) + LOW_PASS_WEIGHT * low_pass).astype(np.float32)


def fit_gf_cf(fitted: Log) -> GFCF:
    """Fit GF-CF on a log; each user counts an item once."""
    chosen = _user_item(fitted)
    users = np.asarray(chosen.sum(axis=1)).ravel()
    items = np.asarray(chosen.sum(axis=0)).ravel()
    left, right = (1 / np.sqrt(np.maximum(degree, 1)) for degree in (users, items))
    normalised = (sparse.diags(left) @ chosen @ sparse.diags(right)).tocsr().astype(np.float32)
    # Only what has events goes into the decomposition: items that come later must not change a single bit.
    active = normalised[np.flatnonzero(users)][:, np.flatnonzero(items)]
    rank = min(RANK, max(min(active.shape) - 1, 0))
    vectors = np.zeros((fitted.items, rank), dtype=np.float32)
    if rank:
        vectors[items > 0] = svds(active, k=rank, v0=np.ones(min(active.shape), dtype=np.float32))[2].T
    into = fixed_point(vectors * right[:, None], bits=20)
    back = fixed_point(vectors * np.sqrt(items)[:, None], bits=14)
    return GFCF(normalised, into, np.ascontiguousarray(back.T))


def fixed_point(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to multiples of 2^-bits, as float64: sums of their products are exact below 2^53."""
    return np.round(values.astype(np.float64) * 2.0**bits) / 2.0**bits


def _user_item(log: Log) -> sparse.csr_matrix:
    """Binary `(users, items)` matrix of a log."""
    matrix = sparse.csr_matrix((np.ones(len(log), np.float32), (log.user, log.item)), shape=(log.users, log.items))
    matrix.data[:] = 1.0
    return matrix


def _item_similarity(log: Log) -> sparse.csr_matrix:
    """Cosine of the item columns; each row keeps its `NEIGHBOURS` largest entries, the diagonal left out."""
    chosen = _user_item(log)
    norm = 1 / np.sqrt(np.maximum(np.asarray(chosen.sum(axis=0)).ravel(), 1))
    scaled = (chosen @ sparse.diags(norm)).tocsr().astype(np.float32)
    cosine = (scaled.T @ scaled).tocsr()
    cosine.setdiag(0)
    cosine.eliminate_zeros()
    cosine.sort_indices()
    keep = np.zeros(cosine.nnz, dtype=bool)
    for row in range(cosine.shape[0]):
        a, b = cosine.indptr[row], cosine.indptr[row + 1]
        keep[a + np.argsort(-cosine.data[a:b], kind="stable")[:NEIGHBOURS]] = True
    cosine.data[~keep] = 0
    cosine.eliminate_zeros()
    # Column j holds the neighbours of item j: history @ matrix sums similarity(history item, j).
    return cosine.T.tocsr()
