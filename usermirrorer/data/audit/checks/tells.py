"""Numbers that tell the choice apart: every number shown of an option, and every count of earlier interactions.

A value's share among the choices is compared with its share among the options, where each option weighs 1/n of its
scene. In groups both are equal, whatever the value, because each option of a list is the choice once. What an option
says about the user in person ("tagged by 3 of the user's friends") is left out.
"""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, Result
from usermirrorer.data.audit.checks.splits import ALPHA
from usermirrorer.data.sources import load_domain
from usermirrorer.data.sources.domain import Domain
from usermirrorer.data.sources.templates import parse
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import EVIDENCE_PATTERN, LABELS


NUMBER = r"[$€£(]?\d+(?:[.,]\d+)*(?:/\d+(?:\.\d+)?)?[)%]?(?:\s\p{L}+)?"
"""A number as it stands, with the word that follows: `(1994)`, `4.5/5`, `1 review`."""

SMALL_COUNTS, COLD = 10, 5
"""Counts below the first are values of their own, larger ones fall into bins that double; those below the second are
also counted together."""

FEWEST = 30
"""A value of fewer options is left out."""

RATIO, GAP = 2.0, 0.05
"""A value tells the choice apart if its share is this many times as large, or as small, or differs by this much …"""

VALUES = pl.Schema(
    {
        "value": pl.String, "grouped": pl.Boolean, "count": pl.Int64,
        "options": pl.Int64, "chosen": pl.Int64, "variance": pl.Float64,
    }
)  # fmt: skip
"""Per value, kind of scene and length of the list: how many options have it, how many of them are chosen, and the
variance of the latter if every option of a scene were the choice equally often."""


def value_counts(frame: pl.DataFrame, personal: str) -> pl.DataFrame:
    """VALUES of a batch of scenes; what matches the pattern `personal` in a text is left out."""
    shown = pl.col("entry").str.replace_all(personal, "")
    number = pl.col("entry")
    doubled = (number / SMALL_COUNTS).log(2).floor().cast(pl.Int64, strict=False)
    low = SMALL_COUNTS * pl.lit(2, pl.Int64).pow(doubled)
    single = pl.when(number < SMALL_COUNTS).then(pl.format("item_cnt {}", number))
    binned = pl.when(number >= SMALL_COUNTS).then(pl.format("item_cnt {} to {}", low, 2 * low - 1))
    cold = pl.when(number < COLD).then(pl.lit(f"item_cnt under {COLD}"))
    parts = [
        _counted(frame, pl.col("text").struct.field("action_list"), shown.str.extract_all(NUMBER).list.unique()),
        _counted(frame, pl.col("item_cnt"), pl.concat_list(pl.coalesce(single, binned), cold).list.drop_nulls()),
    ]
    return added(pl.concat(parts))


def added(parts: pl.DataFrame) -> pl.DataFrame:
    """VALUES with one row per value, kind of scene and length, the sums of those given."""
    return parts.group_by("value", "grouped", "count").agg(pl.sum("options", "chosen", "variance"))


def _counted(frame: pl.DataFrame, entries: pl.Expr, values: pl.Expr) -> pl.DataFrame:
    """VALUES of one list of `entries` per scene, one for each option; `values` are the values of an `entry`."""
    count, position = pl.col("choice_cnt"), pl.col("item_pos")
    known = frame.filter(
        count.is_between(2, len(LABELS)), position.is_between(0, count - 1), entries.list.len() == count
    )
    options = known.select(
        position, count.alias("count"), grouped=pl.col("group_id").is_not_null(), scene=pl.int_range(pl.len()),
        entry=entries, at=pl.int_ranges(0, count),
    ).explode("entry", "at", empty_as_null=False)  # fmt: skip
    # Options recur, so each is read once.
    distinct = options.select(pl.col("entry").unique()).with_columns(value=values)
    valued = options.join(distinct.explode("value", empty_as_null=False).drop_nulls("value"), on="entry")
    per_scene = valued.group_by("value", "grouped", "count", "scene").agg(
        options=pl.len().cast(pl.Int64), chosen=(pl.col("at") == position).sum().cast(pl.Int64)
    )
    share = pl.col("options") / pl.col("count")
    return per_scene.with_columns(variance=share * (1 - share)).select(*VALUES)


