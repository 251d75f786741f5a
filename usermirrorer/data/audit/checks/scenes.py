"""Checks of scenes: each row on its own, then what only all rows show: repeats, order, groups, tells."""

from __future__ import annotations

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.find import Artefact
from usermirrorer.data.artefacts.schema import scene_id
from usermirrorer.data.audit.checks.groups import MEMBERS, check_groups, check_order, group_rules, members
from usermirrorer.data.audit.checks.result import Check
from usermirrorer.data.audit.checks.rules import RowRules, Rule, check_rows, missing_values, repeats
from usermirrorer.data.audit.checks.splits import KEYS, check_positions, check_probe, check_splits, scene_keys
from usermirrorer.data.audit.checks.tells import (
    VALUES,
    added,
    check_tells,
    domain_of,
    personal_pattern,
    shared_text,
    value_counts,
)
from usermirrorer.llm.prompts import LABELS
from usermirrorer.steps import EXPOSURES


IDS = ("scene_id", "dataset", "user_id", "item_id")
REQUIRED = ("dataset", "user_id", "item_id", "timestamp", "item_pos", "choice_cnt")


def check_scenes(artefact: Artefact) -> list[Check]:
    """All checks of scenes; those that need tables, the other split or a manifest are skipped if it is missing."""
    tables = artefact.beside("tables")
    cuts = tables.content["cuts"] if tables else None
    impressions = tables.path / "impressions.parquet" if tables else None
    logged = pl.scan_parquet(impressions) if impressions and impressions.is_file() else None
    wrong_id = pl.lit("scene_id is not the hash of dataset, user, item, time and impression")
    windows = _window_rules(artefact.part, cuts) if cuts else []
    rules = RowRules(
        [Rule("ids", pl.col("wrong_id"), wrong_id), *_row_rules(), *group_rules(bool(artefact.content)), *windows]
    )
    batches = [pl.DataFrame(schema={**KEYS, "text": pl.UInt64})]
    grouped, values = [pl.DataFrame(schema=MEMBERS)], pl.DataFrame(schema=VALUES)
    positions = np.zeros((len(LABELS) + 1, len(LABELS)), dtype=np.int64)
    domain = domain_of(artefact)
    personal, text = personal_pattern(domain), shared_text(domain)
    for frame in artefact.rows():
        rules.add(frame.with_columns(_wrong_ids(frame, logged)))
        batches.append(scene_keys(frame).with_columns(_text_key(frame)))
        grouped.append(members(frame, text))
        values = added(pl.concat([values, value_counts(frame, personal)]))
        _add_positions(frame, positions)
    name, keys, rows = artefact.name, pl.concat(batches), pl.concat(grouped)
    keys = keys.with_columns(rows["group"])
    checks = rules.checks(name)
    if not cuts:
        checks.append(Check(name, "windows", "skipped", "no tables beside it"))
    checks.append(check_rows(name, "unique", keys, repeats("scene"), "has the scene_id of an earlier row"))
    if artefact.content:
        checks.append(check_order(name, rows))
    checks.append(check_groups(name, rows))
    second = "is the user's second scene at one time"
    checks.append(check_rows(name, "occasions", keys, repeats("occasion"), second, "warning"))
    # Scenes of a group show one list, so people without history and profile are shown the same.
    mate = (pl.col("group") != 0) & ~pl.struct("text", "group").is_first_distinct()
    same_text = "shows the same text as an earlier row"
    checks.append(check_rows(name, "content", keys, repeats("text") & ~mate, same_text, "warning"))
    checks += check_splits(artefact, keys)
    return [
        *checks, check_positions(name, positions), check_tells(artefact, values, len(keys)), check_probe(artefact)
    ]  # fmt: skip


