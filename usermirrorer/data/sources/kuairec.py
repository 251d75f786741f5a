"""KuaiRec 2.0: 12.5 million plays of 10,728 videos by 7,176 users of the app Kuaishou, summer 2020.

Raw files as distributed in `data/`, comma-separated with a header, UTF-8: `big_matrix.csv` (one row per play:
durations in ms, timestamp in seconds with a fraction), `item_daily_features.csv` (one row per video and day: date as
20200705, upload_dt as 2020-03-30, that day's counts in the whole app), `kuairec_caption_category.csv` (texts, with
line breaks inside quotes and bare carriage returns; UNKNOWN if missing), `user_features.csv` and `social_network.csv`
(printed lists of friends). Not read: `small_matrix.csv`, for which users were shown every video outside their normal
use of the app; `item_categories.csv`, numbers without names; encrypted columns of the users.

An interaction is a video that the app played to the user: an exposure to one video at a time, not a list to choose
from. It is a choice if the user watched to the end (`complete`, the default), or by `valid_play`, `long_play` or
`any`, which includes skips.

Times are kept to the millisecond. A day ends at midnight in China (UTC+8, no summer time), and its counts are known
from then on. A video exists from the start of its upload day. All user columns are snapshots from the crawl's end.
"""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import EVERY_EVENT, Domain, RawTables
from usermirrorer.data.sources.readers.checks import refuse, unique_ids
from usermirrorer.data.sources.readers.csv_files import read_columns
from usermirrorer.data.sources.readers.files import decoded, require_files
from usermirrorer.data.sources.readers.text import day_ms, one_line
from usermirrorer.errors import UserError


CHINA_MS = 8 * 3_600_000
DAY_MS = 86_400_000

LONGEST_CAPTION = 50
"""Most lines in one row of captions; a longer row has a quotation mark that is never closed."""

