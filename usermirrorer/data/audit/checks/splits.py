"""Checks of a whole split of scenes: no choice in the other split too, uniform positions, the exposure probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, Result
from usermirrorer.data.audit.checks.rules import bad_rows


ALPHA = 0.001
"""Significance level, Holm-corrected over the list lengths: one false alarm in 1,000 artefacts."""

MIN_EXPECTED = 5
"""Scenes per position, on average, that a chi-squared test needs."""

KEY_COLUMNS = ("scene_id", "dataset", "user_id", "item_id", "timestamp")
CHOICE = ("dataset", "user_id", "item_id", "timestamp")
OCCASION = ("dataset", "user_id", "timestamp")
USER = ("dataset", "user_id")


@dataclass
class SceneKeys:
    """64-bit keys of a split's scenes, one array per batch: enough to find what two splits share."""

    scene: list[np.ndarray] = field(default_factory=list)
    choice: list[np.ndarray] = field(default_factory=list)
    occasion: list[np.ndarray] = field(default_factory=list)
    user: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: pl.DataFrame) -> None:
        """Add a batch that has KEY_COLUMNS."""
        keys = frame.select(
            scene=scene_key(pl.col("scene_id")),
            choice=pl.struct(CHOICE).hash(),
            occasion=pl.struct(OCCASION).hash(),
            user=pl.struct(USER).hash(),
        )
        for name in keys.columns:
            getattr(self, name).append(keys[name].to_numpy())


def scene_key(scene_id: pl.Expr) -> pl.Expr:
    """The 64 bits of a scene_id; 0 if it is not one."""
    return scene_id.str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)


def all_keys(batches: list[np.ndarray]) -> np.ndarray:
    """The keys of all batches, as `(scenes,)`."""
    return np.concatenate(batches) if batches else np.zeros(0, dtype=np.uint64)


def check_splits(artefact: Artefact, keys: SceneKeys) -> list[Check]:
    """Whether a choice is in the other split too, and for test scenes, how many users have train scenes."""
    other = {"train": "test", "test": "train"}.get(artefact.part, "")
    sibling = artefact.beside("scenes", other) if other else None
    if sibling is None:
        return [Check(artefact.name, "disjoint", "skipped", f"no {other or 'other'} scenes beside it")]
    theirs = SceneKeys()
    for frame in sibling.rows(KEY_COLUMNS):
        theirs.add(frame)
    shared = np.intersect1d(all_keys(keys.choice), all_keys(theirs.choice))
    if len(shared):
        summary = f"{len(shared):,} choices are {other} choices too"
        checks = [Check(artefact.name, "disjoint", "failed", summary, _shared_rows(artefact, shared))]
    else:
        checks = [Check(artefact.name, "disjoint", "ok", f"shares no choice with {sibling.name}")]
    if artefact.part == "test":
        checks.append(_known_users(artefact.name, all_keys(keys.user), all_keys(theirs.user)))
    return checks


def check_positions(name: str, positions: Mapping[int, np.ndarray]) -> Check:
    """A chi-squared test, per list length and Holm-corrected, that the choice's position is uniform.

    `positions` maps a list length to the number of choices at each position.
    """
    from scipy.stats import chisquare

    tested = {n: found for n, found in sorted(positions.items()) if found.sum() >= MIN_EXPECTED * n}
    if not tested:
        return Check(name, "positions", "skipped", "too few scenes of any list length")
    p_values = {n: float(chisquare(found).pvalue) for n, found in tested.items()}
    worst = min(p_values, key=p_values.__getitem__)
    p = min(1.0, p_values[worst] * len(p_values))
    untested = len(positions) - len(tested)
    counts = " ".join(map(str, tested[worst]))
    summary = f"choices at each position in lists of {worst}: {counts}; lowest p = {p:.2g}; list lengths tested: "
    summary += f"{len(tested)}" + (f", with too few scenes: {untested}" if untested else "")
    return Check(name, "positions", "failed" if p < ALPHA else "ok", summary)


def check_probe(artefact: Artefact) -> Check:
    """Whether the manifest has the exposure probe, and whether the probe warns."""
    probe = (artefact.content or {}).get("probe")
    if not probe:
        result: Result = "warning" if artefact.content is None else "failed"
        return Check(artefact.name, "probe", result, "no probe: how much the exposure gives away is unknown")
    warning = "the exposure gives the choice away: " if probe["warning"] else ""
    return Check(artefact.name, "probe", "warning" if probe["warning"] else "ok", warning + describe_probe(probe))


def describe_probe(probe: Mapping[str, Any]) -> str:
    """The probe in one line: accuracy, its interval, and chance."""
    accuracy = probe["accuracy"]
    return f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}], chance {probe['chance']:.3f}"


def _known_users(name: str, mine: np.ndarray, theirs: np.ndarray) -> Check:
    """How many test users, and scenes, are known from train; keys as `(scenes,)`."""
    users, known = np.unique(mine), np.isin(mine, theirs)
    known_users = int(np.isin(users, theirs).sum())
    summary = (
        f"{known_users:,} of {len(users):,} have train scenes (they have {known.sum():,} of {len(mine):,} scenes)"
    )
    return Check(name, "users", "ok", f"{summary}, {len(users) - known_users:,} are new")


def _shared_rows(artefact: Artefact, shared: np.ndarray) -> tuple[BadRow, ...]:
    """The first rows of an artefact whose choice is among the shared."""
    rows: list[BadRow] = []
    for frame in artefact.rows(KEY_COLUMNS):
        choices = frame.select(pl.struct(CHOICE).hash()).to_series().to_numpy()
        found = frame.filter(pl.Series(np.isin(choices, shared))).head(MAX_BAD_ROWS - len(rows))
        rows += bad_rows(found, pl.lit("its choice is in the other split too"))
        if len(rows) == MAX_BAD_ROWS:
            break
    return tuple(rows)