def check_tells(artefact: Artefact, values: pl.DataFrame, scenes: int) -> Check:
    """Whether a value (VALUES, added up) is more or less frequent among the choices than among the options.

    In groups the two must be equal; elsewhere a difference beyond chance that is large is a warning. The summary names
    no value, since cards quote it and a value may hold a word of a text that may not be passed on.
    """
    if not len(values):
        return Check(artefact.name, "tells", "skipped", "no numbers are shown and item_cnt is missing")
    distinct = values["value"].n_unique()
    uneven = values.filter("grouped", pl.col("chosen") * pl.col("count") != pl.col("options"))
    if len(uneven):
        apart = (pl.col("options") / pl.col("count") - pl.col("chosen")).abs()
        most = uneven.sort(apart, "value", descending=[True, False]).head(MAX_BAD_ROWS)
        words = "is shown of {} options in lists of {}: {} choices should have it, {} do"
        due = (pl.col("options") / pl.col("count")).round(2)
        reasons = most.select("value", reason=pl.format(words, "options", "count", due, "chosen"))
        bad = tuple(BadRow(repr(value), "", reason) for value, reason in reasons.iter_rows())
        # Without its domain, it is unknown which numbers are about the user.
        result: Result = "failed" if domain_of(artefact) else "warning"
        summary = f"{uneven['value'].n_unique():,} of {distinct:,} values are not chosen as often as they are shown"
        return Check(artefact.name, "tells", result, summary, bad)
    tested = _tested(values, scenes)
    large = (pl.col("ratio") >= RATIO) | (pl.col("ratio") <= 1 / RATIO) | (pl.col("gap") > GAP)
    telling = tested.filter(large, pl.col("p") * len(tested) < ALPHA)
    if not len(tested):
        equal = f"{distinct:,} values are chosen as often as they are shown"
        summary = equal if values["grouped"].all() else f"no value has {FEWEST} options"
        return Check(artefact.name, "tells", "ok", summary)
    furthest = f"{tested['choices'][0]:.1%} of choices, {tested['expected'][0]:.1%} of options"
    summary = f"{len(telling):,} of {len(tested):,} values tell the choice apart; furthest from chance: {furthest}"
    table = {
        "value": tested["value"].to_list(), "choices": [f"{share:.1%}" for share in tested["choices"]],
        "options": [f"{share:.1%}" for share in tested["expected"]],
    }  # fmt: skip
    shown = {column: tuple(cells[:MAX_BAD_ROWS]) for column, cells in table.items()}
    return Check(artefact.name, "tells", "warning" if len(telling) else "ok", summary, table=shown)


def _tested(values: pl.DataFrame, scenes: int) -> pl.DataFrame:
    """Values with enough options in scenes without a group: shares, their ratio and gap, and p; lowest p first."""
    from scipy.stats import norm

    loose = values.filter(~pl.col("grouped")).with_columns(expected=pl.col("options") / pl.col("count"))
    sums = loose.group_by("value").agg(pl.sum("options", "chosen", "expected", "variance"))
    sums = sums.filter(pl.col("options") >= FEWEST, pl.col("variance") > 0)
    away = (sums["chosen"] - sums["expected"]).abs().to_numpy() / np.sqrt(sums["variance"].to_numpy())
    away = away.round(6)  # sums differ in their last digits from run to run
    shares = sums.select(
        "value", choices=pl.col("chosen") / scenes, expected=pl.col("expected") / scenes, away=pl.Series(away),
        p=pl.Series(2 * norm.sf(away)),
    )  # fmt: skip
    return shares.with_columns(
        ratio=pl.col("choices") / pl.col("expected"), gap=(pl.col("choices") - pl.col("expected")).abs()
    ).sort(["away", "value"], descending=[True, False])


def domain_of(artefact: Artefact) -> Domain | None:
    """The domain of scenes, if it is known."""
    try:
        return load_domain(artefact.domain, artefact.work) if artefact.domain else None
    except UserError:
        return None


def shared_text(domain: Domain | None) -> pl.Expr:
    """What the options of a scene say of the items, not of the user; empty if the domain is not known."""
    if domain is None:
        return pl.lit("")
    option = pl.element().str.replace_all(personal_pattern(domain), "")
    return pl.col("text").struct.field("action_list").list.eval(option).list.join("\x1f")


def personal_pattern(domain: Domain | None) -> str:
    """What matches the parts of an option's text that depend on the user: numbers with their words, the evidence."""
    personal = {name for name, how in domain.as_of.items() if how == "friends"} if domain else set()
    patterns = [EVIDENCE_PATTERN]
    for part in parse(domain.option) if domain else []:
        for at, piece in enumerate(part.pieces):
            if isinstance(piece, tuple) and piece[0] in personal:
                around = part.pieces[max(at - 1, 0) : at + 2]
                patterns.append("".join(re.escape(one) if isinstance(one, str) else _count(one[1]) for one in around))
    return "|".join(patterns)


def _count(spec: str) -> str:
    """What matches a number filled in by a format spec, with its noun if it brings one."""
    nouns = "|".join(map(re.escape, spec.split("|")[1:]))
    return r"\d+(?:[.,]\d+)*" + (f" (?:{nouns})" if nouns else "")
