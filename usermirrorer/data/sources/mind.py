"""MIND: lists shown by Microsoft News and the clicks on them, 9 to 15 November 2019; 2.6 million (large) or 230,000.

Raw files as distributed, unzipped: folders `train` and, if you have it, `dev` (or `MINDlarge_train`, `MINDsmall_dev`,
…) with `behaviors.tsv` and `news.tsv`: UTF-8, tab-separated, no header, no quoting: a quotation mark is text. Times
such as `11/15/2019 8:55:22 AM` have no zone and are taken as UTC. Of a folder `test` only the news are read: its
clicks are not published.

An interaction is a click, at the time of its impression; each is a choice, and the impression is the exposure. A
user's click history, from before the log, is the same in all the user's rows, so it gives no label away; that of the
earliest row becomes undated interactions. An article exists from its first impression, or from the start of the log
if it is in a history. Repeated rows, as in a dev appended to train or to itself, are dropped and counted. Impressions
are numbered from 1 in each file, so their ids begin with the name of the split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.checks import refuse
from usermirrorer.data.sources.readers.delimited import parse_fields, read_fields
from usermirrorer.data.sources.readers.files import read_chunks
from usermirrorer.data.sources.readers.text import one_line
from usermirrorer.errors import UserError
from usermirrorer.steps import BUILT_EXPOSURES


PUBLISHER = "https://msnews.github.io/"
BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
NEWS = ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
FILES = {
    f"*{split}/{file}.tsv": f"{columns} (tab); in a folder {split}, MINDlarge_{split} or MINDsmall_{split}"
    for split in ("train", "dev")
    for file, columns in {"behaviors": " ".join(BEHAVIORS), "news": " ".join(NEWS)}.items()
} | {"*test/news.tsv": f"{' '.join(NEWS)} (tab)"}

TIME = "%m/%d/%Y %I:%M:%S %p"
SHOWN = r"^\S+-[01]( \S+-[01])*$"
"""News ids, each with 1 if it was clicked and 0 if not."""


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse train and, if it is there, dev. Raises UserError with file:line at the first malformed line.

    Dropped and counted: `duplicate_impression` and `untitled_news`.
    """
    logs = {"train": folder(raw, "train")}
    directory = logs["train"].parent
    if _folders(directory, "dev"):
        logs["dev"] = folder(directory, "dev")
    tests = [path for path in _folders(directory, "test") if (path / "news.tsv").is_file()]
    chunks = [chunk for split, path in logs.items() for chunk in read_behaviors(path / "behaviors.tsv", split)]
    rows, appeared, histories = (pl.concat(frames) for frames in zip(*chunks, strict=True))
    once = rows["digest"].is_first_distinct()
    # Filtering copies all lists, so it is skipped if it would remove nothing.
    impressions = (rows if once.all() else rows.filter(once)).with_columns(impression_id=_unique_numbers())
    past = histories.sort("timestamp", maintain_order=True).unique("user_id", keep="first", maintain_order=True)
    past = past.with_columns(item_id=pl.col("history").str.extract_all(r"\S+")).explode("item_id", empty_as_null=False)
    past = past.select("user_id", "item_id", timestamp=pl.lit(None, dtype=pl.Int64))
    clicks = impressions.select("user_id", "clicked", "timestamp").rename({"clicked": "item_id"})
    clicks = clicks.explode("item_id", empty_as_null=False)

    news = pl.concat([_news(directory / "news.tsv") for directory in (*logs.values(), *tests)])
    news = news.unique("item_id", keep="first", maintain_order=True)
    titled = news.drop_nulls("title")
    start = pl.lit(impressions["timestamp"].min(), dtype=pl.Int64)
    first = pl.concat([appeared, past.select("item_id", timestamp=start)])
    first = first.group_by("item_id").agg(available_from=pl.col("timestamp").min())
    return RawTables(
        users=impressions.select("user_id").unique().sort("user_id"),
        items=titled.join(first, on="item_id", how="left", maintain_order="left"),
        interactions=pl.concat([past, clicks]),
        impressions=impressions.select("impression_id", "user_id", "timestamp", "items", "clicked"),
        dropped={"duplicate_impression": len(rows) - len(impressions), "untitled_news": len(news) - len(titled)},
        files={"items": "news.tsv", "interactions": "behaviors.tsv"},
    )


