"""Five scenes to read: what a model was shown, what it wrote, how sure it was, and what the person chose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.sources import load_domain
from usermirrorer.errors import UserError
from usermirrorer.eval.scene_predictions import per_scene
from usermirrorer.llm.prompts import history_entries
from usermirrorer.measures import argmax_hit, choice_probability
from usermirrorer.seeds import scene_keys


HISTORY = 5
"""Entries of the history that an example shows, the latest."""


def examples(predictions: pl.DataFrame, scenes: pl.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Up to five scenes of one model's predictions, each once, as `find_examples` picks them.

    `scenes` are as the model saw them. The text and the option named are those of the first decision process, the
    probabilities (of each option, in order) the means over all.
    """
    rows = predictions.sort("scene_id", "sample").unique("scene_id", keep="first", maintain_order=True)
    first = {row["scene_id"]: row for row in rows.iter_rows(named=True)}
    shown = {row["scene_id"]: row for row in scenes.iter_rows(named=True)}
    samples = dict(predictions.group_by("scene_id").len().iter_rows())
    found = []
    for kind, scene_id, probs in find_examples(predictions, scenes, seed):
        scene, answer = shown[scene_id], first[scene_id]
        history = history_entries(scene["text"]["history"])
        found.append({
            "kind": kind, "scene_id": scene_id, "dataset": scene["dataset"], "profile": scene["text"]["profile"],
            "earlier": max(len(history) - HISTORY, 0), "history": history[-HISTORY:],
            "options": scene["text"]["action_list"], "probs": probs, "choice": scene["item_pos"],
            "text": answer["text"], "named": answer["behavior"], "samples": samples[scene_id],
        })  # fmt: skip
    return found


def find_examples(predictions: pl.DataFrame, scenes: pl.DataFrame, seed: int) -> list[tuple[str, str, list[float]]]:
    """Kind, scene_id and mean probabilities of up to five scenes, each once; a kind that no scene is of is left out.

    *Right and sure* is the hit with the highest probability of the choice, *right* and *wrong* have the median of
    theirs among the other hits and the misses, *most surprised* has the lowest, and one is *drawn by seed*.
    """
    predicted = per_scene(predictions, scenes)
    chosen, hit = choice_probability(predicted.probs, predicted.choice), argmax_hit(predicted.probs, predicted.choice)
    by_chosen = np.lexsort((predicted.ids, chosen))
    left = dict.fromkeys(by_chosen.tolist())
    found: list[tuple[str, int]] = []

    def take(kind: str, of: list[int], place: float) -> None:
        if of:
            row = of[round(place * (len(of) - 1))]
            del left[row]
            found.append((kind, row))

    take("right and sure", [row for row in left if hit[row] == 1], 1.0)
    take("right", [row for row in left if hit[row] == 1], 0.5)
    take("most surprised", [row for row in left if hit[row] == 0], 0.0)
    take("wrong", [row for row in left if hit[row] == 0], 0.5)
    keys = scene_keys(seed, predicted.ids.astype("S16"))
    take("drawn by seed", sorted(left, key=lambda row: keys[row]), 0.0)
    counts = predicted.counts
    return [(kind, str(predicted.ids[row]), predicted.probs[row, : counts[row]].tolist()) for kind, row in found]


def redistributable(domains: Iterable[str], tables: Path | None) -> dict[str, bool]:
    """Domain -> whether its publisher lets texts be passed on; not those of a log that is unknown here.

    `tables` are those of one of the domains, in the WORK that knows your own ones.
    """
    found = {}
    for name in domains:
        try:
            found[name] = load_domain(name, tables.parent.parent if tables else None).redistribute_text
        except UserError:
            found[name] = False
    return found
