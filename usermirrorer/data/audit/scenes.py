"""Checks of scenes: each row in itself, and what only all of them show: repeats, order, cold items."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.data.audit.checks import SHOWN, BadRow, Check, Result, Rule, Tally, apply, checked, place_of, tallies
from usermirrorer.data.audit.splits import Keys, check_probe, check_splits, uniform_positions
from usermirrorer.llm.prompts import LABELS


COLD_GAP = 0.05
"""Difference of the shares of cold items, choices against distractors, from which on it is a warning."""
ERRORS = 3
"""A smaller difference than this many standard errors is none."""

COLD_BELOW = (1, 5)
"""An item is cold with fewer earlier interactions than this."""

IDS = ("scene_id", "dataset", "user_id", "item_id")
VALUES = ("dataset", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt")


@dataclass
class Seen:
    """What is kept of the scenes for the checks of all of them: 64-bit keys and counts, no text."""

    keys: Keys = field(default_factory=Keys)
    contents: list[np.ndarray] = field(default_factory=list)
    places: list[tuple[str, int, int]] = field(default_factory=list)
    """(file, first row, rows) of every batch"""
    positions: dict[int, np.ndarray] = field(default_factory=dict)
    cold: np.ndarray = field(default_factory=lambda: np.zeros((2, 1 + len(COLD_BELOW)), dtype=np.int64))
    """choices and distractors × (all, below each of COLD_BELOW)"""


def check_scenes(artefact: Artefact) -> list[Check]:
    """All checks of scenes; those that need tables, the other split or a manifest are skipped where there is none."""
    tables = artefact.beside("tables")
    cuts = tables.content["cuts"] if tables and tables.content else None
    impressions = tables.path / "impressions.parquet" if tables else None
    logged = pl.scan_parquet(impressions) if impressions and impressions.is_file() else None
    rules = [*_row_rules(), *(_window_rules(artefact.part, cuts) if cuts else [])]
    counted, ids, seen = tallies(rules), Tally(), Seen()
    for frame in artefact.rows():
        apply(rules, frame, counted)
        apply([_id_rule(frame, logged)], frame, {"ids": ids})
        _remember(seen, frame)
    name = artefact.name
    checks = checked(name, {"ids": ids, **counted})
    if not cuts:
        checks.append(Check(name, "windows", "skipped", "there are no tables beside it"))
    keys = seen.keys
    checks.append(_repeated(name, seen, "unique", keys.id, "failed", "has the scene_id of an earlier row"))
    if artefact.content is not None:
        checks.append(_order(name, seen))
    checks.append(_repeated(name, seen, "occasions", keys.occasion, "warning", "is the user's second scene of a time"))
    checks.append(_repeated(name, seen, "content", seen.contents, "warning", "shows the same text as an earlier row"))
    checks += check_splits(artefact, keys)
    checks += [uniform_positions(name, seen.positions), _cold_items(name, seen.cold), check_probe(artefact)]
    return checks


def _row_rules() -> list[Rule]:
    count, position, text = pl.col("choice_cnt"), pl.col("item_pos"), pl.col("text").struct
    shown, options, sources = text.field("action_list"), pl.col("impression_list"), pl.col("sources")
    later, history_len = pl.col("later_chosen"), pl.col("history_len")
    there = options.list.get(position, null_on_oob=True)
    blank = pl.element().is_null() | (pl.element().str.strip_chars() == "")
    rules = [Rule("values", pl.col(n).is_null(), pl.lit(f"{n} is missing or of another type")) for n in VALUES]
    rules += [Rule("values", pl.col(n).str.strip_chars() == "", pl.lit(f"{n} is empty")) for n in IDS]
    rules += [
        Rule("text", shown.is_null(), pl.lit("text or its action_list is missing")),
        Rule("text", shown.list.eval(blank).list.any(), pl.lit("an option is blank, as where text is withheld")),
        Rule("options", ~count.is_between(2, len(LABELS)), pl.format("there are {} options", count)),
        Rule("options", ~position.is_between(0, count - 1), pl.format("item_pos {} of {} options", position, count)),
        Rule("options", shown.list.len() != count, pl.format("text has {} of {} options", shown.list.len(), count)),
    ]
    for name in ("impression_list", "sources", "item_cnt"):
        entries = pl.col(name).list.len()
        rules.append(Rule("options", entries != count, pl.format(f"{name} has {{}} of {{}} options", entries, count)))
    for name in ("choices", "later_chosen"):
        outside = (pl.col(name).list.min() < 0) | (pl.col(name).list.max() >= count)
        rules.append(Rule("options", outside, pl.lit(f"{name} names an option that is not there")))
    chosen = pl.col("item_id")
    no_history = text.field("history").fill_null("").str.strip_chars() == ""
    rules += [
        Rule("options", there != chosen, pl.format("item_id is {}, option {} is {}", chosen, position, there)),
        Rule("options", options.list.n_unique() != options.list.len(), pl.lit("impression_list names an item twice")),
        Rule("options", ~pl.col("choices").list.contains(position), pl.format("choices lack item_pos {}", position)),
        Rule("options", later.list.contains(position), pl.lit("later_chosen names the choice itself")),
        Rule("options", pl.col("item_cnt").list.min() < 0, pl.lit("item_cnt is negative")),
        Rule(
            "options",
            (sources.list.get(position, null_on_oob=True) != "choice") | (sources.list.count_matches("choice") != 1),
            pl.lit("sources don't say `choice` at item_pos and there alone"),
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
    told = pl.format(f"{{}} is outside the {split} window of the tables", pl.col("timestamp"))
    return [
        Rule("windows", outside, told),
        Rule("windows", pl.col("split") != split, pl.format(f"split is {{}} among {split} scenes", pl.col("split"))),
    ]


def _id_rule(frame: pl.DataFrame, impressions: pl.LazyFrame | None) -> Rule:
    """Whether scene_id is the hash of what names the scene; a logged scene's impression is found in the tables."""
    rows = frame.select(*IDS, "exposure", time=pl.col("timestamp").dt.epoch("ms")).with_row_index("at")
    if impressions is not None:
        shown = impressions.select("user_id", "impression_id", time="timestamp")
        shown = shown.join(rows.lazy().select("user_id").unique(), on="user_id", how="semi")
        rows = rows.lazy().join(shown, on=["user_id", "time"], how="left").collect()
    else:  # without the impressions nothing can be said of logged scenes
        rows = rows.filter(pl.col("exposure").fill_null("") != "logged").with_columns(impression_id=pl.lit(""))
    logged = pl.col("exposure") == "logged"
    rows = rows.with_columns(shown=pl.when(logged).then(pl.col("impression_id").fill_null("")).otherwise(pl.lit("")))
    named = rows.drop_nulls(["scene_id", "dataset", "user_id", "item_id", "time"])
    columns = (named[name] for name in ("dataset", "user_id", "item_id", "time", "shown"))
    hashes = [scene_id(*key) for key in zip(*columns, strict=True)]
    right = named.with_columns(right=pl.Series(hashes, dtype=pl.String) == pl.col("scene_id"))
    wrong = right.group_by("at").agg(~pl.col("right").any()).filter("right")["at"]
    mask = pl.Series(np.isin(np.arange(len(frame)), wrong.to_numpy()))
    return Rule("ids", pl.lit(mask), pl.lit("scene_id is not the hash of dataset, user, item, time and impression"))