PUBLISHER = "https://kuairec.com"
CAPTIONS = (
    "video_id", "manual_cover_text", "caption", "topic_tag", "first_level_category_id", "first_level_category_name",
    "second_level_category_id", "second_level_category_name", "third_level_category_id", "third_level_category_name",
)  # fmt: skip
COUNTS = {"plays": "play_cnt", "likes": "like_cnt", "comments": "comment_cnt", "shares": "share_cnt"}
NUMBERS = {
    "follows": "follow_user_num", "fans": "fans_user_num", "friends": "friend_user_num",
    "registered_days": "register_days",
}  # fmt: skip
FILES = {
    "big_matrix.csv": "user_id, video_id, play_duration, video_duration, time, date, timestamp, watch_ratio",
    "item_daily_features.csv": "video_id, date, upload_dt, video_duration, counts of the day and further columns",
    "kuairec_caption_category.csv": ", ".join(CAPTIONS),
    "user_features.csv": "user_id, user_active_degree, numbers and encrypted columns",
    "social_network.csv": "user_id, friend_list as in [1, 2]",
}
LEFT, TO_THE_END = "left after", "played to the end,"


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse the five files of `data/`. Raises UserError with file:line at the first malformed line.

    Dropped and counted: `missing_time` (plays) and `broken_caption` (rows of the caption file that a stray quote cuts
    short, whose videos have no text, and repeated rows).
    """
    raw = require_files(raw, tuple(FILES), "kuairec", PUBLISHER)
    plays, missing_time = read_plays(raw / "big_matrix.csv")
    daily = read_daily(raw / "item_daily_features.csv")
    captions, broken = read_captions(raw / "kuairec_caption_category.csv")
    described = daily.group_by("item_id").agg(
        available_from=pl.col("uploaded").drop_nulls().first(), duration=pl.col("duration").drop_nulls().first()
    )
    items = described.join(captions, on="item_id", how="full", coalesce=True).sort("item_id")
    return RawTables(
        users=read_users(raw / "user_features.csv"),
        items=items.with_columns(title=pl.col("title").fill_null("untitled video")),
        interactions=plays,
        friends=read_friends(raw / "social_network.csv"),
        item_statistics=daily.select("item_id", "timestamp", *COUNTS),
        dropped={"missing_time": missing_time, "broken_caption": broken},
        files={"users": "user_features.csv", "items": "item_daily_features.csv", "interactions": "big_matrix.csv"},
    )


def read_plays(path: Path) -> tuple[pl.DataFrame, int]:
    """Every play with `play_ms`, `video_ms` and its outcome, and the number of plays without a time."""
    schema = {
        **dict.fromkeys(("user_id", "video_id", "play_duration", "video_duration"), pl.Int32),
        **dict.fromkeys(("timestamp", "watch_ratio"), pl.Float64),
    }
    parts, missing = [], 0
    for frame in read_columns(path, schema, optional=["timestamp"]):
        dated = frame.drop_nulls("timestamp")
        missing += len(frame) - len(dated)
        refuse(dated, ~pl.col("timestamp").is_between(0, 2**33), "timestamp", "a time in seconds", path)
        for column in ("play_duration", "video_duration"):
            refuse(dated, pl.col(column) < 0, column, "a number of milliseconds", path)
        ended = pl.col("play_duration") >= pl.col("video_duration")
        outcome = pl.when(ended).then(pl.lit(TO_THE_END)).otherwise(pl.lit(LEFT))
        parts.append(
            dated.select(
                pl.col("user_id").cast(pl.String),
                pl.col("video_id").cast(pl.String).alias("item_id"),
                (pl.col("timestamp") * 1000).round().cast(pl.Int64),
                play_ms="play_duration",
                video_ms="video_duration",
                seconds=(pl.col("play_duration") / 1000).cast(pl.Float32),
                outcome=outcome.cast(pl.Enum([LEFT, TO_THE_END])),
            )
        )
    if not any(len(part) for part in parts):
        raise UserError(f"{path}:1: no play under the header; take the file as published")
    return pl.concat(parts), missing


def read_daily(path: Path) -> pl.DataFrame:
    """One row per video and day, in order of `timestamp`, the end of the day, from which its counts are known.

    Columns: item_id, timestamp, uploaded (UTC milliseconds), duration (seconds), plays, likes, comments, shares.
    """
    numbers = dict.fromkeys(["video_duration", *COUNTS.values()], pl.Float64)
    schema = {"video_id": pl.Int64, "date": pl.Int64, "upload_dt": pl.String, **numbers}
    rows = pl.concat(read_columns(path, schema, optional=["upload_dt", *numbers]))
    day, uploaded = day_ms(pl.col("date").cast(pl.String), "%Y%m%d") - CHINA_MS, day_ms(pl.col("upload_dt")) - CHINA_MS
    refuse(rows, day.is_null(), "date", "a day like 20200705", path)
    refuse(rows, uploaded.is_null() & pl.col("upload_dt").is_not_null(), "upload_dt", "a day like 2020-03-30", path)
    return rows.select(
        pl.col("video_id").cast(pl.String).alias("item_id"),
        timestamp=day + DAY_MS,
        uploaded=uploaded,
        duration=pl.col("video_duration").fill_nan(None) / 1000,
        **{name: pl.col(column).fill_nan(None) for name, column in COUNTS.items()},
    ).sort("timestamp", "item_id")


def read_captions(path: Path) -> tuple[pl.DataFrame, int]:
    """Texts of each video (item_id, title, cover_text, category), and the number of rows left out."""
    text = decoded(path, 1, path.read_bytes(), "utf-8-sig")
    # Rows end with line feeds only: the csv module would end one at a bare carriage return too.
    lines = (line + "\n" for line in text.replace("\r", " ").split("\n"))
    reader, rows, before = csv.reader(lines), [], 0
    try:
        for row in reader:
            if reader.line_num - before > LONGEST_CAPTION:
                raise csv.Error("a quotation mark is never closed")
            before = reader.line_num
            if row and any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise UserError(f"{path}:{before + 1}: {error}; take the file as published") from None
    if not rows or tuple(rows[0]) != CAPTIONS:
        raise UserError(f"{path}:1: expected the header {','.join(CAPTIONS)}; take the file as published")
    whole = [row for row in rows[1:] if len(row) == len(CAPTIONS) and row[0].isdecimal() and row[0].isascii()]
    frame = pl.DataFrame(whole, schema=dict.fromkeys(CAPTIONS, pl.String), orient="row")
    frame = frame.unique("video_id", keep="first", maintain_order=True)
    levels = [_known(f"{level}_level_category_name") for level in ("first", "second", "third")]
    category = pl.concat_list(levels).list.drop_nulls().list.join(" / ")
    caption, cover = _known("caption"), _known("manual_cover_text")
    texts = frame.select(
        item_id="video_id",
        title=pl.coalesce(caption, cover),
        cover_text=pl.when(cover != caption).then(cover),
        category=pl.when(category != "").then(category),
    )
    return texts, len(rows) - 1 - len(frame)


def read_users(path: Path) -> pl.DataFrame:
    """Each user's activity, role and NUMBERS at the end of the crawl, null where unknown."""
    flags = {"is_video_author": "video author", "is_live_streamer": "live streamer"}
    numbers = dict.fromkeys([*flags, *NUMBERS.values()], pl.Float64)
    schema = {"user_id": pl.Int64, "user_active_degree": pl.String} | numbers
    rows = pl.concat(read_columns(path, schema, optional=["user_active_degree", *numbers]))
    rows = unique_ids(rows, "user_id", path)
    roles = [pl.when(pl.col(column) == 1).then(pl.lit(role)) for column, role in flags.items()]
    role = pl.concat_list(roles).list.drop_nulls().list.join(" and ")
    return rows.select(
        pl.col("user_id").cast(pl.String),
        activity=_known("user_active_degree").str.strip_suffix("_active"),
        role=pl.when(role != "").then(role),
        **{name: pl.col(column).cast(pl.Int64, strict=False) for name, column in NUMBERS.items()},
    )


