"""Checks of groups: scenes that show one list, each of whose items is the choice of one of them."""

from __future__ import annotations

import polars as pl

from usermirrorer.data.audit.checks.joins import scene_key
from usermirrorer.data.audit.checks.result import MAX_BAD_ROWS, BadRow, Check, verdict
from usermirrorer.data.audit.checks.rules import Rule, bad_rows
from usermirrorer.data.audit.checks.splits import USER
from usermirrorer.steps import GROUPED_EXPOSURES


MEMBERS = {
    "group": pl.UInt64, "scene": pl.UInt64, "user": pl.UInt64, "list": pl.UInt64, "shown": pl.UInt64,
    "position": pl.Int64, "count": pl.Int64, "time": pl.Int64, "_file": pl.String, "_row": pl.Int64,
}  # fmt: skip


def group_rules(own: bool) -> list[Rule]:
    """Rules of each row's `group_id` and `group_time`; both may be missing from files that are not our `own`."""
    group, time, grouped = pl.col("group_id"), pl.col("group_time"), pl.col("exposure").is_in(GROUPED_EXPOSURES)
    rules = [
        (grouped & group.is_null(), pl.format("a scene of {} has no group_id", "exposure")),
        (~grouped & group.is_not_null(), pl.format("a scene of {} has a group_id", "exposure")),
        (~group.str.contains("^[0-9a-f]{16}$"), pl.format("group_id {} is not 16 hex digits", group)),
        (time > pl.col("timestamp"), pl.format("group_time {} is after the scene's own time", time)),
        (group.is_null() & (time != pl.col("timestamp")), pl.lit("group_time is not the time of a scene on its own")),
        *([(time.is_null(), pl.lit("group_time is missing or has the wrong type"))] if own else []),
    ]
    return [Rule("values", bad, reason) for bad, reason in rules]


def members(frame: pl.DataFrame, text: pl.Expr) -> pl.DataFrame:
    """MEMBERS of a batch of scenes: what is needed to see whether groups are whole. 0 stands for no group.

    `text` is what everyone in a group must be shown of the options, besides their counts.
    """
    counts = pl.col("item_cnt").cast(pl.List(pl.String)).list.join(",")
    group, scene = (scene_key(pl.col(name)) for name in ("group_id", "scene_id"))
    shown = pl.concat_str(text, counts, separator="\x1f", ignore_nulls=True).hash()
    return frame.select(
        group=group, scene=scene, user=USER, list=pl.col("impression_list").list.join("\x1f").hash(), shown=shown,
        position="item_pos", count="choice_cnt", time=pl.col("group_time").dt.epoch("ms"), _file="_file", _row="_row",
    ).cast(pl.Schema(MEMBERS))  # fmt: skip


def check_groups(name: str, rows: pl.DataFrame) -> Check:
    """Whether every group of `rows` (MEMBERS) is whole: n scenes of n users, one list, each position chosen once."""
    grouped = rows.filter(pl.col("group") != 0)
    if not len(grouped):
        return Check(name, "groups", "skipped", "no scene is in a group")
    different = {what: pl.col(what).n_unique() for what in ("list", "shown", "user", "position", "time")}
    groups = grouped.group_by("group", maintain_order=True).agg(
        pl.first("_file", "_row"),
        pl.len().alias("scenes"),
        pl.col("count").max(),
        lowest=pl.col("position").min(),
        highest=pl.col("position").max(),
        **different,
    )
    size, last = pl.col("count"), pl.col("highest")
    each_once = (pl.col("position") == size) & (pl.col("lowest") == 0) & (last == size - 1)
    faults = {
        "has {} of {} scenes": (pl.col("scenes") != size, ("scenes", "count")),
        "shows {} different lists": (pl.col("list") != 1, ("list",)),
        "has options that do not read the same to everyone": (pl.col("shown") != 1, ()),
        "is of {} people, not of {}": (pl.col("user") != size, ("user", "count")),
        "does not have each position as the choice of one scene": (~each_once, ()),
        "has {} different group_time": (pl.col("time") != 1, ("time",)),
    }
    broken = groups.filter(pl.any_horizontal(bad for bad, _ in faults.values()))
    reasons = [pl.when(bad).then(pl.format(f"the group {words}", *of)) for words, (bad, of) in faults.items()]
    bad = bad_rows(broken.head(MAX_BAD_ROWS), pl.concat_str(reasons, separator="; ", ignore_nulls=True))
    alone = len(rows) - len(grouped)
    summary = f"{len(groups):,} groups of {len(grouped):,} scenes" + (f"; {alone:,} in none" if alone else "")
    return verdict(name, "groups", bad, f"{len(broken):,} broken of {summary}" if len(broken) else summary)


def check_order(name: str, rows: pl.DataFrame) -> Check:
    """Whether `rows` (MEMBERS) are ordered by group_id, then scene_id."""
    group, scene = pl.col("group"), pl.col("scene")
    before = group.shift()
    lower = (group < before) | ((group == before) & (scene < scene.shift()))
    words = "by group_id and scene_id" if bool((rows["group"] != 0).any()) else "by scene_id"
    bad: list[BadRow] = bad_rows(rows.filter(lower).head(MAX_BAD_ROWS), pl.lit(f"is not in order {words}"))
    return verdict(name, "order", bad, f"{len(rows):,} rows {words}")
