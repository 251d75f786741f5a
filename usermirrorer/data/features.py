"""Numbers that describe every option of every scene: what the exposure probe and the reference model read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from usermirrorer.data.candidates import GFCF
from usermirrorer.data.render import DAY_MS
from usermirrorer.data.store import SHARD_ROWS, open_step, read_manifest, read_parts
from usermirrorer.data.window import Window, score_options


if TYPE_CHECKING:
    from usermirrorer.data.scenes import Drawn


KINDS = {"user_free": "user_free", "in_log": "in_log", "scores": "score"}
"""Fields of `Features` and the prefix of their columns on disk."""


@dataclass(frozen=True)
class Features:
    """One row an option, scene after scene.

    `user_free` is what can be known without the user, `in_log` what only the whole log tells, `scores` what the
    candidate models say of the user.
    """

    scene_id: np.ndarray
    """S16 `(scenes,)`"""
    user: np.ndarray
    """str `(scenes,)`"""
    count: np.ndarray
    """int64 `(scenes,)`: options of each scene"""
    choice: np.ndarray
    """int64 `(scenes,)`: position of the choice"""
    item: np.ndarray
    """str `(options,)`"""
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


def describe_options(window: Window, drawn: Drawn) -> Features:
    """Features of drawn scenes, all as of the scene's time."""
    choices, width = drawn.choices, drawn.options >= 0
    item = np.maximum(drawn.options, 0)
    scores = score_options(window, choices, drawn.options)
    position = window.pool.position(choices.time)[:, None]
    age = (choices.time[:, None] - window.available_from[item]) / DAY_MS
    columns = {
        "recent_popularity": np.log1p(scores["popularity"]),
        "age_days": age,
        "content_similarity": _mutual_similarity(window.vectors, item, width),
        "position": np.broadcast_to(np.arange(item.shape[1]), item.shape),
        "options": np.broadcast_to(drawn.count[:, None], item.shape),
    }
    collaborative = window.models["gf-cf"]
    if isinstance(collaborative, GFCF):
        columns["collaborative_similarity"] = _mutual_similarity(collaborative.into, item, width)
    for name in window.tables.domain.numbers:
        columns[f"shown_{name}"] = window.tables.items[name].cast(float).to_numpy()[item]
    user_ids, item_ids = window.tables.users["user_id"].to_numpy(), window.tables.items["item_id"].to_numpy()
    return Features(
        scene_id=choices.scene_id,
        user=user_ids[choices.user],
        count=drawn.count,
        choice=drawn.position,
        item=item_ids[item[width]],
        user_free={name: np.asarray(values, dtype=np.float32)[width] for name, values in columns.items()},
        in_log={"total_popularity": np.log1p(window.pool.by_item.count(item, position), dtype=np.float32)[width]},
        scores={name: values[width] for name, values in scores.items()},
    )


def relative(values: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Within each scene: the standardised value and the rank (0 lowest … 1 highest, ties shared): `(options,)`."""
    scene, start, count = features.scene, features.start, features.count
    filled = np.nan_to_num(values.astype(np.float64))
    mean = np.add.reduceat(filled, start) / count
    centred = filled - mean[scene]
    spread = np.sqrt(np.add.reduceat(centred**2, start) / count)
    standard = centred / np.maximum(spread, 1e-9)[scene]
    most = int(count.max())
    padded = np.full((len(count), most), np.nan)
    padded[np.arange(most) < count[:, None]] = filled
    with np.errstate(invalid="ignore"):
        below = (padded[:, None, :] < padded[:, :, None]).sum(axis=2)
        equal = (padded[:, None, :] == padded[:, :, None]).sum(axis=2)
    rank = (below + (equal - 1) / 2)[np.arange(most) < count[:, None]] / np.maximum(count - 1, 1)[scene]
    return standard, rank


def write_features(features: Features, directory: Path, recipe: Mapping[str, Any]) -> None:
    """Write one row a scene, lists over its options."""
    with open_step(directory, {**recipe, "step": "features"}) as step:
        if step.complete:
            return
        offsets = pa.array(np.append(features.start, features.count.sum()), pa.int32())
        columns = {
            "scene_id": pa.array(np.char.decode(features.scene_id, "ascii")),
            "user_id": pa.array(features.user),
            "item_pos": pa.array(features.choice),
            "items": pa.ListArray.from_arrays(offsets, pa.array(features.item)),
        }
        for kind, prefix in KINDS.items():
            for name, values in getattr(features, kind).items():
                columns[f"{prefix}.{name}"] = pa.ListArray.from_arrays(offsets, pa.array(values))
        table = pa.table(columns)
        for shard, begin in enumerate(range(0, len(table), SHARD_ROWS)):
            step.write_shard(shard, table.slice(begin, SHARD_ROWS))
        step.finish(rows=len(table))


def load_features(directory: Path) -> Features | None:
    """The features of scenes made before, or None where there are none."""
    manifest = read_manifest(directory)
    if manifest is None or not manifest["content"].get("finished"):
        return None
    table = read_parts(directory).combine_chunks()
    flat = {
        name: table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in table.column_names[3:]
    }
    return Features(
        scene_id=table["scene_id"].to_numpy().astype("S16"),
        user=table["user_id"].to_numpy(),
        count=np.diff(table["items"].combine_chunks().offsets.to_numpy()).astype(np.int64),
        choice=table["item_pos"].to_numpy(),
        item=flat["items"],
        **{kind: _of_kind(flat, prefix) for kind, prefix in KINDS.items()},
    )


def _of_kind(flat: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.split(".", 1)[1]: values for name, values in flat.items() if name.startswith(f"{prefix}.")}


def _mutual_similarity(vectors: np.ndarray, item: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean cosine of each option to the other options of its list: `(scenes, options)`."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    total = np.zeros((len(item), vectors.shape[1]), dtype=np.float32)
    similarity = np.zeros(item.shape, dtype=np.float32)
    for column in range(item.shape[1]):
        total += unit[item[:, column]] * width[:, column, None]
    for column in range(item.shape[1]):
        own = unit[item[:, column]]
        similarity[:, column] = np.einsum("sd,sd->s", own, total) - np.einsum("sd,sd->s", own, own)
    return similarity / np.maximum(width.sum(axis=1, keepdims=True) - 1, 1)
