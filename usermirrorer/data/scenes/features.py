"""Numbers that describe every option of every scene: inputs of the exposure probe and the reference model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from usermirrorer.data.artefacts.schema import id_column, list_column
from usermirrorer.data.artefacts.store import SHARD_ROWS, read_manifest
from usermirrorer.data.log.events import ragged_ranges
from usermirrorer.data.log.tables import Tables, rows_of
from usermirrorer.data.scenes.as_of import DAY_MS, user_free_numbers
from usermirrorer.data.scenes.targets import Drawn
from usermirrorer.data.scenes.window import Window
from usermirrorer.seeds import numbers


SIMILARITY_SCENES = 256
"""Scenes whose options' vectors are in memory at a time."""

KINDS = {"user_free": "user_free", "in_log": "in_log", "scores": "score"}
"""Fields of `Features` and the prefixes of their columns on disk."""


@dataclass(frozen=True)
class Features:
    """One row per option, scene after scene.

    `user_free` is visible without knowing the user, `in_log` only with the whole log at hand; `scores` are those of
    the candidate models for the user. All are `(options,)`.
    """

    scene_id: np.ndarray
    """uint64 `(scenes,)`"""
    user: np.ndarray
    """int64 `(scenes,)`: row of the users table"""
    count: np.ndarray
    """int64 `(scenes,)`: number of options"""
    choice: np.ndarray
    """int64 `(scenes,)`: position of the choice"""
    item: np.ndarray
    """int64 `(options,)`: row of the items table"""
    user_free: Mapping[str, np.ndarray]
    in_log: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]

    @property
    def scene(self) -> np.ndarray:
        """Scene of each option: int64 `(options,)`."""
        return np.repeat(np.arange(len(self.count)), self.count)

    @property
    def start(self) -> np.ndarray:
        """First option of each scene: int64 `(scenes,)`."""
        return np.cumsum(self.count) - self.count

    @property
    def chosen(self) -> np.ndarray:
        """Whether each option is the choice: bool `(options,)`."""
        mask = np.zeros(int(self.count.sum()), dtype=bool)
        mask[self.start + self.choice] = True
        return mask


def describe_options(window: Window, drawn: Drawn, scores: Mapping[str, np.ndarray]) -> Features:
    """Features of drawn scenes, as of their times; `scores` are those of `score_options`, `(scenes, options)` each."""
    tables, targets, width = window.tables, drawn.targets, drawn.options >= 0
    item = np.maximum(drawn.options, 0)
    position = window.pool.position(targets.time)[:, None]
    columns = {
        "recent_popularity": np.log1p(scores["popularity"]),
        "age_days": (targets.time[:, None] - window.tables.available_from[item]) / DAY_MS,
        "content_similarity": _mutual_similarity(window.unit_vectors("content"), item, width),
        "collaborative_similarity": _mutual_similarity(window.unit_vectors("gf-cf"), item, width),
        "position": np.broadcast_to(np.arange(item.shape[1]), item.shape),
        "options": np.broadcast_to(drawn.count[:, None], item.shape),
    }
    for name in tables.domain.numbers:
        columns[f"shown_{name}"] = tables.items[name].cast(float).to_numpy()[item]
    user_free = {name: np.asarray(values, dtype=np.float32)[width] for name, values in columns.items()}
    scene = np.repeat(np.arange(len(drawn)), drawn.count)
    shown = user_free_numbers(tables, targets.user[scene], item[width], targets.time[scene])
    return Features(
        scene_id=targets.scene_id,
        user=targets.user.astype(np.int64),
        count=drawn.count,
        choice=drawn.position,
        item=item[width].astype(np.int64),
        user_free=user_free | {f"shown_{name}": values.astype(np.float32) for name, values in shown.items()},
        in_log={"total_popularity": np.log1p(window.pool.by_item.count(item, position), dtype=np.float32)[width]},
        scores={name: values[width] for name, values in scores.items()},
    )


def select_scenes(features: Features, scenes: np.ndarray) -> Features:
    """The features of the scenes with these row numbers."""
    rows = ragged_ranges(features.start[scenes], features.count[scenes])[1]
    return Features(
        features.scene_id[scenes], features.user[scenes], features.count[scenes], features.choice[scenes],
        features.item[rows],
        **{kind: {name: values[rows] for name, values in getattr(features, kind).items()} for kind in KINDS},
    )  # fmt: skip


