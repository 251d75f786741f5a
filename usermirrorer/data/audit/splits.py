"""Checks of a whole split of scenes: no choice shared with the other, uniform positions, the exposure probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks import SHOWN, BadRow, Check, Result, bad_rows


ALPHA = 0.001
"""Below this probability, Holm-corrected over the list lengths, positions are not uniform: a false alarm in 1,000."""

LEAST_EXPECTED = 5
"""Scenes at each position, on average, that a chi-squared test needs."""

KEY_COLUMNS = ("scene_id", "dataset", "user_id", "item_id", "timestamp")


@dataclass
class Keys:
    """64-bit keys of the scenes of a split, a batch each: what they share with another is found from these."""

    id: list[np.ndarray] = field(default_factory=list)
    choice: list[np.ndarray] = field(default_factory=list)
    occasion: list[np.ndarray] = field(default_factory=list)
    user: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: pl.DataFrame) -> None:
        """Remember a batch with KEY_COLUMNS; a scene_id that is none has the key 0."""
        keys = frame.select(
            id=scene_key(pl.col("scene_id")),
            choice=pl.struct("dataset", "user_id", "item_id", "timestamp").hash(),
            occasion=pl.struct("dataset", "user_id", "timestamp").hash(),
            user=pl.struct("dataset", "user_id").hash(),
        )
        for name in keys.columns:
            getattr(self, name).append(keys[name].to_numpy())


def scene_key(scene_id: pl.Expr) -> pl.Expr:
    """The 64 bits of a scene_id, 0 for what is none."""
    return scene_id.str.to_integer(base=16, dtype=pl.UInt64, strict=False).fill_null(0)


def check_splits(artefact: Artefact, keys: Keys) -> list[Check]:
    """That no choice is in the other split too, and how many test users are known from train."""
    other = {"train": "test", "test": "train"}.get(artefact.part, "")
    sibling = artefact.beside("scenes", other) if other else None
    if sibling is None:
        return [Check(artefact.name, "disjoint", "skipped", f"there are no {other or 'other'} scenes beside it")]
    theirs = Keys()
    for frame in sibling.rows(KEY_COLUMNS):
        theirs.add(frame)
    shared = np.intersect1d(_all(keys.choice), _all(theirs.choice))
    told = f"{len(shared):,} choices are {other} choices too" if len(shared) else f"no choice of {sibling.name}"
    bad: tuple[BadRow, ...] = ()
    if len(shared):
        bad = _shared_rows(artefact, shared)
    checks = [Check(artefact.name, "disjoint", "failed" if len(shared) else "ok", told, bad)]
    if artefact.part == "test":
        mine, known = _all(keys.user), _all(theirs.user)
        warm, users = np.isin(mine, known), np.unique(mine)
        warm_users = int(np.isin(users, known).sum())
        told = (
            f"{warm_users:,} of {len(users):,} have train scenes ({warm.sum():,} of {len(mine):,} scenes are theirs), "
            f"{len(users) - warm_users:,} are new"
        )
        checks.append(Check(artefact.name, "users", "ok", told))
    return checks


def uniform_positions(name: str, positions: Mapping[int, np.ndarray]) -> Check:
    """A chi-squared test of the choice's position for every list length, Holm-corrected."""
    from scipy.stats import chisquare

    tested = {n: found for n, found in sorted(positions.items()) if found.sum() >= LEAST_EXPECTED * n}
    if not tested:
        return Check(name, "positions", "skipped", "too few scenes of any list length")
    values = {n: float(chisquare(found).pvalue) for n, found in tested.items()}
    ranked = sorted(values, key=values.__getitem__)
    holm = {n: values[n] * (len(ranked) - rank) for rank, n in enumerate(ranked)}
    worst = ranked[0]
    told = f"choices at each position of lists of {worst}: {' '.join(map(str, tested[worst]))}"
    least = min(1.0, holm[worst])
    left = len(positions) - len(tested)
    told += f"; p = {least:.2g}, least of {len(tested)} lengths" + (f", {left} with too few scenes" if left else "")
    return Check(name, "positions", "failed" if least < ALPHA else "ok", told)


def check_probe(artefact: Artefact) -> Check:
    """That the exposure probe is in the manifest, and its warning."""
    probe = (artefact.content or {}).get("probe")
    if not probe:
        result: Result = "warning" if artefact.content is None else "failed"
        return Check(artefact.name, "probe", result, "there is none: how much the exposure gives away is not known")
    warned = "the exposure gives the choice away: " if probe["warning"] else ""
    return Check(artefact.name, "probe", "warning" if probe["warning"] else "ok", warned + told_probe(probe))


def told_probe(probe: Mapping[str, Any]) -> str:
    """The probe in one line."""
    found = probe["accuracy"]
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}], chance {probe['chance']:.3f}"


def _shared_rows(artefact: Artefact, shared: np.ndarray) -> tuple[BadRow, ...]:
    """The first rows of an artefact whose choice is among the shared."""
    rows: list[BadRow] = []
    for frame in artefact.rows(KEY_COLUMNS):
        mine = frame.select(pl.struct("dataset", "user_id", "item_id", "timestamp").hash()).to_series().to_numpy()
        found = frame.filter(pl.Series(np.isin(mine, shared))).head(SHOWN - len(rows))
        rows += bad_rows(found.with_columns(_reason=pl.lit("its choice is in the other split too")))
        if len(rows) == SHOWN:
            break
    return tuple(rows)


def _all(keys: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)
