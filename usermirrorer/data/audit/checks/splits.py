"""Checks of a whole split of scenes: no choice in the other split too, uniform positions, the exposure probe."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.joins import scene_key
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, Check, Result
from usermirrorer.data.audit.checks.rules import bad_rows
from usermirrorer.wording import describe_probe


ALPHA = 0.001
"""Significance level, Holm-corrected over the list lengths: one false alarm in 1,000 artefacts."""

MIN_EXPECTED = 5
"""Scenes per position, on average, that a chi-squared test needs."""

KEY_COLUMNS = ("scene_id", "dataset", "user_id", "item_id", "timestamp")
CHOICE = pl.struct("dataset", "user_id", "item_id", "timestamp").hash()
OCCASION = pl.struct("dataset", "user_id", "timestamp").hash()
USER = pl.struct("dataset", "user_id").hash()

KEYS = {
    "scene": pl.UInt64, "choice": pl.UInt64, "occasion": pl.UInt64, "user": pl.UInt64,
    "_file": pl.String, "_row": pl.Int64,
}  # fmt: skip


def scene_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """KEYS of a batch that has KEY_COLUMNS: all that is needed to find what rows and splits share."""
    scene = scene_key(pl.col("scene_id"))
    return frame.select("_file", "_row", scene=scene, choice=CHOICE, occasion=OCCASION, user=USER).select(*KEYS)


def check_splits(artefact: Artefact, keys: pl.DataFrame) -> list[Check]:
    """Whether a choice is in the other split too, and for test scenes, how many users have train scenes."""
    other = {"train": "test", "test": "train"}.get(artefact.part, "")
    sibling = artefact.beside("scenes", other) if other else None
    if sibling is None:
        return [Check(artefact.name, "disjoint", "skipped", f"no {other or 'other'} scenes beside it")]
    theirs = pl.concat([pl.DataFrame(schema=KEYS), *map(scene_keys, sibling.rows(KEY_COLUMNS))])
    shared = keys["choice"].filter(keys["choice"].is_in(theirs["choice"].implode())).unique()
    checks = [Check(artefact.name, "disjoint", "ok", f"shares no choice with {sibling.name}")]
    if len(shared):
        rows = (frame.filter(CHOICE.is_in(shared.implode())) for frame in artefact.rows(KEY_COLUMNS))
        bad = chain.from_iterable(bad_rows(found, pl.lit("its choice is in the other split too")) for found in rows)
        summary = f"{len(shared):,} choices are {other} choices too"
        checks = [Check(artefact.name, "disjoint", "failed", summary, tuple(islice(bad, MAX_BAD_ROWS)))]
    if artefact.part == "test":
        known = keys["user"].is_in(theirs["user"].implode())
        users, known_users = keys["user"].n_unique(), keys["user"].filter(known).n_unique()
        summary = f"{known_users:,} of {users:,} have train scenes (they have {known.sum():,} of {len(keys):,} scenes)"
        checks.append(Check(artefact.name, "users", "ok", f"{summary}, {users - known_users:,} are new"))
    return checks


def check_positions(name: str, positions: np.ndarray) -> Check:
    """A chi-squared test, per list length and Holm-corrected, that the choice's position is uniform.

    `positions` counts choices, `(options, position)`.
    """
    from scipy.stats import chisquare

    lengths = [n for n, found in enumerate(positions) if found.any()]
    tested = [n for n in lengths if positions[n].sum() >= MIN_EXPECTED * n]
    if not tested:
        return Check(name, "positions", "skipped", "too few scenes of any list length")
    p_values = {n: float(chisquare(positions[n, :n]).pvalue) for n in tested}
    worst = min(p_values, key=p_values.__getitem__)
    p = min(1.0, p_values[worst] * len(p_values))
    untested = len(lengths) - len(tested)
    counts = " ".join(map(str, positions[worst, :worst]))
    summary = f"choices at each position in lists of {worst}: {counts}; lowest p = {p:.2g}; list lengths tested: "
    summary += f"{len(tested)}" + (f", with too few scenes: {untested}" if untested else "")
    return Check(name, "positions", "failed" if p < ALPHA else "ok", summary)


def check_probe(artefact: Artefact) -> Check:
    """Whether the manifest has the exposure probe, and whether the probe warns."""
    probe = artefact.content.get("probe")
    if not probe:
        result: Result = "failed" if artefact.content else "warning"
        return Check(artefact.name, "probe", result, "no probe: how much the exposure gives away is unknown")
    warning = "the exposure gives the choice away: " if probe["warning"] else ""
    return Check(artefact.name, "probe", "warning" if probe["warning"] else "ok", warning + describe_probe(probe))
