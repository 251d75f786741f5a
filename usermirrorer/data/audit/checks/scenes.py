"""Checks of scenes: each row on its own, then what only all rows show: repeats, order, cold items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.reader import place_of
from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, Result, row_count
from usermirrorer.data.audit.checks.rules import (
    Rule,
    Violations,
    count_violations,
    missing_values,
    no_violations,
    rule_checks,
)
from usermirrorer.data.audit.checks.splits import SceneKeys, all_keys, check_positions, check_probe, check_splits
from usermirrorer.llm.prompts import LABELS


COLD_GAP = 0.05
"""A larger difference between the shares of cold items, choices against distractors, is a warning …"""
STANDARD_ERRORS = 3
"""… if it also exceeds this many standard errors."""

COLD_BELOW = {1: "never chosen before", 5: "fewer than 5 times"}
"""An item is cold if it has fewer earlier interactions than this."""

IDS = ("scene_id", "dataset", "user_id", "item_id")
REQUIRED = ("dataset", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt")


@dataclass
class SplitSummary:
    """What the checks of a whole split need of its scenes: 64-bit keys and counts, no text."""

    keys: SceneKeys = field(default_factory=SceneKeys)
    texts: list[np.ndarray] = field(default_factory=list)
    """64-bit hashes of what each scene shows, one array per batch"""
    batches: list[tuple[str, int, int]] = field(default_factory=list)
    """(file, first row, rows) of every batch"""
    positions: dict[int, np.ndarray] = field(default_factory=dict)
    """Number of options -> choices at each position, `(options,)`"""
    cold: np.ndarray = field(default_factory=lambda: np.zeros((2, 1 + len(COLD_BELOW)), dtype=np.int64))
    """Counts of items, `(choices and distractors, all and below each of COLD_BELOW)`"""


def check_scenes(artefact: Artefact) -> list[Check]:
    """All checks of scenes; those that need tables, the other split or a manifest are skipped if it is missing."""
    tables = artefact.beside("tables")
    cuts = tables.content["cuts"] if tables and tables.content else None
    impressions = tables.path / "impressions.parquet" if tables else None
    logged = pl.scan_parquet(impressions) if impressions and impressions.is_file() else None
    rules = [*_row_rules(), *(_window_rules(artefact.part, cuts) if cuts else [])]
    violations, ids, summary = no_violations(rules), Violations(), SplitSummary()
    for frame in artefact.rows():
        count_violations(rules, frame, violations)
        count_violations([_id_rule(frame, logged)], frame, {"ids": ids})
        _add_batch(summary, frame)
    name, keys = artefact.name, summary.keys
    checks = rule_checks(name, {"ids": ids, **violations})
    if not cuts:
        checks.append(Check(name, "windows", "skipped", "no tables beside it"))
    checks.append(_check_repeats(name, "unique", summary, keys.scene, "failed", "has the scene_id of an earlier row"))
    if artefact.content is not None:
        checks.append(_check_order(name, summary))
    for check, repeated, reason in (
        ("occasions", keys.occasion, "is the user's second scene at one time"),
        ("content", summary.texts, "shows the same text as an earlier row"),
    ):
        checks.append(_check_repeats(name, check, summary, repeated, "warning", reason))
    checks += check_splits(artefact, keys)
    return [*checks, check_positions(name, summary.positions), _check_cold(name, summary.cold), check_probe(artefact)]


def _row_rules() -> list[Rule]:
    count, position, text = pl.col("choice_cnt"), pl.col("item_pos"), pl.col("text").struct
    shown, options, sources = text.field("action_list"), pl.col("impression_list"), pl.col("sources")
    chosen, later, history_len = pl.col("item_id"), pl.col("later_chosen"), pl.col("history_len")
    at_position = options.list.get(position, null_on_oob=True)
    blank = pl.element().is_null() | (pl.element().str.strip_chars() == "")
    no_history = text.field("history").fill_null("").str.strip_chars() == ""
    rules = missing_values(*REQUIRED)
    rules += [Rule("values", pl.col(name).str.strip_chars() == "", pl.lit(f"{name} is empty")) for name in IDS]
    rules += [
        Rule("text", shown.is_null(), pl.lit("text or its action_list is missing")),
        Rule("text", shown.list.eval(blank).list.any(), pl.lit("an option is blank, as in withheld text")),
        Rule("options", ~count.is_between(2, len(LABELS)), pl.format("there are {} options", count)),
        Rule("options", ~position.is_between(0, count - 1), pl.format("item_pos {} of {} options", position, count)),
        Rule("options", shown.list.len() != count, pl.format("text has {} of {} options", shown.list.len(), count)),
    ]
    for name in ("impression_list", "sources", "item_cnt"):
        entries = pl.col(name).list.len()
        rules.append(Rule("options", entries != count, pl.format(f"{name} has {{}} of {{}} options", entries, count)))
    for name in ("choices", "later_chosen"):
        outside = (pl.col(name).list.min() < 0) | (pl.col(name).list.max() >= count)
        rules.append(Rule("options", outside, pl.lit(f"{name} names an option that does not exist")))
    rules += [
        Rule(
            "options",
            at_position != chosen,
            pl.format("item_id is {}, option {} is {}", chosen, position, at_position),
        ),
        Rule("options", options.list.n_unique() != options.list.len(), pl.lit("impression_list names an item twice")),
        Rule("options", ~pl.col("choices").list.contains(position), pl.format("choices lack item_pos {}", position)),
        Rule("options", later.list.contains(position), pl.lit("later_chosen names the choice itself")),
        Rule("options", pl.col("item_cnt").list.min() < 0, pl.lit("item_cnt is negative")),
        Rule(
            "options",
            (sources.list.get(position, null_on_oob=True) != "choice") | (sources.list.count_matches("choice") != 1),
            pl.lit("sources must say `choice` at item_pos and nowhere else"),
        ),
        Rule(
            "history",
            history_len > pl.col("user_cnt"),
            pl.format("{} entries are shown of {} earlier events", history_len, pl.col("user_cnt")),
        ),
        Rule("history", (history_len > 0) & no_history, pl.format("none of {} entries is in the text", history_len)),
    ]
    return rules


def _window_rules(split: str, cuts: dict[str, int]) -> list[Rule]:
    time = pl.col("timestamp").dt.epoch("ms")
    outside = ~time.is_between(cuts["train"], cuts["test"] - 1) if split == "train" else time < cuts["test"]
    reason = pl.format(f"{{}} is outside the {split} window of the tables", pl.col("timestamp"))
    return [
        Rule("windows", outside, reason),
        Rule("windows", pl.col("split") != split, pl.format(f"split is {{}} among {split} scenes", pl.col("split"))),
    ]


def _id_rule(frame: pl.DataFrame, impressions: pl.LazyFrame | None) -> Rule:
    """Whether scene_id is the hash of what identifies the scene; a logged scene's impression comes from the tables."""
    rows = frame.select(*IDS, "exposure", time=pl.col("timestamp").dt.epoch("ms")).with_row_index("at")
    if impressions is not None:
        shown = impressions.select("user_id", "impression_id", time="timestamp")
        shown = shown.join(rows.lazy().select("user_id").unique(), on="user_id", how="semi")
        rows = rows.lazy().join(shown, on=["user_id", "time"], how="left").collect()
    else:  # logged scenes can't be checked without the impressions
        rows = rows.filter(pl.col("exposure").fill_null("") != "logged").with_columns(impression_id=pl.lit(""))
    logged = pl.col("exposure") == "logged"
    rows = rows.with_columns(shown=pl.when(logged).then(pl.col("impression_id").fill_null("")).otherwise(pl.lit("")))
    complete = rows.drop_nulls(["scene_id", "dataset", "user_id", "item_id", "time"])
    columns = (complete[name] for name in ("dataset", "user_id", "item_id", "time", "shown"))
    hashes = [scene_id(*values) for values in zip(*columns, strict=True)]
    right = complete.with_columns(right=pl.Series(hashes, dtype=pl.String) == pl.col("scene_id"))
    wrong = right.group_by("at").agg(~pl.col("right").any()).filter("right")["at"]
    bad = pl.Series(np.isin(np.arange(len(frame)), wrong.to_numpy()))
    return Rule("ids", pl.lit(bad), pl.lit("scene_id is not the hash of dataset, user, item, time and impression"))


