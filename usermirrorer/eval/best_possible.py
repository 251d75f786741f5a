"""The best possible prediction, where it is known: for the synthetic domains, whose tastes have a posterior."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from usermirrorer.data.sources import toy
from usermirrorer.errors import UserError


FROM_TEXT = "best possible from the text"
FROM_LOG = "best possible from the whole history"


def best_possible(scenes: pl.DataFrame, tables: Path | None = None) -> dict[str, pl.DataFrame]:
    """Name -> (scene_id, probs): the posterior of every option given what the scene shows and, if the log is in the
    directory `tables`, given every earlier choice of the user.

    Empty unless all scenes are real impressions of `toy` or matched groups of `toy-log`; lists that a sampler made
    have no such posterior.
    """
    if not all(map(_is_known, scenes["dataset"], scenes["group_id"])):
        return {}
    shown = [toy.shown_tastes(text) for text in scenes["text"]]
    found = {FROM_TEXT: _posterior(scenes, [history for history, _ in shown], [options for _, options in shown])}
    if tables is not None:
        found[FROM_LOG] = _posterior(scenes, _whole_histories(scenes, tables), [options for _, options in shown])
    return found


def expected(best: pl.DataFrame) -> Mapping[str, float]:
    """What the posterior expects of itself: arg-max accuracy, mean max p, and accuracy, mean Σ p²."""
    probs = [np.array(row) for row in best["probs"]]
    return {
        "argmax_accuracy": float(np.mean([row.max() for row in probs])),
        "accuracy": float(np.mean([(row**2).sum() for row in probs])),
    }


def _is_known(dataset: str, group: str | None) -> bool:
    return dataset == ("toy" if group is None else "toy-log")


def _posterior(scenes: pl.DataFrame, histories: list[list[str]], options: list[list[str]]) -> pl.DataFrame:
    ways = [toy.best_possible if group is None else toy.best_possible_in_group for group in scenes["group_id"]]
    probs = [way(*tastes).tolist() for way, tastes in zip(ways, zip(histories, options, strict=True), strict=True)]
    return pl.DataFrame({"scene_id": scenes["scene_id"], "probs": probs})


def _whole_histories(scenes: pl.DataFrame, tables: Path) -> list[list[str]]:
    """Tastes of everything each scene's user chose before it, oldest first."""
    path = tables / "interactions.parquet"
    log = pl.read_parquet(path, columns=["user_id", "item_id", "timestamp"]).sort("timestamp")
    taste = dict(toy.items().select("item_id", "taste").iter_rows())
    by_user = {
        user: (own["timestamp"].to_numpy(), [taste[item] for item in own["item_id"]])
        for (user,), own in log.group_by(["user_id"], maintain_order=True)
    }
    histories = []
    for user, time in scenes.select("user_id", pl.col("timestamp").dt.epoch("ms")).iter_rows():
        if user not in by_user:
            raise UserError(f"{path} lacks user {user} of these scenes; run `usermirrorer prepare` again")
        times, tastes = by_user[user]
        histories.append(tastes[: np.searchsorted(times, time)])
    return histories
