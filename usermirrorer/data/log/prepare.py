"""Raw files → tables: the log of a domain, cleaned once, with the cut times that every later step uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from usermirrorer.data.artefacts.schema import SEPARATOR, scene_numbers
from usermirrorer.data.artefacts.store import file_digest, open_step, write_bytes, write_parquet
from usermirrorer.data.log.choices import qualifying_choices
from usermirrorer.data.log.tables import Cuts, read_tables
from usermirrorer.data.sources import OWN, Domain, RawTables, is_own, load_domain
from usermirrorer.data.sources.readers.places import TABLE as PLACES
from usermirrorer.data.sources.readers.text import one_line
from usermirrorer.data.sources.templates import fill
from usermirrorer.errors import StepFailed
from usermirrorer.steps import LIST_LENGTHS, PrepareSettings, SceneSettings
from usermirrorer.wording import list_counts


FIT_SHARE, TRAIN_SHARE = 0.2, 0.7
"""Shares of the interactions, by global time, before and inside the train window; the rest is the test window."""

MOST_UNKNOWN = 0.2
"""A larger share of rows whose user or item is in no table is a warning: the files hardly belong together."""


def prepare(
    name: str,
    raw: Path | None,
    work: Path,
    seed: int = PrepareSettings.seed,
    snapshot: bool = PrepareSettings.snapshot,
) -> dict[str, Any]:
    """Write `work/tables/NAME/{users,items,interactions,…}.parquet`; returns the manifest's content.

    `name` is a built-in domain or the path of your own YAML; without `raw`, its files are beside it. Impressions,
    friends, item statistics and item labels are written if the domain has them. Exact duplicates and events of unknown
    users or items are dropped and counted. End-of-crawl values are shown only with `snapshot`. Raises UserError if raw
    files are missing or malformed, StepFailed if no usable interaction is left.
    """
    domain, own = load_domain(name, work), Path(name) if is_own(name) else work / "tables" / name / OWN
    name, raw = domain.name, raw or domain.home
    recipe: dict[str, Any] = {
        "step": "prepare", "domain": name, "seed": seed, "snapshot": snapshot, "raw": _digests(domain, raw)
    }  # fmt: skip
    if own.is_file():
        recipe["own"] = file_digest(own)
    with open_step(work / "tables" / name, recipe) as step:
        if step.complete:
            return step.content
        if own.is_file():
            write_bytes(step.directory / OWN, own.read_bytes())
        hidden = [] if snapshot else [field for field, kind in domain.fields.items() if kind == "snapshot"]
        tables = _without(hidden, domain.read(raw, seed))
        frames, dropped, undated = _frames(tables, domain)
        events = frames["interactions"]
        if not len(events):
            remedy = "; ".join(_unknown_ids(tables, dropped)) or "check the raw files"
            raise StepFailed(f"{name}: no usable interaction in {raw} (left out: {list_counts(dropped)}); {remedy}")
        cuts = cut_times(events["timestamp"].to_numpy()[undated:])
        for table, frame in frames.items():
            write_parquet(frame.to_arrow(), step.directory / f"{table}.parquet")
        step.finish(
            rows={table: len(frame) for table, frame in frames.items()},
            dropped=dropped | {"item_never_available": len(tables.items) - len(frames["items"])},
            undated=undated,
            cuts={"train": cuts.train, "test": cuts.test},
            shown={field: kind for field, kind in domain.fields.items() if field not in hidden},
            hidden=hidden,
            choices=_qualifying(step.directory, domain, undated, cuts),
            warnings=_unknown_ids(tables, dropped),
            licence=domain.licence,
            publisher=domain.publisher,
        )
        return step.content


def _qualifying(directory: Path, domain: Domain, undated: int, cuts: Cuts) -> dict[str, dict[str, int]]:
    """How many choices each split gives under the domain's defaults, and how many are lost, by reason."""
    tables, choice = read_tables(directory, domain, undated), next(iter(domain.choice_rules))
    exposure, seed = domain.exposures[0], SceneSettings.seed
    return {split: qualifying_choices(tables, cuts, split, choice, exposure, seed)[1] for split in LIST_LENGTHS}


def _frames(tables: RawTables, domain: Domain) -> tuple[dict[str, pl.DataFrame], dict[str, int], int]:
    """The tables to write, how many events were dropped by reason, and how many are undated."""
    tick = domain.clock_ms
    times = pl.col("timestamp") // tick * tick
    events, dropped = _clean(tables, tick)
    undated = int(events["_undated"].sum())
    frames = {
        "users": _one_line(tables.users.sort("user_id")),
        "items": _items(_one_line(tables.items), events, domain.item),
        "interactions": _with_scene_ids(_one_line(events.drop("_undated")), domain.name),
    }
    if tables.impressions is not None:
        clicked = tables.impressions.with_columns(times, item_id=pl.col("clicked").list.first())
        clicked = _with_scene_ids(clicked.sort("timestamp", "impression_id"), domain.name)
        frames["impressions"] = clicked.drop("item_id")
    if tables.friends is not None:
        frames["friends"] = tables.friends.sort("user_id", "friend_id")
    if tables.item_statistics is not None:
        frames["item_statistics"] = tables.item_statistics.sort("item_id", "timestamp")
    if tables.item_labels is not None:
        frames["item_labels"] = tables.item_labels.with_columns(times).sort("item_id", "timestamp", "label")
    return frames, dropped, undated


