"""Amazon reviews of one category, in the release of 2023, 2018 or 2014: `amazon:Office_Products`.

Raw files as distributed, one object a line, packed or not:

* 2023: `CATEGORY.jsonl.gz` and `meta_CATEGORY.jsonl.gz`; the item is the parent_asin, times are milliseconds.
* 2018: `CATEGORY.json.gz` or `CATEGORY_5.json.gz` and `meta_CATEGORY.json.gz`; reviewerID, asin, overall,
  unixReviewTime (seconds at the start of a day); prices, titles and categories hold remains of the web page.
* 2014: `reviews_CATEGORY.json.gz` or `reviews_CATEGORY_5.json.gz` with the same keys, and `meta_CATEGORY.json.gz`, a
  printed Python dictionary a line.

A review is an event; every review is a choice unless `min_rating=N` says otherwise. A second review of an item by the
same person is dropped, as are reviews without an id or a time and items whose title is missing or is a script of the
page; all are counted. An item exists from its first review. Average rating and number of reviews are counted from the
log as of the scene; the price is that of the day of the crawl. The published system keeps the latest 30 % and then
users and items of five reviews or more: that belongs to its protocol, and is not done here. What is in memory is about
half a kilobyte a review.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.json_lines import ColumnType, find_file
from usermirrorer.data.sources.readers.markup import without_markup
from usermirrorer.data.sources.readers.prices import dollars
from usermirrorer.data.sources.readers.python_lines import read_python_lines
from usermirrorer.data.sources.readers.text import first_words
from usermirrorer.errors import UserError


PUBLISHER = "https://amazon-reviews-2023.github.io/"
TITLE_WORDS, SUMMARY_WORDS, REVIEW_WORDS = 10, 12, 30
CATEGORY_LEVELS = 4
"""Categories of a path that are shown: in the release of 2018 more may follow that are none."""
LATEST_SECOND = 2**33
"""What is later is no time of a review."""

_REVIEW: Mapping[str, ColumnType] = {
    "user_id": pl.String, "reviewerID": pl.String, "parent_asin": pl.String, "asin": pl.String,
    "rating": pl.Float64, "overall": pl.Float64, "timestamp": pl.Int64, "unixReviewTime": pl.Int64,
    "title": pl.String, "summary": pl.String, "text": pl.String, "reviewText": pl.String,
}  # fmt: skip
_ITEM: Mapping[str, ColumnType] = {
    "parent_asin": pl.String, "asin": pl.String, "title": pl.String, "price": pl.String, "main_category": pl.String,
    "main_cat": pl.String, "category": pl.List(pl.String),
}  # fmt: skip
_CATEGORIES: Mapping[bool, ColumnType] = {True: pl.List(pl.String), False: pl.List(pl.List(pl.String))}
"""Type of `categories` in 2023 (one path) and in 2014 (several)."""


def review_files(category: str) -> dict[str, str]:
    """Names that the reviews of a category have been distributed under, newest release first."""
    older = (category, f"{category}_5", f"reviews_{category}", f"reviews_{category}_5")
    names = [f"{category}.jsonl", *(f"{stem}.json" for stem in older)]
    return {f"{name}{packed}": "reviews, one object a line" for name in names for packed in (".gz", "")}


def item_files(category: str, ending: str) -> dict[str, str]:
    """Names of the items' file beside reviews that end in `.jsonl` (2023) or `.json`."""
    return {f"meta_{category}{ending}{packed}": "items, one object a line" for packed in (".gz", "")}


def read(raw: Path | None, seed: int, category: str) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first line that is no object."""
    name = f"amazon:{category}"
    reviews_file = find_file(raw, list(review_files(category)), name, PUBLISHER)
    newest = ".jsonl" in reviews_file.suffixes
    items_file = find_file(raw, list(item_files(category, ".jsonl" if newest else ".json")), name, PUBLISHER)
    dropped: dict[str, int] = {}
    reviews = _reviews(reviews_file, dropped)
    items = _items(items_file, {**_ITEM, "categories": _CATEGORIES[newest]}, reviews, dropped)
    return RawTables(
        users=reviews.select("user_id").unique(maintain_order=True), items=items, interactions=reviews, dropped=dropped
    )


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """The reviews that can be used, each person's first of an item; the counts go to `dropped`."""
    parts, lines, whole = [], 0, 0
    for chunk in read_python_lines(path, _REVIEW):
        review = without_markup(pl.coalesce("text", "reviewText"))
        part = chunk.select(
            _id("user_id", "reviewerID").alias("user_id"),
            _id("parent_asin", "asin").alias("item_id"),
            pl.coalesce(
                pl.when(pl.col("timestamp").is_between(0, LATEST_SECOND * 1000)).then("timestamp"),
                pl.when(pl.col("unixReviewTime").is_between(0, LATEST_SECOND)).then(pl.col("unixReviewTime") * 1000),
            ).alias("timestamp"),
            pl.coalesce("rating", "overall").alias("rating"),
            first_words(without_markup(pl.coalesce("summary", "title")), SUMMARY_WORDS).alias("summary"),
            first_words(review, REVIEW_WORDS).alias("review"),
        )
        named = part.drop_nulls(["user_id", "item_id"])
        parts.append(named.drop_nulls("timestamp"))
        lines, whole = lines + len(part), whole + len(named)
    if not parts:
        raise UserError(f"{path}: no review in it; download it again")
    reviews = pl.concat(parts)
    dropped["review_without_id"] = lines - whole
    dropped["review_without_time"] = whole - len(reviews)
    first = reviews.sort("timestamp", maintain_order=True)
    first = first.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    dropped["repeated_review"] = len(reviews) - len(first)
    return first


