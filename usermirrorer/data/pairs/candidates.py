"""Decisions and predictions → candidate pairs, from scenes with enough accepted decisions and one to reject.

A decision's predicted behaviour is the arg-max of the predictor's p_j, or one seeded draw from it. A decision is
*accepted* if its writer and the predictor both name the real choice. The chosen side is the scene's accepted strong
decision with the lowest entropy. The rejected side is a finished decision whose writer and predictor both name options
that are neither the choice nor chosen later: for each label the one with the lowest entropy. Its label is the
writer's, even if the predictor names another (counted). A decision for which only one of the two names the choice is
on neither side.

A scene's score is how much more certain the strong decisions make the predictor than the weak ones (paper, section
3.3): mean H(p_j) of weak − of strong, each divided by log2 n, over all scored decisions, unfinished ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.reader import read_frames
from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.errors import UserError
from usermirrorer.measures import TIE, entropy, entropy_expected, entropy_total, normalised
from usermirrorer.seeds import Stream, scene_keys, uniforms
from usermirrorer.steps import DistillSettings


CHANCE = 0.25
"""A scene is kept if random guesses would be accepted that often with at most this probability."""

KEY = ["scene_id", "variant", "sample"]

SCENE_COLUMNS = [
    "scene_id", "dataset", "user_id", "item_id", "timestamp", "group_id", "impression_list", "item_pos", "choices",
    "choice_cnt", "item_cnt", "later_chosen",
]  # fmt: skip

OF_ALL = ["scene_id", "dataset", "choice_cnt", "samples", "accepted", "needed", "chance_kept", "score"]
"""What stays in memory of scenes that give no pair."""

TOGETHER = 8
"""Shards that are read at a time: what memory a domain takes does not depend on how many scenes it has."""


@dataclass(frozen=True)
class PairCandidates:
    """The candidate pairs of a domain, the scenes they come from, and how many were left out, by reason."""

    scenes: pl.DataFrame
    """One row per scene with scored decisions of both variants"""
    pairs: pl.DataFrame
    """One row per (scene, rejected label)"""
    counts: dict[str, Any]


def min_accepted(samples: int, options: int) -> int:
    """The smallest k that `samples` guesses among `options` reach with probability at most `CHANCE`.

    It is `samples` + 1, which nothing reaches, if even all guesses right are likelier than that.
    """
    return next(k for k in range(samples + 2) if chance_of(k, samples, options) <= CHANCE)


def chance_of(accepted: int, samples: int, options: int) -> float:
    """Probability of at least `accepted` hits in `samples` guesses among `options`."""
    from scipy.stats import binom

    return float(binom.sf(accepted - 1, samples, 1 / options))


def predicted_behaviour(probs: np.ndarray, draws: np.ndarray, how: str) -> np.ndarray:
    """The option that the predictor names for each decision, `(rows,)`, from `probs` `(rows, options)`.

    `draws` `(rows,)` in [0, 1) pick among equally probable options (`argmax`), or among all by probability (`sample`,
    as published).
    """
    weights = (probs >= probs.max(axis=1, keepdims=True) - TIE) * 1.0 if how == "argmax" else probs
    below = np.cumsum(weights, axis=1)
    return np.argmax(below > draws[:, None] * below[:, -1:], axis=1)


def pair_candidates(work: Path, name: str, settings: DistillSettings) -> PairCandidates:
    """All candidate pairs of a domain, sorted by scene. Raises UserError if predictions do not match decisions.

    Scenes are worked through `TOGETHER` at a time, with their decisions and predictions, which lie in the same order.
    """
    directory = work / "scenes" / name / "train"
    rows = {
        (step, variant): _InOrder(work / step / name / variant, columns)
        for variant in VARIANTS
        for step, columns in (("decisions", [*KEY, "behavior", "finish_reason"]), ("predictions", [*KEY, "probs"]))
    }
    found = [
        _candidates(scenes, {key: one.take(scenes["scene_id"]) for key, one in rows.items()}, rows, settings)
        for scenes in read_frames(directory, SCENE_COLUMNS, TOGETHER)
    ]
    for one in rows.values():
        one.check_empty(directory)
    scenes = pl.concat([one.scenes for one in found]).sort("scene_id")
    pairs = pl.concat([one.pairs for one in found]).sort("scene_id", "label")
    counts = _sum([one.counts for one in found])
    return PairCandidates(scenes, pairs, counts | {"acceptance": _acceptance(scenes)})


class _InOrder:
    """Rows of a step, handed out scene by scene in the order of the scenes."""

    def __init__(self, directory: Path, columns: Sequence[str]) -> None:
        self.directory = directory
        self.frames = read_frames(directory, columns, TOGETHER)
        self.held = next(self.frames)
        """Read and not yet handed out"""

    def take(self, scenes: pl.Series) -> pl.DataFrame:
        """The next rows, as far as they are of some scenes. Raises UserError for a row that is there twice."""
        taken = []
        while True:
            inside = self.held["scene_id"].is_in(scenes.implode())
            count = len(inside) if inside.all() else int(inside.arg_min() or 0)
            taken.append(self.held[:count])
            self.held = self.held[count:]
            following = None if len(self.held) else next(self.frames, None)
            if following is None:
                break
            self.held = following
        rows = pl.concat(taken)
        if rows.select(KEY).is_duplicated().any():
            raise UserError(
                f"{self.directory}: a (scene_id, variant, sample) occurs twice; delete it and rerun its step"
            )
        return rows

    def check_empty(self, scenes: Path) -> None:
        """Raises UserError if rows are left: they are of no scene, or not in the scenes' order."""
        if len(self.held):
            raise UserError(
                f"{self.directory}: scene {self.held['scene_id'][0]} is not where {scenes} has it; delete it and "
                "rerun its step"
            )


