"""Rows joined to the scenes that they belong to, by the 64 bits of their scene_id."""

from __future__ import annotations

import polars as pl

from usermirrorer.data.artefacts.find import Artefact


SCENE = {"key": pl.UInt64, "item_pos": pl.Int64, "options": pl.Int64}


def scene_key(scene_id: pl.Expr) -> pl.Expr:
    """The 64 bits of a scene_id; 0 if it is not one."""
    return scene_id.str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)


def scenes_beside(artefact: Artefact, split: str) -> pl.DataFrame:
    """Key, choice and number of options of the scenes of a split beside an artefact; no rows if there are none."""
    found = [artefact.beside("scenes", split, domain) for domain in artefact.domains]
    parts = [
        rows.select(key=scene_key(pl.col("scene_id")), item_pos="item_pos", options="choice_cnt")
        for scenes in found
        if scenes is not None
        for rows in scenes.rows(["scene_id", "item_pos", "choice_cnt"])
    ]
    return pl.concat([pl.DataFrame(schema=SCENE), *parts])


def with_scene(rows: pl.DataFrame, scenes: pl.DataFrame) -> pl.DataFrame:
    """Rows with the `key`, `item_pos` and `options` of their scenes; null if `scenes` lack it."""
    keyed = rows.with_columns(key=scene_key(pl.col("scene_id")))
    return keyed.join(scenes, on="key", how="left", maintain_order="left")
