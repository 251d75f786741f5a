"""Last.fm (HetRec 2011): tags that 1,892 people put on 12,133 of 17,632 artists, August 2005 to May 2011.

Raw files as distributed, tab-separated with a header: `artists.dat` (UTF-8), `tags.dat` (Latin-1), `user_friends.dat`
(each pair in both directions) and `user_taggedartists.dat`. Of the two files of tag assignments this is the one with
day, month and year; `user_taggedartists-timestamps.dat` holds the same rows as milliseconds of local midnights in a
zone with summer time, one or two hours before the day in UTC. `user_artists.dat` counts plays up to the crawl without
dates, so it yields neither interactions nor values as of a scene.

An interaction is one user's tagging of one artist on one day, with that day's tags; each is a choice. An artist has a
tag from the day when somebody gave it, and exists from the first tag on. Nearly all days are the first of a month,
because Last.fm showed older taggings by month: the tags of a month are one occasion. Impossible days are dropped and
counted. Friendships have no dates: those of the crawl are used, to count the friends who tagged before the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown, keep_first
from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.checks import as_integers, unique_ids
from usermirrorer.data.sources.readers.delimited import read_fields
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.data.sources.readers.text import one_line
from usermirrorer.errors import UserError, shorten


EARLIEST = date(2002, 1, 1)
"""Last.fm began in 2002; five assignments are dated 1956, 1957 and 1979."""

LATEST = date(2011, 5, 31)
"""The files were published in May 2011."""

TAGS_SHOWN = 10
"""Tags in one history entry: 1 % of the taggings have more, up to 50."""

PUBLISHER = "https://grouplens.org/datasets/hetrec-2011/"
ARTISTS = ("id", "name", "url", "pictureURL")
TAGS = ("tagID", "tagValue")
FRIENDS = ("userID", "friendID")
ASSIGNMENTS = ("userID", "artistID", "tagID", "day", "month", "year")
FILES = {
    "artists.dat": " ".join(ARTISTS) + " (tab, UTF-8)",
    "tags.dat": " ".join(TAGS) + " (tab, Latin-1)",
    "user_friends.dat": " ".join(FRIENDS) + " (tab)",
    "user_taggedartists.dat": " ".join(ASSIGNMENTS) + " (tab)",
}


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse the four files. Raises UserError with file:line at the first malformed line.

    Dropped and counted: `duplicate_assignment`, `impossible_time` (the day does not exist or is not between EARLIEST
    and LATEST), `unknown_tag` (assignments of a tag without text) and `unnamed_artist`.
    """
    raw = require_files(raw, tuple(FILES), "lastfm", PUBLISHER)
    artists = unique_ids(_table(raw / "artists.dat", ARTISTS), "id", raw / "artists.dat")
    friends = _table(raw / "user_friends.dat", FRIENDS).select(user_id="userID", friend_id="friendID")
    friends = friends.unique(maintain_order=True)
    dropped: dict[str, int] = {}
    assignments = _assignments(raw, dropped)
    items = artists.select(item_id="id", name=one_line(pl.col("name")))
    items = drop_unknown(items, ["name"], dropped, "unnamed_artist")
    label = pl.col("label")
    more = pl.when(label.len() > TAGS_SHOWN).then(pl.lit(" …")).otherwise(pl.lit(""))
    tags = label.head(TAGS_SHOWN).str.join(", ") + more
    taggings = assignments.group_by("user_id", "item_id", "timestamp").agg(tags=tags)
    users = pl.concat([assignments["user_id"], friends["user_id"], friends["friend_id"]])
    return RawTables(
        users=users.unique().sort().to_frame("user_id"),
        items=items,
        interactions=taggings.sort("timestamp", "user_id", "item_id"),
        friends=friends,
        item_labels=assignments.select("timestamp", "label", "item_id"),
        dropped=dropped,
        files={"items": "artists.dat", "interactions": "user_taggedartists.dat"},
    )


def _assignments(raw: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """Tag assignments: user_id, item_id, `timestamp` (start of the day, UTC) and `label`."""
    path = raw / "user_taggedartists.dat"
    rows = _table(path, ASSIGNMENTS)
    for column, high in {"day": 31, "month": 12, "year": 9999}.items():
        rows = as_integers(rows, column, path, 1, high)
    day = pl.format("{}-{}-{}", "year", "month", "day").str.to_date("%Y-%m-%d", strict=False)
    once = keep_first(rows, ASSIGNMENTS, dropped, "duplicate_assignment")
    time = pl.when(day.is_between(EARLIEST, LATEST)).then(day.cast(pl.Datetime("ms")).dt.epoch("ms"))
    dated = drop_unknown(once.with_columns(timestamp=time), ["timestamp"], dropped, "impossible_time")

    tags = unique_ids(_table(raw / "tags.dat", TAGS, "latin-1"), "tagID", raw / "tags.dat")
    tags = tags.select("tagID", label=one_line(pl.col("tagValue"))).drop_nulls()
    labelled = dated.join(tags, on="tagID", how="left", maintain_order="left")
    labelled = labelled.rename({"userID": "user_id", "artistID": "item_id"})
    return drop_unknown(labelled, ["label"], dropped, "unknown_tag")


def _table(path: Path, columns: Sequence[str], encoding: str = "utf-8") -> pl.DataFrame:
    """The lines under the header. Raises UserError with file:line, also for another header."""
    rows = read_fields(path, "\t", columns, encoding)
    header = tuple(rows.select(columns).row(0)) if len(rows) else ()
    if header != tuple(columns):
        raise UserError(
            f"{path}:1: expected the header {shorten(' '.join(columns))!r} (separated by tabs), got "
            f"{shorten(' '.join(header))!r}; take the file as published"
        )
    return rows.slice(1)


LASTFM = Domain(
    name="lastfm",
    title="Last.fm (HetRec 2011)",
    publisher=PUBLISHER,
    licence="Last.fm / HetRec 2011: non-commercial use, no redistribution stated",
    raw_files=FILES,
    read=read,
    event="tagged",
    clock_ms=86_400_000,
    item="{name}",
    option="{item}< - {top_tags}>< (tagged by {friends_tagged:.0f} of the user's friends)>",
    history="{event} {item}, {time_diff}: {tags}",
    as_of={"top_tags": "labels:5", "friends_tagged": "friends"},
    repeats=True,
)
