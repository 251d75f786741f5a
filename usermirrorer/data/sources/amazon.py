"""Amazon reviews of one category, in the release of 2023, 2018 or 2014: `amazon:Office_Products`.

Raw files as distributed, one object a line, gzip or not:

* 2023: `CATEGORY.jsonl.gz` and `meta_CATEGORY.jsonl.gz`; the item is the parent_asin, times are milliseconds.
* 2018: `CATEGORY.json.gz` or `CATEGORY_5.json.gz` and `meta_CATEGORY.json.gz`; reviewerID, asin, overall,
  unixReviewTime (seconds at the start of a day); prices, titles and categories hold remains of the web page.
* 2014: `reviews_CATEGORY.json.gz` or `reviews_CATEGORY_5.json.gz` with the same keys, and `meta_CATEGORY.json.gz`, a
  printed Python dictionary a line.

Reviews and items must be of one release. Files keep the names that their publisher gave them.

A review is an event; every review is a choice unless `min_rating=N` says otherwise. Dropped and counted are a second
review of an item by the same person, reviews without an id or a time, and items whose title is missing or a script
from the page. An item exists from its first review. Average rating and number of reviews are computed from the log as
of the scene; the price dates from the crawl. The published system keeps the latest 30 % and then users and items with
at least five reviews; that protocol is not applied here. Reading takes about half a kilobyte of memory per review.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown, first_reviews, keep_first, users_of
from usermirrorer.data.sources.domain import EVERY_EVENT, MIN_RATING, Domain, RawTables
from usermirrorer.data.sources.readers.files import ColumnType, find_file
from usermirrorer.data.sources.readers.python_lines import read_python_lines
from usermirrorer.data.sources.readers.text import dollars, first_words, stripped, without_markup
from usermirrorer.errors import UserError


PUBLISHER = "https://amazon-reviews-2023.github.io/"
PUBLISHER_2018 = "https://nijianmo.github.io/amazon/"
PUBLISHER_2014 = "https://jmcauley.ucsd.edu/data/amazon/"
TITLE_WORDS, SUMMARY_WORDS, REVIEW_WORDS = 10, 12, 30
CATEGORY_LEVELS = 4
"""Levels of a category path that are shown: in the release of 2018, what follows may not be categories."""
LATEST_SECOND = 2**33
"""A later time cannot be that of a review."""

WITHOUT_ITEMS = "for reviews without it, describe a log of your own: docs/your_own_log.md"

_REVIEW: Mapping[str, ColumnType] = {
    **dict.fromkeys("user_id reviewerID parent_asin asin title summary text reviewText".split(), pl.String),
    **dict.fromkeys(("rating", "overall"), pl.Float64),
    **dict.fromkeys(("timestamp", "unixReviewTime"), pl.Int64),
}
_ITEM: Mapping[str, ColumnType] = {
    **dict.fromkeys("parent_asin asin title price main_category main_cat".split(), pl.String),
    "category": pl.List(pl.String),
}


def review_files(category: str) -> dict[str, str]:
    """Names under which the reviews of a category have been distributed, newest release first."""
    names = {f"{category}.jsonl": "reviews, release of 2023"}
    for start, release in (("", f"2018 ({PUBLISHER_2018})"), ("reviews_", f"2014 ({PUBLISHER_2014})")):
        names[f"{start}{category}.json"] = f"reviews, release of {release}"
        names[f"{start}{category}_5.json"] = f"its 5-core, release of {release}"
    return {f"{name}{packed}": content for name, content in names.items() for packed in (".gz", "")}


def item_files(category: str, ending: str) -> dict[str, str]:
    """Names of the file of items beside reviews that end in `.jsonl` (2023) or `.json`."""
    release = "release of 2023" if ending == ".jsonl" else "release of 2018 or 2014, as the reviews"
    return {f"meta_{category}{ending}{packed}": f"items, {release}" for packed in (".gz", "")}


def read(raw: Path | None, seed: int, category: str) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first line that is not an object."""
    name = f"amazon:{category}"
    reviews_file = find_file(raw, list(review_files(category)), name, PUBLISHER)
    newest = ".jsonl" in reviews_file.suffixes
    found_beside = list(item_files(category, ".jsonl" if newest else ".json"))
    items_file = find_file(raw, found_beside, name, PUBLISHER, WITHOUT_ITEMS)
    dropped: dict[str, int] = {}
    reviews = _reviews(reviews_file, dropped)
    items = _items(items_file, newest, reviews, dropped)
    files = {"items": items_file.name, "interactions": reviews_file.name}
    return RawTables(users=users_of(reviews), items=items, interactions=reviews, dropped=dropped, files=files)


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    milliseconds, seconds = pl.col("timestamp"), pl.col("unixReviewTime")
    time = pl.coalesce(
        pl.when(milliseconds.is_between(0, LATEST_SECOND * 1000)).then(milliseconds),
        pl.when(seconds.is_between(0, LATEST_SECOND)).then(seconds * 1000),
    )
    chunks = (
        chunk.select(
            _id("user_id", "reviewerID").alias("user_id"),
            _id("parent_asin", "asin").alias("item_id"),
            time.alias("timestamp"),
            pl.coalesce("rating", "overall").alias("rating"),
            first_words(without_markup(pl.coalesce("summary", "title")), SUMMARY_WORDS).alias("summary"),
            first_words(without_markup(pl.coalesce("text", "reviewText")), REVIEW_WORDS).alias("review"),
        )
        for chunk in read_python_lines(path, _REVIEW)
    )
    return first_reviews(path, chunks, dropped, "time")