def _items(
    path: Path, schema: Mapping[str, ColumnType], reviews: pl.DataFrame, dropped: dict[str, int]
) -> pl.DataFrame:
    """The items that have reviews, first line of each; the counts go to `dropped`."""
    reviewed = reviews.select("item_id").unique()
    nested = schema["categories"] != pl.List(pl.String)
    # The first path that is not empty: 2023 and 2014 call it categories, 2018 category.
    path_2014_or_2023 = pl.col("categories").list.first() if nested else pl.col("categories")
    levels = pl.coalesce(
        pl.when(path_2014_or_2023.list.len() > 0).then(path_2014_or_2023),
        pl.when(pl.col("category").list.len() > 0).then("category"),
    )
    parts = [pl.DataFrame(schema={name: pl.String for name in ("item_id", "title", "category", "price")})]
    nameless = 0
    for chunk in read_python_lines(path, schema):
        known = chunk.with_columns(item_id=_id("parent_asin", "asin")).join(
            reviewed, on="item_id", how="semi", maintain_order="left"
        )
        title = without_markup(pl.when(~pl.col("title").str.contains("getTime", literal=True)).then("title"))
        joined = (
            levels.list.eval(without_markup(pl.element()).drop_nulls()).list.head(CATEGORY_LEVELS).list.join(" > ")
        )
        # Some main categories of 2018 are pictures: <img … alt="Digital Music" …>.
        main = pl.coalesce("main_category", pl.col("main_cat").str.extract(r'alt="([^"]*)"'), "main_cat")
        part = known.select(
            "item_id",
            first_words(title, TITLE_WORDS).alias("title"),
            pl.coalesce(pl.when(joined != "").then(joined), without_markup(main)).alias("category"),
            _price(pl.col("price").str.strip_chars()).alias("price"),
        )
        titled = part.drop_nulls("title")
        nameless += len(part) - len(titled)
        parts.append(titled)
    items = pl.concat(parts)
    first = items.unique("item_id", keep="first", maintain_order=True)
    dropped["item_without_title"] = nameless
    dropped["repeated_item"] = len(items) - len(first)
    return first


def _id(*columns: str) -> pl.Expr:
    """The first of some columns that holds more than white space."""
    return pl.coalesce(pl.col(name).str.strip_chars().replace("", None) for name in columns)


def _price(price: pl.Expr) -> pl.Expr:
    """One price, a range ("$4.00 - $7.50") or a lowest ("from 14.99"); remains of the page are null."""
    low, high = dollars(price.str.extract(r"^(\S+) - \S+$")), dollars(price.str.extract(r"^\S+ - (\S+)$"))
    least = dollars(price.str.extract(r"^from (\S+)$"))
    return pl.coalesce(dollars(price), pl.format("{} - {}", low, high), pl.format("from {}", least))


def amazon(category: str) -> Domain:
    """The domain of one category, written as in the files' names. Raises UserError for what cannot be such a name."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", category):
        raise UserError(f"amazon category {category!r}: write it as in the files' names, for example Office_Products")
    items = item_files(category, ".jsonl") | item_files(category, ".json")
    return Domain(
        name=f"amazon:{category}",
        title=f"Amazon reviews: {category.replace('_', ' ')}",
        publisher=PUBLISHER,
        licence="none assigned by the publisher, who offers it for research",
        redistribute_text=False,
        raw_files=review_files(category) | items,
        read=partial(read, category=category),
        event="reviewed",
        choice_rules={
            "any": lambda _: pl.lit(True),
            "min_rating": lambda value: (pl.col("rating") >= value).fill_null(False),
        },
        clock_ms=1000,
        fields={
            "title": "static",
            "category": "static",
            "price": "snapshot",
            "rating": "static",
            "summary": "static",
            "review": "static",
            "average_rating": "as_of",
            "reviews": "as_of",
        },
        item="{title}< | {category}>< | {price}>",
        option="{item}< | rated {average_rating:.1f}/5>< | {reviews:,.0f} reviews>",
        history="{event} {time_diff}: {item}< | rating: {rating:g}/5>< | review: {summary}>< | {review}>",
        as_of={"average_rating": "mean:rating", "reviews": "count"},
    )
