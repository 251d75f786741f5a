"""Small scenes and predictions whose measures are known."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa

from usermirrorer.data.artefacts.schema import SCENES, scene_id


def scene(user: str, item: str, position: int, options: int = 5, dataset: str = "shop", **changes) -> dict:
    """A row of SCENES with what matters given."""
    row = {
        "dataset": dataset,
        "user_id": user,
        "item_id": item,
        "timestamp": datetime(2020, 1, 1, tzinfo=UTC),
        "text": {
            "profile": f"Name: {user}",
            "history": f"bought old thing of {user}",
            "action_list": [f"thing {item}-{i}" for i in range(options)],
        },
        "impression_list": [item if i == position else f"{item}-{i}" for i in range(options)],
        "item_pos": position,
        "choices": [position],
        "choice_cnt": options,
        "later_chosen": [],
    }
    row["scene_id"] = scene_id(dataset, user, item, 1_577_836_800_000)
    return {**row, **changes}


def frame(rows: list[dict]) -> pl.DataFrame:
    return pl.from_arrow(pa.Table.from_pylist(sorted(rows, key=lambda row: row["scene_id"]), schema=SCENES))


def groups(number: int, options: int = 5, users: int = 40, dataset: str = "shop", seed: int = 0) -> pl.DataFrame:
    """Whole groups: the same list in the same order for `options` different users, each of whom took another item."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(number):
        members = rng.choice(users, size=options, replace=False)
        items = [f"{group}-{i}" for i in range(options)]
        shared = {
            "group_id": f"{group:016x}",
            "group_time": datetime(2020, 1, 1, tzinfo=UTC),
            "impression_list": items,
            "exposure": "matched",
        }
        for position, user in enumerate(members):
            rows.append(scene(f"u{user}", items[position], position, options, dataset, **shared))
            rows[-1]["text"]["action_list"] = [f"thing {item}" for item in items]
    return frame(rows)


def blind(scenes: pl.DataFrame, model: str = "m") -> pl.DataFrame:
    """Rows as `predict` gives them, from a model that reads the list and not the user."""
    rng = np.random.default_rng(0)
    lists = {key: rng.dirichlet(np.ones(5)).tolist() for key in scenes["group_id"].unique().sort()}
    rows = predictions(scenes, 0.0, model, samples=1)
    probs = rows.join(scenes, on="scene_id", maintain_order="left")["group_id"].replace_strict(
        lists, return_dtype=pl.List(pl.Float64)
    )
    return rows.with_columns(probs=probs)


def predictions(
    scenes: pl.DataFrame, skill: float, model: str = "m", context: str = "full", samples: int = 2, seed: int = 0
) -> pl.DataFrame:
    """Rows as `predict` gives them: the choice gets extra log odds of `skill`, and noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for key, position, options in scenes.select("scene_id", "item_pos", "choice_cnt").iter_rows():
        for sample in range(samples):
            logits = rng.normal(size=options)
            logits[position] += skill
            probs = np.exp(logits) / np.exp(logits).sum()
            rows.append(
                {
                    "scene_id": key, "context": context, "sample": sample, "text": "I like it.",
                    "behavior": int(probs.argmax()), "finish_reason": "stop", "unfinished": False, "shed": 0,
                    "probs": probs.tolist(), "model": model,
                }
            )  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"behavior": pl.Int64})
