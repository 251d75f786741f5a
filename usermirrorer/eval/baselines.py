"""What a model is compared with on the same scenes: predictions without a language model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.store import read_parts
from usermirrorer.errors import UserError


BASELINE_COLUMNS = ("scene_id", "baseline", "probs")


def load_baselines(
    directory: Path | None, scenes: pl.DataFrame, train: pl.DataFrame | None
) -> tuple[pl.DataFrame, str | None]:
    """Baselines of these scenes, (scene_id, baseline, probs), and a note if those that need a log are missing.

    They come from `directory`, joined by id. Without it: uniform, and the best position for each number of options,
    counted on `train` scenes or else on these scenes (which flatters it slightly, so its name says so). Raises
    UserError if the directory does not cover all scenes.
    """
    if directory is None:
        name = "best position" if train is not None else "best position of this file"
        rows = pl.concat([uniform(scenes), _best_position(scenes, train if train is not None else scenes, name)])
        return rows, "no log beside these scenes: baselines that need one (popularity, content, CF) are missing"
    rows = pl.DataFrame(read_parts(directory, BASELINE_COLUMNS))
    rows = rows.join(scenes.select("scene_id"), on="scene_id", how="semi")
    for (name,), own in rows.group_by(["baseline"], maintain_order=True):
        if own["scene_id"].n_unique() < len(scenes):
            missing = scenes.join(own, on="scene_id", how="anti")["scene_id"]
            raise UserError(
                f"{directory}: baseline {name} lacks {len(missing)} of {len(scenes)} scenes, the first {missing[0]}; "
                "run `usermirrorer scenes` again"
            )
    return rows, None


def uniform(scenes: pl.DataFrame) -> pl.DataFrame:
    """Equal probabilities, (scene_id, baseline, probs)."""
    return _frame(scenes, "uniform", [[1 / n] * n for n in scenes["choice_cnt"].to_list()])


def _best_position(scenes: pl.DataFrame, counted: pl.DataFrame, name: str) -> pl.DataFrame:
    """The share of choices at each position among `counted` scenes with as many options; uniform if there are none."""
    shares: dict[int, list[float]] = {}
    for n in scenes["choice_cnt"].unique():
        positions = counted.filter(pl.col("choice_cnt") == n)["item_pos"].to_numpy()
        times = np.bincount(positions, minlength=n) + 1.0
        shares[n] = (times / times.sum()).tolist()
    return _frame(scenes, name, [shares[n] for n in scenes["choice_cnt"].to_list()])


def _frame(scenes: pl.DataFrame, name: str, probs: list[list[float]]) -> pl.DataFrame:
    return pl.DataFrame({"scene_id": scenes["scene_id"], "baseline": [name] * len(scenes), "probs": probs})
