"""Schemas of the artefacts, and the ids that join them. `docs/artefacts.md` explains every column."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from usermirrorer.seeds import hex_digits


VARIANTS = ("strong", "weak")
"""The two writers of decision processes."""

TIME = pa.timestamp("ms", tz="UTC")
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PROBS = pa.list_(pa.float64())
STRINGS = pa.list_(pa.string())
INTEGERS = pa.list_(pa.int64())

SCENES = pa.schema(
    [
        ("scene_id", pa.string()),
        ("dataset", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", TIME),
        ("group_id", pa.string()),
        ("group_time", TIME),
        ("text", pa.struct([("profile", pa.string()), ("history", pa.string()), ("action_list", STRINGS)])),
        ("impression_list", STRINGS),
        ("item_pos", pa.int64()),
        ("choices", INTEGERS),
        ("choice_cnt", pa.int64()),
        ("split", pa.string()),
        ("exposure", pa.string()),
        ("sources", STRINGS),
        ("history_len", pa.int64()),
        ("user_cnt", pa.int64()),
        ("item_cnt", INTEGERS),
        ("later_chosen", INTEGERS),
    ]
)

BASELINES = pa.schema([("scene_id", pa.string()), ("baseline", pa.string()), ("probs", PROBS)])

DECISIONS = pa.schema(
    [
        ("scene_id", pa.string()),
        ("variant", pa.string()),
        ("model", pa.string()),
        ("sample", pa.int64()),
        ("text", pa.string()),
        ("behavior", pa.int64()),
        ("finish_reason", pa.string()),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("scene_id", pa.string()),
        ("variant", pa.string()),
        ("sample", pa.int64()),
        ("predictor", pa.string()),
        ("probs", PROBS),
    ]
)

MEASURES = (
    "score", "entropy_expected_strong", "entropy_expected_weak", "entropy_total_strong", "entropy_total_weak",
    "entropy_chosen", "entropy_rejected",
)  # fmt: skip
"""Columns of pairs by which they are selected."""

PAIRS = pa.schema(
    [
        ("scene_id", pa.string()),
        ("dataset", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", TIME),
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("behavior_chosen", pa.string()),
        ("behavior_rejected", pa.string()),
        ("choice_cnt", pa.int64()),
        *((name, pa.float64()) for name in MEASURES),
        ("accepted", pa.int64()),
        ("rejected_from", pa.string()),
    ]
)


SEPARATOR = "\x1f"


def scene_id(dataset: str, user_id: str, item_id: str, timestamp_ms: int, impression_id: str = "") -> str:
    """16 hex digits that name a scene: independent of seed and split."""
    key = SEPARATOR.join((dataset, user_id, item_id, str(timestamp_ms), impression_id))
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def scene_numbers(keys: Iterable[bytes]) -> np.ndarray:
    """Scene ids as numbers, uint64 `(scenes,)`; a key is the fields of `scene_id` joined by `SEPARATOR`, in UTF-8."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def id_column(ids: np.ndarray) -> pa.Array:
    """Scene ids, from uint64 to a column of 16 hex digits each."""
    offsets = np.arange(0, 16 * len(ids) + 1, 16, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(hex_digits(ids))])


def list_column(values: pa.Array, lengths: np.ndarray) -> pa.ListArray:
    """Lists of the given lengths `(rows,)`, cut in order from flat `values`."""
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), values)