def _unknown_ids(tables: RawTables, dropped: Mapping[str, int]) -> list[str]:
    """A warning for each table that lacks the ids of many interactions, with the files that both come from."""
    rows, warnings = len(tables.interactions), []
    for kind in ("user", "item"):
        unknown = dropped[f"unknown_{kind}"]
        if unknown > MOST_UNKNOWN * rows:
            source, lacking = (tables.files.get(table, table) for table in ("interactions", f"{kind}s"))
            warnings.append(
                f"{unknown:,} of {rows:,} rows of {source} were dropped: {lacking} lacks their {kind}_id; check that "
                f"both are of one release, and write ids alike"
            )
    return warnings


def cut_times(times: np.ndarray) -> Cuts:
    """Where the windows begin: after `FIT_SHARE` and `FIT_SHARE + TRAIN_SHARE` of the interactions."""
    at = [min(int(len(times) * share), len(times) - 1) for share in (FIT_SHARE, FIT_SHARE + TRAIN_SHARE)]
    return Cuts(train=int(times[at[0]]), test=int(times[at[1]]))


def _clean(tables: RawTables, clock_ms: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events ordered by (time, user, item), times floored to the clock; how many were dropped, by reason."""
    events = _dated(tables.interactions, clock_ms)
    dropped = dict(tables.dropped)
    for kind, known in (("user", tables.users), ("item", tables.items)):
        kept = events.join(known, on=f"{kind}_id", how="semi", maintain_order="left")
        dropped[f"unknown_{kind}"] = len(events) - len(kept)
        events = kept
    # The sort is stable, so the first of equal events stays.
    event = ["timestamp", "user_id", "item_id"]
    events = events.sort(event, maintain_order=True)
    kept = events.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in event))
    return kept, dropped | {"duplicate_event": len(events) - len(kept)}


def _dated(events: pl.DataFrame, clock_ms: int) -> pl.DataFrame:
    """Times floored to the clock; undated events, in row order, are one tick apart before the first dated one."""
    undated = pl.col("timestamp").is_null()
    events = events.with_columns(_undated=undated)
    first = events["timestamp"].min()
    if events["_undated"].any():
        left = pl.int_range(pl.len(), 0, -1).over("user_id")
        early = events.filter(undated).with_columns(timestamp=pl.lit(first, dtype=pl.Int64) - left * clock_ms)
        events = pl.concat([early, events.filter(~undated)])
    return events.with_columns(pl.col("timestamp") // clock_ms * clock_ms)


def _without(hidden: list[str], tables: RawTables) -> RawTables:
    """The tables with the values of some columns set to null."""
    users, items, interactions = (
        frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name) for name in hidden if name in frame)
        for frame in (tables.users, tables.items, tables.interactions)
    )
    return replace(tables, users=users, items=items, interactions=interactions)


def _with_scene_ids(events: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """Events with the id of the scene that each would make, as a number."""
    impression = pl.col("impression_id") if "impression_id" in events.columns else pl.lit("")
    parts = [pl.lit(dataset), "user_id", pl.col("item_id").fill_null(""), "timestamp", impression]
    names = events.select(pl.concat_str(parts, separator=SEPARATOR).cast(pl.Binary)).to_series()
    return events.with_columns(scene_id=pl.Series(scene_numbers(names.to_list()), dtype=pl.UInt64))


def _one_line(frame: pl.DataFrame) -> pl.DataFrame:
    """All texts except ids with white space collapsed, so that an entry is one line."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String and not name.endswith("_id")]
    return frame.with_columns(one_line(pl.col(name)).alias(name) for name in texts)


def _items(items: pl.DataFrame, events: pl.DataFrame, template: str) -> pl.DataFrame:
    """Items, oldest first, with `text`, `available_from` and whether that is a release date, `dated`."""
    first = events.group_by("item_id").agg(pl.col("timestamp").min().alias("_first"))
    released = pl.col("available_from") if "available_from" in items.columns else pl.lit(None, dtype=pl.Int64)
    dated = items.join(first, on="item_id", how="left", maintain_order="left").with_columns(
        # Without a release date an item exists from just after its first event: nobody can have been shown it earlier.
        available_from=pl.coalesce(released, pl.col("_first") + 1),
        dated=released.is_not_null(),
        text=fill(template, items.to_dict(), len(items)),
    )
    return dated.drop("_first").filter(pl.col("available_from").is_not_null()).sort("available_from", "item_id")


def _digests(domain: Domain, raw: Path | None) -> dict[str, str]:
    """Digest of every raw file found; the result depends on all of them."""
    if raw is None or not domain.raw_files:
        return {}
    names = {name: raw / name for name in (*domain.raw_files, PLACES) if "*" not in name}
    for pattern in domain.raw_files.keys() - names.keys():
        names |= {str(path.relative_to(raw)): path for path in raw.glob(pattern)}
    return {name: file_digest(path) for name, path in sorted(names.items()) if path.is_file()}