def _add_batch(summary: SplitSummary, frame: pl.DataFrame) -> None:
    summary.batches.append((frame["_file"][0], frame["_row"][0], len(frame)))
    summary.keys.add(frame)
    text = pl.col("text").struct
    shown = [text.field("profile"), text.field("history"), text.field("action_list").list.join("\x1f")]
    summary.texts.append(frame.select(pl.struct("dataset", *shown).hash()).to_series().to_numpy())
    count = pl.col("choice_cnt")
    usable = frame.filter(count.is_between(2, len(LABELS)), pl.col("item_pos").is_between(0, count - 1))
    for (options,), rows in usable.group_by("choice_cnt"):
        found = np.bincount(rows["item_pos"].to_numpy(), minlength=int(options))
        summary.positions[int(options)] = summary.positions.get(int(options), 0) + found
    counts = usable.select("item_cnt", "item_pos").drop_nulls()
    counts = counts.filter(pl.col("item_cnt").list.len() > pl.col("item_pos"))
    if len(counts):
        of_choices = counts.select(pl.col("item_cnt").list.get(pl.col("item_pos"))).to_series().to_numpy()
        of_options = counts["item_cnt"].explode().to_numpy()
        for column, below in enumerate((np.inf, *COLD_BELOW)):
            choices = int((of_choices < below).sum())
            summary.cold[:, column] += (choices, int((of_options < below).sum()) - choices)