def read_friends(path: Path) -> pl.DataFrame:
    """One row per user and friend, from lists printed as `[1, 2]`."""
    rows = pl.concat(read_columns(path, {"user_id": pl.Int64, "friend_list": pl.String}))
    printed = pl.col("friend_list").str.contains(r"^\s*\[\s*(\d+\s*(,\s*\d+\s*)*)?\]\s*$")
    refuse(rows, ~printed, "friend_list", "a list like [1, 2]", path)
    friends = pl.col("friend_list").str.extract_all(r"\d+")
    pairs = rows.select(pl.col("user_id").cast(pl.String), friend_id=friends).explode("friend_id", empty_as_null=False)
    return pairs.unique(maintain_order=True)


def _known(column: str) -> pl.Expr:
    """The text on one line, null if it is empty or UNKNOWN."""
    text = one_line(pl.col(column))
    return pl.when(text != "UNKNOWN").then(text)


def _played(enough_ms: int, strictly: bool) -> pl.Expr:
    """Played to the end, or for long enough if the video is longer than that."""
    play, video = pl.col("play_ms"), pl.col("video_ms")
    long_enough = play > enough_ms if strictly else play >= enough_ms
    return pl.when(video <= enough_ms).then(play >= video).otherwise(long_enough)


KUAIREC = Domain(
    name="kuairec",
    title="KuaiRec 2.0 (Kuaishou)",
    publisher=PUBLISHER,
    licence="CC BY-SA 4.0",
    redistribute_text=True,
    raw_files=FILES,
    read=read,
    event="saw",
    choice_rules={
        "complete": lambda _: pl.col("play_ms") >= pl.col("video_ms"),
        "valid_play": lambda _: _played(7_000, strictly=True),
        "long_play": lambda _: _played(18_000, strictly=False),
        **EVERY_EVENT,
    },
    clock_ms=1,
    item="{title}< | {cover_text}>< | {category}>< | {duration:.0f} s>",
    option=(
        "{item}< | last counted day: {plays:,.0f|play|plays}, {likes:,.0f|like|likes}, "
        "{comments:,.0f|comment|comments}, {shares:,.0f|share|shares}>"
    ),
    history="{event} {item}, {time_diff}: {outcome} {seconds:.0f} s",
    profile=(
        "Country: China\nActivity: {activity}\nRole: {role}\nDays since registration: {registered_days:,}\n"
        "Follows: {follows:,}; fans: {fans:,}; friends: {friends:,}"
    ),
    as_of={name: f"latest:{name}" for name in COUNTS},
    snapshots=("activity", "role", *NUMBERS),
    numbers=("duration",),
    repeats=True,
)