def _items(path: Path, newest: bool, reviews: pl.DataFrame, dropped: dict[str, int]) -> pl.DataFrame:
    """The items that have reviews, the first line of each."""
    reviewed = reviews.select("item_id").unique()
    # The path of categories is `categories` in 2023, the first of `categories` in 2014, and `category` in 2018.
    one_path = pl.List(pl.String)
    schema: dict[str, ColumnType] = {**_ITEM, "categories": one_path if newest else pl.List(one_path)}
    paths = (pl.col("categories") if newest else pl.col("categories").list.first(), pl.col("category"))
    levels = pl.coalesce(pl.when(levels.list.len() > 0).then(levels) for levels in paths)
    category = levels.list.eval(without_markup(pl.element()).drop_nulls()).list.head(CATEGORY_LEVELS).list.join(" > ")
    # Some main categories of 2018 are pictures: <img … alt="Digital Music" …>.
    main = pl.coalesce("main_category", pl.col("main_cat").str.extract(r'alt="([^"]*)"'), "main_cat")
    title = without_markup(pl.when(~pl.col("title").str.contains("getTime", literal=True)).then("title"))
    chunks = (
        chunk.with_columns(item_id=_id("parent_asin", "asin"))
        .join(reviewed, on="item_id", how="semi", maintain_order="left")
        .select(
            "item_id",
            title=first_words(title, TITLE_WORDS),
            category=pl.coalesce(pl.when(category != "").then(category), without_markup(main)),
            price=_price(pl.col("price").str.strip_chars()),
        )
        for chunk in read_python_lines(path, schema)
    )
    titled = drop_unknown(pl.concat(chunks), ["title"], dropped, "item_without_title")
    return keep_first(titled, ["item_id"], dropped, "repeated_item")


def _id(*columns: str) -> pl.Expr:
    """The first of some columns that holds more than white space."""
    return pl.coalesce(stripped(pl.col(name)) for name in columns)


def _price(price: pl.Expr) -> pl.Expr:
    """One price, a range ("$4.00 - $7.50") or a lowest ("from 14.99"); remains of the page are null."""
    low, high = dollars(price.str.extract(r"^(\S+) - \S+$")), dollars(price.str.extract(r"^\S+ - (\S+)$"))
    least = dollars(price.str.extract(r"^from (\S+)$"))
    return pl.coalesce(dollars(price), pl.format("{} - {}", low, high), pl.format("from {}", least))


def amazon(category: str) -> Domain:
    """The domain of one category, written as in the files' names. Raises UserError if it cannot be such a name."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", category):
        raise UserError(f"amazon category {category!r}: write it as in the files' names, for example Office_Products")
    items = item_files(category, ".jsonl") | item_files(category, ".json")
    return Domain(
        name=f"amazon:{category}",
        title=f"Amazon reviews: {category.replace('_', ' ')}",
        publisher=PUBLISHER,
        licence="none assigned by the publisher, who offers it for research",
        raw_files=review_files(category) | items,
        alternatives=(tuple(review_files(category)), tuple(items)),
        read=partial(read, category=category),
        event="reviewed",
        choice_rules={**EVERY_EVENT, **MIN_RATING},
        clock_ms=1000,
        item="{title}< | {category}>< | {price}>",
        option="{item}< | rated {average_rating:.1f}/5>< | {reviews:,.0f|review|reviews}>",
        history="{event} {time_diff}: {item}< | rating: {rating:g}/5>< | review: {summary}>< | {review}>",
        as_of={"average_rating": "mean:rating", "reviews": "count"},
        snapshots=("price",),
    )