def _remember(seen: Seen, frame: pl.DataFrame) -> None:
    seen.places.append((frame["_file"][0], frame["_row"][0], len(frame)))
    seen.keys.add(frame)
    text = pl.col("text").struct
    shown = [text.field("profile"), text.field("history"), text.field("action_list").list.join("\x1f")]
    seen.contents.append(frame.select(pl.struct("dataset", *shown).hash()).to_series().to_numpy())
    count = pl.col("choice_cnt")
    usable = frame.filter(count.is_between(2, len(LABELS)), pl.col("item_pos").is_between(0, count - 1))
    for (count,), rows in usable.group_by("choice_cnt"):
        found = np.bincount(rows["item_pos"].to_numpy(), minlength=int(count))
        seen.positions[int(count)] = seen.positions.get(int(count), 0) + found
    counts = usable.select("item_cnt", "item_pos").drop_nulls()
    counts = counts.filter(pl.col("item_cnt").list.len() > pl.col("item_pos"))
    if len(counts):
        chosen = counts.select(pl.col("item_cnt").list.get(pl.col("item_pos"))).to_series().to_numpy()
        every = counts["item_cnt"].explode().to_numpy()
        for column, cold in enumerate((np.inf, *COLD_BELOW)):
            choices = int((chosen < cold).sum())
            seen.cold[:, column] += (choices, int((every < cold).sum()) - choices)


def _repeated(name: str, seen: Seen, check: str, keys: list[np.ndarray], result: Result, reason: str) -> Check:
    """Rows whose key an earlier row has; a missing key is 0 and repeats nothing."""
    every = np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)
    order = np.argsort(every, kind="stable")
    same = np.zeros(len(every), dtype=bool)
    same[order[1:]] = (every[order[1:]] == every[order[:-1]]) & (every[order[1:]] != 0)
    rows = np.flatnonzero(same)
    bad = tuple(BadRow(_place(seen, int(row)), "", reason) for row in rows[:SHOWN])
    told = f"{len(rows):,} of {len(every):,} rows" if len(rows) else f"{len(every):,} rows"
    return Check(name, check, result if len(rows) else "ok", told, bad)


def _order(name: str, seen: Seen) -> Check:
    every = np.concatenate(seen.keys.id) if seen.keys.id else np.zeros(0, dtype=np.uint64)
    rows = np.flatnonzero(every[1:] < every[:-1]) + 1
    bad = tuple(BadRow(_place(seen, int(row)), "", "has a lower scene_id than the row before") for row in rows[:SHOWN])
    return Check(name, "order", "failed" if len(rows) else "ok", f"{len(every):,} rows by scene_id", bad)


def _place(seen: Seen, row: int) -> str:
    """Where the row with this number over all batches stands."""
    for file, first, rows in seen.places:
        if row < rows:
            return place_of(file, first + row)
        row -= rows
    raise IndexError(row)


def _cold_items(name: str, cold: np.ndarray) -> Check:
    """Shares of cold items among choices and among distractors: a gap tells the choice without a look at the user."""
    if not cold[:, 0].all():
        return Check(name, "cold items", "skipped", "there is no item_cnt")
    shares = cold[:, 1:] / cold[:, :1]
    words = {1: "never chosen before", 5: "fewer than 5 times"}
    told = "; ".join(
        f"{words[below]}: {shares[0, i]:.1%} of choices, {shares[1, i]:.1%} of distractors"
        for i, below in enumerate(COLD_BELOW)
    )
    gap = np.abs(shares[0] - shares[1])
    pooled = cold[:, 1:].sum(axis=0) / cold[:, 0].sum()
    error = np.sqrt(pooled * (1 - pooled) * (1 / cold[:, 0]).sum())
    warned = bool(((gap > COLD_GAP) & (gap > ERRORS * error)).any())
    return Check(name, "cold items", "warning" if warned else "ok", told)
