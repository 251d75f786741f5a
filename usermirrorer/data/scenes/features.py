"""Options in numbers, one row each, and their file: what the exposure probe and the reference model are fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from usermirrorer.data.artefacts.schema import id_column, list_column
from usermirrorer.data.artefacts.store import read_parts
from usermirrorer.data.log.events import ragged_ranges, runs
from usermirrorer.data.log.tables import Tables, rows_of
from usermirrorer.seeds import numbers


KINDS = {"user_free": "user_free", "scene_time": "time", "of_user": "user", "scores": "score"}
"""Fields of `Features` and the prefixes of their columns on disk."""


@dataclass(frozen=True)
class Features:
    """One row per option, scene after scene.

    `user_free` says nothing of the user and is the same for all who see a list; `scene_time` says when the user chose.
    `of_user` compares an option with the user's earlier choices, and `scores` are those of the models over items. All
    are `(options,)`.
    """

    scene_id: np.ndarray
    """uint64 `(scenes,)`"""
    user: np.ndarray
    """int64 `(scenes,)`: row of the users table"""
    count: np.ndarray
    """int64 `(scenes,)`: number of options"""
    choice: np.ndarray
    """int64 `(scenes,)`: position of the choice"""
    group: np.ndarray
    """uint64 `(scenes,)`: the group's id; of a scene that stands alone, its own"""
    item: np.ndarray
    """int64 `(options,)`: row of the items table"""
    user_free: Mapping[str, np.ndarray]
    scene_time: Mapping[str, np.ndarray]
    of_user: Mapping[str, np.ndarray]
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

    @property
    def grouped(self) -> bool:
        """Whether scenes share lists."""
        return bool((self.group != self.scene_id).any())

    def take(self, scenes: np.ndarray) -> Features:
        """The features of the scenes with these row numbers."""
        rows = ragged_ranges(self.start[scenes], self.count[scenes])[1]
        kinds = {kind: {name: values[rows] for name, values in getattr(self, kind).items()} for kind in KINDS}
        return Features(
            self.scene_id[scenes], self.user[scenes], self.count[scenes], self.choice[scenes], self.group[scenes],
            self.item[rows], **kinds,
        )  # fmt: skip


def whole_groups_within(group: np.ndarray, most: int) -> int:
    """How many of the first scenes, at most `most`, belong to groups that are whole among them."""
    if len(group) <= most:
        return len(group)
    begins = np.append(runs(group)[0], len(group))
    return int(begins[np.searchsorted(begins, most, side="right") - 1])


def feature_table(features: Features, tables: Tables) -> pa.Table:
    """The rows of the features artefact: one per scene, with lists over its options."""
    columns = {
        "scene_id": id_column(features.scene_id),
        "user_id": tables.users["user_id"].gather(features.user).to_arrow(),
        "group_id": id_column(features.group),
        "item_pos": pa.array(features.choice),
        "items": list_column(tables.items["item_id"].gather(features.item).to_arrow(), features.count),
    }
    for kind, prefix in KINDS.items():
        for name, values in getattr(features, kind).items():
            columns[f"{prefix}.{name}"] = list_column(pa.array(values), features.count)
    return pa.table(columns)


def load_features(directory: Path, tables: Tables) -> Features:
    """The features of an earlier run."""
    table = read_parts(directory).combine_chunks()
    items = table["items"].combine_chunks()
    return Features(
        scene_id=numbers(table["scene_id"].to_numpy().astype("S16")),
        user=rows_of(table["user_id"].combine_chunks(), tables.users["user_id"]),
        count=np.diff(items.offsets.to_numpy()).astype(np.int64),
        choice=table["item_pos"].to_numpy(),
        group=numbers(table["group_id"].to_numpy().astype("S16")),
        item=rows_of(items.flatten(), tables.items["item_id"]),
        **{kind: _of_kind(table, prefix) for kind, prefix in KINDS.items()},
    )


def _of_kind(table: pa.Table, prefix: str) -> dict[str, np.ndarray]:
    names = [name for name in table.column_names if name.startswith(f"{prefix}.")]
    flat = (table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in names)
    return {name.split(".", 1)[1]: values for name, values in zip(names, flat, strict=True)}