def _row_rules() -> list[Rule]:
    count, position, text = pl.col("choice_cnt"), pl.col("item_pos"), pl.col("text").struct
    shown, items, sources = text.field("action_list"), pl.col("impression_list").list, pl.col("sources").list
    chosen, later, history_len = pl.col("item_id"), pl.col("later_chosen"), pl.col("history_len")
    at_position = items.get(position, null_on_oob=True)
    choice_elsewhere = (sources.get(position, null_on_oob=True) != "choice") | (sources.count_matches("choice") != 1)
    blank = pl.element().is_null() | (pl.element().str.strip_chars() == "")
    no_history = text.field("history").fill_null("").str.strip_chars() == ""
    lengths = {"text": shown} | {name: pl.col(name) for name in ("impression_list", "sources", "item_cnt")}
    options = [
        (~count.is_between(2, len(LABELS)), pl.format("there are {} options", count)),
        (~position.is_between(0, count - 1), pl.format("item_pos {} of {} options", position, count)),
        *(
            (entries.list.len() != count, pl.format(f"{name} has {{}} of {{}} options", entries.list.len(), count))
            for name, entries in lengths.items()
        ),
        *(
            ((indices.min() < 0) | (indices.max() >= count), pl.lit(f"{name} names an option that does not exist"))
            for name, indices in (("choices", pl.col("choices").list), ("later_chosen", later.list))
        ),
        (at_position != chosen, pl.format("item_id is {}, option {} is {}", chosen, position, at_position)),
        (items.n_unique() != items.len(), pl.lit("impression_list names an item twice")),
        (~pl.col("choices").list.contains(position), pl.format("choices lack item_pos {}", position)),
        (later.list.contains(position), pl.lit("later_chosen names the choice itself")),
        (pl.col("item_cnt").list.min() < 0, pl.lit("item_cnt is negative")),
        (choice_elsewhere, pl.lit("sources must say `choice` at item_pos and nowhere else")),
    ]
    entries = pl.format("{} entries are shown of {} earlier events", history_len, pl.col("user_cnt"))
    return [
        *missing_values(*REQUIRED),
        *(Rule("values", pl.col(name).str.strip_chars() == "", pl.lit(f"{name} is empty")) for name in IDS),
        Rule("values", ~pl.col("exposure").is_in(EXPOSURES), pl.format("exposure is {}", "exposure")),
        Rule("text", shown.is_null(), pl.lit("text or its action_list is missing")),
        Rule("text", shown.list.eval(blank).list.any(), pl.lit("an option is blank, as in withheld text")),
        *(Rule("options", bad, reason) for bad, reason in options),
        Rule("history", history_len > pl.col("user_cnt"), entries),
        Rule("history", (history_len > 0) & no_history, pl.format("none of {} entries is in the text", history_len)),
    ]


def _window_rules(split: str, cuts: dict[str, int]) -> list[Rule]:
    time = pl.col("timestamp").dt.epoch("ms")
    outside = ~time.is_between(cuts["train"], cuts["test"] - 1) if split == "train" else time < cuts["test"]
    reason = pl.format(f"{{}} is outside the {split} window of the tables", pl.col("timestamp"))
    return [
        Rule("windows", outside, reason),
        Rule("windows", pl.col("split") != split, pl.format(f"split is {{}} among {split} scenes", pl.col("split"))),
    ]


def _wrong_ids(frame: pl.DataFrame, impressions: pl.LazyFrame | None) -> pl.Series:
    """Whether scene_id is not the hash of what identifies the scene; a logged scene's impression is in the tables."""
    rows = frame.select(*IDS, "exposure", time=pl.col("timestamp").dt.epoch("ms")).with_row_index("at")
    logged = (pl.col("exposure") == "logged").fill_null(False)
    if impressions is not None:
        shown = impressions.select("user_id", "impression_id", time="timestamp")
        shown = shown.join(rows.lazy().select("user_id").unique(), on="user_id", how="semi")
        rows = rows.lazy().join(shown, on=["user_id", "time"], how="left").collect()
    else:  # logged scenes can't be checked without the impressions
        rows = rows.filter(~logged).with_columns(impression_id=pl.lit(""))
    impression = pl.when(logged).then(pl.col("impression_id").fill_null("")).otherwise(pl.lit(""))
    rows = rows.drop_nulls([*IDS, "time"])
    hashes = [scene_id(*row) for row in rows.select(*IDS[1:], "time", impression.alias("shown")).iter_rows()]
    right = rows.with_columns(right=pl.Series(hashes, dtype=pl.String) == pl.col("scene_id"))
    wrong = right.group_by("at").agg(~pl.col("right").any()).filter("right")["at"]
    return pl.Series("wrong_id", np.isin(np.arange(len(frame)), wrong.to_numpy()))


def _text_key(frame: pl.DataFrame) -> pl.Series:
    """64-bit hashes of what each scene shows."""
    text = pl.col("text").struct
    shown = [text.field("profile"), text.field("history"), text.field("action_list").list.join("\x1f")]
    return frame.select(text=pl.struct("dataset", *shown).hash())["text"]


def _add_positions(frame: pl.DataFrame, positions: np.ndarray) -> None:
    """Add a batch to the counts of choices, `(options, position)`."""
    count, position = pl.col("choice_cnt"), pl.col("item_pos")
    usable = frame.filter(count.is_between(2, len(LABELS)), position.is_between(0, count - 1))
    np.add.at(positions, (usable["choice_cnt"].to_numpy(), usable["item_pos"].to_numpy()), 1)