def _candidates(
    scenes: pl.DataFrame,
    rows: Mapping[tuple[str, str], pl.DataFrame],
    places: Mapping[tuple[str, str], _InOrder],
    settings: DistillSettings,
) -> PairCandidates:
    """The candidate pairs of some scenes."""
    counts: dict[str, Any] = {"scenes": len(scenes)}
    scenes = scenes.filter(pl.col("choices").list.len() > 0).sort("scene_id")
    counts["no_choice"] = counts["scenes"] - len(scenes)
    scored: dict[str, pl.DataFrame] = {}
    for variant in VARIANTS:
        decisions, predictions = rows["decisions", variant], rows["predictions", variant]
        place = places["predictions", variant].directory
        scored[variant], uncertainty, counts[variant] = _scored(
            decisions, predictions, variant, scenes, settings, place
        )
        before = len(scenes)
        scenes = scenes.join(uncertainty, on="scene_id", maintain_order="left")
        counts[f"no_{variant}_decision"] = before - len(scenes)
    bits = [normalised(scenes[f"entropy_expected_{v}"].to_numpy(), scenes["choice_cnt"].to_numpy()) for v in VARIANTS]
    scenes = scenes.with_columns(score=pl.Series(bits[1] - bits[0], dtype=pl.Float64))

    correct = [pl.col(name) == pl.col("item_pos") for name in ("behavior", "predicted")]
    strong = scored["strong"].with_columns(accepted=pl.all_horizontal("usable", *correct))
    tallies = (
        strong.group_by("scene_id")
        .agg(pl.len().alias("samples"), pl.col("accepted").sum())
        .cast({"samples": pl.Int64, "accepted": pl.Int64})
    )
    scenes = _with_needed(scenes.join(tallies, on="scene_id", maintain_order="left"), settings.min_accepted)
    enough = scenes.filter(pl.col("accepted") >= pl.col("needed"))
    counts["too_few_accepted"] = len(scenes) - len(enough)
    best = _lowest(strong.filter("accepted"), ["scene_id"]).select(
        "scene_id", sample_chosen="sample", entropy_chosen="entropy"
    )
    pool = pl.concat([scored[variant] for variant in VARIANTS[: 1 if settings.rejected_from == "strong" else 2]])
    wrong, counts["not_rejected"] = _rejectable(pool.join(enough.select("scene_id"), on="scene_id"), enough)
    rejected = _lowest(wrong, ["scene_id", "behavior"]).select(
        "scene_id", label="behavior", predicted_rejected="predicted", rejected_from="variant",
        sample_rejected="sample", entropy_rejected="entropy",
    )  # fmt: skip
    pairs = enough.join(best, on="scene_id").join(rejected, on="scene_id")
    pairs = pairs.with_columns(item_rejected=pl.col("impression_list").list.get("label"))
    counts["nothing_to_reject"] = len(enough) - pairs["scene_id"].n_unique()
    return PairCandidates(scenes.select(OF_ALL), pairs.drop("impression_list", "choices", "later_chosen"), counts)