def standardised(values: np.ndarray, features: Features) -> np.ndarray:
    """Values minus their scene's mean, divided by its standard deviation: `(options,)`."""
    scene, start, count = features.scene, features.start, features.count
    filled = np.nan_to_num(values.astype(np.float64))
    centred = filled - (np.add.reduceat(filled, start) / count)[scene]
    spread = np.sqrt(np.add.reduceat(centred**2, start) / count)
    return centred / np.maximum(spread, 1e-9)[scene]


def ranks(values: np.ndarray, features: Features) -> np.ndarray:
    """Rank within the scene from 0, lowest, to 1, highest; ties shared: `(options,)`."""
    most = int(features.count.max())
    padded = np.full((len(features.count), most), np.inf, dtype=np.float32)
    width = np.arange(most) < features.count[:, None]
    padded[width] = np.nan_to_num(values)
    below = np.zeros(padded.shape, dtype=np.int8)
    for column in range(most):
        other = padded[:, column, None]
        below += (other < padded).view(np.int8)
        below -= (other > padded).view(np.int8)
    # Number of lower minus number of higher options; the padding is higher than all and does not count.
    lead = below + (most - features.count)[:, None]
    others = np.maximum(features.count - 1, 1)[:, None]
    return ((lead + others) / (2 * others))[width]


def feature_table(features: Features, tables: Tables) -> pa.Table:
    """The rows of the features artefact: one per scene, with lists over its options."""
    columns = {
        "scene_id": id_column(features.scene_id),
        "user_id": tables.users["user_id"].gather(features.user).to_arrow(),
        "item_pos": pa.array(features.choice),
        "items": list_column(tables.items["item_id"].gather(features.item).to_arrow(), features.count),
    }
    for kind, prefix in KINDS.items():
        for name, values in getattr(features, kind).items():
            columns[f"{prefix}.{name}"] = list_column(pa.array(values), features.count)
    return pa.table(columns)


def load_features(directory: Path, tables: Tables, most: int) -> Features | None:
    """The features of the first `most` scenes of an earlier run, or None if it has not finished.

    Scenes are sorted by id, and ids are hashes: the first are as good as a random sample.
    """
    manifest = read_manifest(directory)
    if manifest is None or not manifest["content"].get("finished"):
        return None
    parts = sorted(directory.glob("part-*.parquet"))[: -(-most // SHARD_ROWS)]
    table = pa.concat_tables([pq.read_table(path) for path in parts]).slice(0, most).combine_chunks()
    items = table["items"].combine_chunks()
    return Features(
        scene_id=numbers(table["scene_id"].to_numpy().astype("S16")),
        user=rows_of(table["user_id"].combine_chunks(), tables.users["user_id"]),
        count=np.diff(items.offsets.to_numpy()).astype(np.int64),
        choice=table["item_pos"].to_numpy(),
        item=rows_of(items.flatten(), tables.items["item_id"]),
        **{kind: _of_kind(table, prefix) for kind, prefix in KINDS.items()},
    )


def _of_kind(table: pa.Table, prefix: str) -> dict[str, np.ndarray]:
    names = [name for name in table.column_names if name.startswith(f"{prefix}.")]
    flat = (table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in names)
    return {name.split(".", 1)[1]: values for name, values in zip(names, flat, strict=True)}


def _mutual_similarity(unit: np.ndarray, item: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean cosine of each option with the others of its scene: `(scenes, options)`. `unit` is `(items, width)`."""
    similarity = np.zeros(item.shape, dtype=np.float32)
    for begin in range(0, len(item), SIMILARITY_SCENES):
        rows = slice(begin, begin + SIMILARITY_SCENES)
        vectors = unit[item[rows]]
        cosines = vectors @ vectors.transpose(0, 2, 1)
        others = width[rows, None, :] & ~np.eye(item.shape[1], dtype=bool)
        similarity[rows] = np.where(others, cosines, 0).sum(axis=2)
    return similarity / np.maximum(width.sum(axis=1, keepdims=True) - 1, 1)
