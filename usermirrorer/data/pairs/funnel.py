"""How many scenes are left after each stage on the way to pairs, and what to change where hardly any is."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from usermirrorer.data.artefacts.schema import VARIANTS
from usermirrorer.data.pairs.candidates import PairCandidates


FEWEST = 0.1
"""Share of the pairs asked for: with fewer, `distill` fails, because nothing can be learned from so few."""

STAGES = ("scenes", "scored", "with_accepted", "with_enough_accepted", "available")
"""Scenes, those with scored decisions of both variants, those with any and with enough accepted ones, and those that
also have one to reject."""


def funnel(found: Mapping[str, PairCandidates]) -> dict[str, dict[str, int]]:
    """Scenes left after each of `STAGES`, by dataset."""
    return {name: dict(zip(STAGES, _left(one), strict=True)) for name, one in found.items()}


def _left(one: PairCandidates) -> tuple[int, ...]:
    accepted = one.scenes["accepted"]
    enough = (accepted >= one.scenes["needed"]).sum()
    scenes, pairs = one.counts["scenes"], one.pairs["scene_id"].n_unique()
    return scenes, len(one.scenes), int((accepted > 0).sum()), int(enough), pairs


def shortage(found: Mapping[str, PairCandidates], asked: int) -> str:
    """Why fewer than `FEWEST` of the pairs asked for can be made, and what to change; empty if there are more."""
    left = [sum(counts) for counts in zip(*map(_left, found.values()), strict=True)]
    available = left[-1]
    if available >= FEWEST * asked:
        return ""
    before = [max(asked, left[0]), *left[:-1]]
    worst = min(range(len(left)), key=lambda stage: left[stage] / max(before[stage], 1))
    number = f"{before[worst] - left[worst]:,} of {before[worst]:,} scenes"
    why, remedy = (
        (f"there are no more than {left[0]:,} train scenes", "make more scenes"),
        (f"{number} have no scored decision of both writers", "take models with a longer context"),
        _nothing_accepted(found, number),
        (
            f"{number} have fewer accepted decisions than they need so as to beat chance",
            "decide more samples per scene, with a better strong writer, or accept less with --min-accepted 1",
        ),
        (f"{number} have no decision to reject", "decide more samples per scene, or add --rejected-from any"),
    )[worst]
    fewer = f", or ask for --num {available}" if available else ""
    return (
        f"{', '.join(found)}: {available:,} of {asked:,} pairs can be made, less than a tenth: {why}; {remedy}{fewer} "
        f"(the decisions and predictions stay)"
    )


def _nothing_accepted(found: Mapping[str, PairCandidates], number: str) -> tuple[str, str]:
    decided = [one.counts[variant] for one in found.values() for variant in VARIANTS]
    decisions, usable, read = (sum(one[key] for one in decided) for key in ("decisions", "usable", "read_as_named"))
    if 2 * usable < decisions:
        return (
            f"{1 - usable / max(decisions, 1):.0%} of the decisions are cut off or name no option",
            "decide with a larger --max-tokens, or with a writer that keeps to the form",
        )
    chance = pl.concat([one.scenes["choice_cnt"] for one in found.values()]).pow(-1.0).mean()
    assert isinstance(chance, float)
    if read < 1.5 * chance * usable:
        return (
            f"the predictor names the writer's own option after {read / usable:.0%} of the decisions, where guessing "
            f"gives {chance:.0%}, so it can't read them",
            "score with another predictor",
        )
    return (
        f"in {number} no strong decision is accepted, because writer and predictor must both name the real choice",
        "decide with a better strong writer or more samples per scene, or score with a better predictor",
    )