def folder(raw: Path | None, split: str) -> Path:
    """The folder of a split, under any of its names. Raises UserError unless there is one, with both its files."""
    wanted = f"{split}/ or MINDlarge_{split}/ with behaviors.tsv and news.tsv (from {PUBLISHER})"
    if raw is None:
        raise UserError(f"mind needs its raw files: add --raw DIR with {wanted}")
    found = _folders(raw, split)
    if len(found) != 1:
        state = f"{raw} has {' and '.join(path.name for path in found)}" if found else f"{raw / split} is missing"
        raise UserError(f"{state}: mind needs one folder {wanted}")
    for name in ("behaviors.tsv", "news.tsv"):
        if not (found[0] / name).is_file():
            raise UserError(f"{found[0] / name} is missing: mind needs {wanted}")
    return found[0]


def read_behaviors(path: Path, split: str) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]:
    """Each chunk's impressions, first appearances (item_id, timestamp) and earliest history of each user.

    Lists are unrolled only within a chunk. Raises UserError with file:line.
    """
    lines = 0
    for first_line, chunk in read_chunks(path):
        frame = parse_fields(path, first_line, chunk, "\t", BEHAVIORS)
        frame = frame.with_columns(timestamp=pl.col("time").str.to_datetime(TIME, time_unit="ms", strict=False))
        frame = frame.with_columns(pl.col("timestamp").dt.epoch("ms"), pl.col("impressions").str.strip_chars())
        refuse(frame, pl.col("timestamp").is_null(), "time", "a time like 11/15/2019 8:55:22 AM", path)
        refuse(frame, ~pl.col("impressions").str.contains(SHOWN), "impressions", "a list like N7-0 N12-1", path)
        shown, news = pl.col("impressions").str.split(" "), pl.element()
        part = frame.select(
            "impression_id", "user_id", "timestamp",
            items=shown.list.eval(news.str.head(-2)),
            clicked=shown.list.eval(news.filter(news.str.ends_with("-1")).str.head(-2)),
            split=pl.lit(split),
            digest=pl.struct("impression_id", "user_id", "time", "impressions").hash(),
        )  # fmt: skip
        unrolled = part.select("timestamp", item_id="items").explode("item_id", empty_as_null=False)
        appeared = unrolled.group_by("item_id").agg(pl.col("timestamp").min())
        first = frame.sort("timestamp", maintain_order=True).unique("user_id", keep="first", maintain_order=True)
        yield part, appeared, first.select("user_id", "timestamp", "history")
        lines += len(part)
    if not lines:
        raise UserError(f"{path} has no lines; take the file as published")


MIND = Domain(
    name="mind",
    title="MIND (Microsoft News)",
    publisher=PUBLISHER,
    licence="Microsoft Research License Terms: research use, no redistribution",
    raw_files=FILES,
    optional=("*dev/behaviors.tsv", "*dev/news.tsv", "*test/news.tsv"),
    read=read,
    event="clicked",
    clock_ms=1000,
    item="{title}< (category: {category})>",
    history="{event} {item}, {time_diff}",
    repeats=True,
    exposures=("logged", *BUILT_EXPOSURES),
)


def _unique_numbers() -> pl.Expr:
    """Split and number of each impression, and a count if a file uses one number for several impressions."""
    ordinal = pl.int_range(pl.len()).over("split", "impression_id")
    again = pl.when(ordinal > 0).then(pl.format("-{}", ordinal + 1)).otherwise(pl.lit(""))
    return pl.col("split") + "-" + pl.col("impression_id") + again


def _news(path: Path) -> pl.DataFrame:
    columns = (one_line(pl.col(name)).alias(name) for name in ("category", "subcategory", "title", "abstract"))
    return read_fields(path, "\t", NEWS).select("item_id", *columns)


def _folders(raw: Path, split: str) -> list[Path]:
    names = (raw / split, *sorted(raw.glob(f"MIND*_{split}")))
    return [path for path in names if path.is_dir()]