def _sum(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up, those inside others too."""
    return {
        name: _sum([one[name] for one in counts]) if isinstance(value, Mapping) else sum(one[name] for one in counts)
        for name, value in counts[0].items()
    }


def _scored(
    decisions: pl.DataFrame,
    predictions: pl.DataFrame,
    variant: str,
    scenes: pl.DataFrame,
    settings: DistillSettings,
    place: Path,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Decisions of these scenes with what the predictor makes of them; each scene's entropies; counts by reason.

    `place` is where the predictions are from.
    """
    rows = decisions.join(predictions, on=KEY)
    unscored = len(decisions) - len(rows)
    rows = rows.join(scenes.select("scene_id", "item_pos", "choice_cnt"), on="scene_id").sort(KEY)
    uneven = rows.filter(pl.col("probs").list.len() != pl.col("choice_cnt"))
    if len(uneven):
        first = uneven["scene_id"][0]
        raise UserError(f"{place}: scene {first} lacks one probability per option; delete it and rerun score")
    cut, unlabelled = pl.col("finish_reason") == "length", pl.col("behavior").is_null()
    counts = {
        "decisions": len(decisions),
        "not_scored": unscored,
        "cut_off": int(rows.select(cut.sum()).item()),
        "no_label": int(rows.select((unlabelled & ~cut).sum()).item()),
    }
    probs = _matrix(rows["probs"])
    named = predicted_behaviour(probs, _draws(rows, variant, settings.seed), settings.behaviour)
    predicted = rows.drop("probs", "finish_reason").with_columns(
        usable=rows.select(~cut.fill_null(False) & ~unlabelled).to_series(),
        predicted=pl.Series(named, dtype=pl.Int64),
        entropy=pl.Series(entropy(probs)),
    )
    usable = predicted.filter("usable")
    counts |= {"usable": len(usable), "read_as_named": len(usable.filter(pl.col("behavior") == pl.col("predicted")))}
    return predicted, _uncertainty(rows["scene_id"], probs, variant), counts


def _matrix(probs: pl.Series) -> np.ndarray:
    """Lists as a matrix padded with zeros, `(rows, most options)`."""
    lengths = probs.list.len().to_numpy()
    matrix = np.zeros((len(probs), lengths.max(initial=1)))
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = probs.explode(empty_as_null=False).to_numpy()
    return matrix


def _draws(rows: pl.DataFrame, variant: str, seed: int) -> np.ndarray:
    """One number in [0, 1) per decision that depends only on (seed, scene_id, variant, sample): `(rows,)`."""
    ids, scene = np.unique(rows["scene_id"].to_numpy().astype("S16"), return_inverse=True)
    sample = rows["sample"].to_numpy()
    drawn = uniforms(scene_keys(seed, ids), Stream.BEHAVIOUR + VARIANTS.index(variant), int(sample.max(initial=0)) + 1)
    return drawn[scene, sample]


def _uncertainty(scene_id: pl.Series, probs: np.ndarray, variant: str) -> pl.DataFrame:
    """Expected and total entropy of each scene in bits."""
    ids, group = np.unique(scene_id.to_numpy().astype("S16"), return_inverse=True)
    return pl.DataFrame(
        {
            "scene_id": pl.Series(ids.astype("U16"), dtype=pl.String),
            f"entropy_expected_{variant}": entropy_expected(probs, group),
            f"entropy_total_{variant}": entropy_total(probs, group),
        }
    )


def _with_needed(scenes: pl.DataFrame, fewest: int | None) -> pl.DataFrame:
    """Scenes with how many accepted decisions each needs, and the probability that guesses reach it."""
    kinds = scenes.select("samples", "choice_cnt").unique(maintain_order=True)
    needed = [min_accepted(m, n) if fewest is None else fewest for m, n in kinds.iter_rows()]
    chance = [chance_of(k, m, n) for k, (m, n) in zip(needed, kinds.iter_rows(), strict=True)]
    kinds = kinds.with_columns(
        needed=pl.Series(needed, dtype=pl.Int64), chance_kept=pl.Series(chance, dtype=pl.Float64)
    )
    return scenes.join(kinds, on=["samples", "choice_cnt"], maintain_order="left")


def _acceptance(scenes: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """By number of options: shares of decisions accepted and scenes kept, each beside those of random guesses."""
    by = scenes.group_by("choice_cnt").agg(
        scenes=pl.len(),
        accepted=pl.col("accepted").sum() / pl.col("samples").sum(),
        accepted_by_chance=1 / pl.col("choice_cnt").first(),
        min_accepted=pl.col("needed").unique().sort(),
        kept=(pl.col("accepted") >= pl.col("needed")).mean(),
        kept_by_chance=pl.col("chance_kept").mean(),
    )
    return {str(row.pop("choice_cnt")): row for row in by.sort("choice_cnt").to_dicts()}


def _rejectable(pool: pl.DataFrame, scenes: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Decisions that can be rejected, and how many can neither be accepted nor rejected, by reason."""
    named = pool.filter("usable")
    right, predicted_right = (pl.col(column) == pl.col("item_pos") for column in ("behavior", "predicted"))
    wrong = named.filter(~right, ~predicted_right)
    chosen = scenes.select("scene_id", option=pl.concat_list("choices", "later_chosen")).explode("option").drop_nulls()
    allowed = wrong
    for column in ("behavior", "predicted"):
        allowed = allowed.join(chosen, left_on=["scene_id", column], right_on=["scene_id", "option"], how="anti")
    return allowed, {
        "cut_off_or_no_label": len(pool) - len(named),
        "names_choice_but_reads_otherwise": len(named.filter(right, ~predicted_right)),
        "reads_as_choice_but_names_another": len(named.filter(~right, predicted_right)),
        "chosen_later_too": len(wrong) - len(allowed),
    }


def _lowest(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """The row with the lowest entropy of each group; ties go to strong, then to the earliest sample."""
    return rows.sort(*by, "entropy", "variant", "sample").unique(by, keep="first", maintain_order=True)
