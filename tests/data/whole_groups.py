"""Scenes in whole groups, made by hand from rows of scenes."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl

from usermirrorer.data.artefacts.schema import scene_id


Row = dict[str, Any]


def in_groups(frame: pl.DataFrame, size: int = 4) -> pl.DataFrame:
    """The scenes in groups of `size` people who chose different items, in order; what fills no group is left out.

    Everyone is shown the same texts and counts, those that the scenes have of their own choices.
    """
    waiting: list[Row] = []
    groups: list[list[Row]] = [[]]
    for row in frame.sort("timestamp").to_dicts():
        waiting.append(row)
        for candidate in list(waiting):
            if len(groups[-1]) == size:
                groups.append([])
            if all(candidate[key] != member[key] for member in groups[-1] for key in ("user_id", "item_id")):
                groups[-1].append(candidate)
                waiting.remove(candidate)
    rows = [scene for members in groups if len(members) == size for scene in _group(members)]
    rows.sort(key=lambda row: (row["group_id"], row["scene_id"]))
    return pl.DataFrame(rows, schema=frame.schema)


def _group(members: list[Row]) -> list[Row]:
    size = len(members)
    first = min(row["timestamp"] for row in members)
    listed = sorted(members, key=lambda row: row["scene_id"][::-1])
    group = hashlib.blake2b("".join(row["scene_id"] for row in listed).encode(), digest_size=8).hexdigest()
    shown = {
        "impression_list": [row["item_id"] for row in listed],
        "item_cnt": [row["item_cnt"][row["item_pos"]] for row in listed],
    }
    options = [row["text"]["action_list"][row["item_pos"]] for row in listed]
    return [
        row | shown | {
            "group_id": group, "group_time": first, "exposure": "matched", "choice_cnt": size, "item_pos": at,
            "choices": [at], "later_chosen": [], "text": row["text"] | {"action_list": options},
            "sources": ["choice" if i == at else "group" for i in range(size)],
            "scene_id": scene_id(
                row["dataset"], row["user_id"], row["item_id"], int(row["timestamp"].timestamp() * 1000)
            ),
        }
        for at, row in enumerate(listed)
    ]  # fmt: skip