def _check_repeats(
    name: str, check: str, summary: SplitSummary, keys: list[np.ndarray], result: Result, reason: str
) -> Check:
    """Rows with the key of an earlier row; a missing key is 0 and repeats nothing."""
    values = all_keys(keys)
    order = np.argsort(values, kind="stable")
    repeated = np.zeros(len(values), dtype=bool)
    repeated[order[1:]] = (values[order[1:]] == values[order[:-1]]) & (values[order[1:]] != 0)
    rows = np.flatnonzero(repeated)
    bad = _bad_rows(summary, rows, reason)
    return Check(name, check, result if len(rows) else "ok", row_count(len(rows), len(values)), bad)


def _check_order(name: str, summary: SplitSummary) -> Check:
    ids = all_keys(summary.keys.scene)
    rows = np.flatnonzero(ids[1:] < ids[:-1]) + 1
    bad = _bad_rows(summary, rows, "has a lower scene_id than the row before")
    return Check(name, "order", "failed" if len(rows) else "ok", f"{len(ids):,} rows by scene_id", bad)


def _bad_rows(summary: SplitSummary, rows: Sequence[int] | np.ndarray, reason: str) -> tuple[BadRow, ...]:
    """The first of the rows with these numbers over all batches."""
    return tuple(BadRow(_place(summary, int(row)), "", reason) for row in rows[:MAX_BAD_ROWS])


def _place(summary: SplitSummary, row: int) -> str:
    """The place of the row with this number over all batches."""
    for file, first, rows in summary.batches:
        if row < rows:
            return place_of(file, first + row)
        row -= rows
    raise IndexError(row)


def _check_cold(name: str, cold: np.ndarray) -> Check:
    """Whether cold items are as frequent among choices as among distractors; a gap tells the two apart."""
    if not cold[:, 0].all():
        return Check(name, "cold items", "skipped", "no item_cnt")
    shares = cold[:, 1:] / cold[:, :1]
    summary = "; ".join(
        f"{words}: {choices:.1%} of choices, {distractors:.1%} of distractors"
        for words, choices, distractors in zip(COLD_BELOW.values(), *shares, strict=True)
    )
    gap = np.abs(shares[0] - shares[1])
    pooled = cold[:, 1:].sum(axis=0) / cold[:, 0].sum()
    error = np.sqrt(pooled * (1 - pooled) * (1 / cold[:, 0]).sum())
    warned = bool(((gap > COLD_GAP) & (gap > STANDARD_ERRORS * error)).any())
    return Check(name, "cold items", "warning" if warned else "ok", summary)
