"""MobileRec: 19.3 million reviews of 10,173 apps of the Google Play store by 700,000 people, until April 2022.

Raw files as distributed, CSV with quoted fields that hold line breaks: `interactions/mobilerec_final.csv`
(app_package, review, rating, votes, date, uid, formated_date, unix_timestamp, app_category) and
`app_meta/app_meta.csv` (app_package, app_name, developer_name, app_category, description, content_rating, num_reviews,
price, avg_rating). The day of a review is its formated_date (2018-10-21); unix_timestamp is that day's midnight in the
collectors' zone and is not read. Price is the caption of the store's button: "Install" where nothing is to pay.

A review is an event; every review is a choice unless `min_rating=N` says otherwise. A second review of an app by the
same person is dropped, as are reviews without an id or a day and apps without a name; all are counted. An app exists
from its first review. Average rating and number of reviews are counted from the log as of the scene; the store's own,
and the price, are those of the day of the crawl. All rows are read; the published system reads the first 100,000.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.csv_records import read_records
from usermirrorer.data.sources.readers.lines import require_files
from usermirrorer.data.sources.readers.prices import dollars
from usermirrorer.data.sources.readers.text import first_words, one_line


PUBLISHER = "https://huggingface.co/datasets/recmeapp/mobilerec"
INTERACTIONS, META = "interactions/mobilerec_final.csv", "app_meta/app_meta.csv"
FILES = {
    INTERACTIONS: "app_package, review, rating, uid, formated_date",
    META: "app_package, app_name, developer_name, app_category, description, content_rating, num_reviews, price, "
    "avg_rating",
}

REVIEW_WORDS, DESCRIPTION_WORDS = 30, 20


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first record that is not CSV."""
    raw = require_files(raw, tuple(FILES), "mobilerec", PUBLISHER)
    dropped: dict[str, int] = {}
    reviews = _reviews(raw / INTERACTIONS, dropped)
    items = _apps(raw / META, dropped)
    users = reviews.select("user_id").unique(maintain_order=True)
    return RawTables(users=users, items=items, interactions=reviews, dropped=dropped)


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """The reviews that can be used, each person's first of an app; the counts go to `dropped`."""
    parts = [pl.DataFrame(schema={
        "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float64, "review": pl.String,
    })]  # fmt: skip
    lines, whole = 0, 0
    day = pl.col("formated_date").str.strip_chars().str.to_date("%Y-%m-%d", strict=False)
    rating = pl.col("rating").str.strip_chars().cast(pl.Float64, strict=False)
    for chunk in read_records(path, ("uid", "app_package", "formated_date", "rating", "review")):
        part = chunk.select(
            one_line(pl.col("uid")).alias("user_id"),
            one_line(pl.col("app_package")).alias("item_id"),
            day.cast(pl.Datetime("ms")).dt.epoch("ms").alias("timestamp"),
            pl.when(rating.is_between(1, 5)).then(rating).alias("rating"),
            first_words(pl.col("review"), REVIEW_WORDS).alias("review"),
        )
        named = part.drop_nulls(["user_id", "item_id"])
        parts.append(named.drop_nulls("timestamp"))
        lines, whole = lines + len(part), whole + len(named)
    reviews = pl.concat(parts)
    dropped["review_without_id"] = lines - whole
    dropped["review_without_day"] = whole - len(reviews)
    first = reviews.sort("timestamp", maintain_order=True)
    first = first.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    dropped["repeated_review"] = len(reviews) - len(first)
    return first


def _apps(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    columns = (
        "app_package app_name developer_name app_category description content_rating num_reviews price avg_rating"
    ).split()
    apps = pl.concat([pl.DataFrame(schema={name: pl.String for name in columns}), *read_records(path, columns)])
    apps = apps.with_columns(one_line(pl.col(name)).alias(name) for name in columns)
    named = apps.drop_nulls(["app_package", "app_name"])
    items = named.unique("app_package", keep="first", maintain_order=True)
    dropped["app_without_name"] = len(apps) - len(named)
    dropped["repeated_app"] = len(named) - len(items)
    developer = pl.col("developer_name")
    store_rating = pl.col("avg_rating").cast(pl.Float64, strict=False)
    free = pl.col("price") == "Install"
    return items.select(
        pl.col("app_package").alias("item_id"),
        "app_name",
        "app_category",
        pl.when(developer != "None").then(developer).alias("developer_name"),
        "content_rating",
        first_words(pl.col("description"), DESCRIPTION_WORDS).alias("description"),
        pl.when(free)
        .then(pl.lit("Free"))
        .otherwise(dollars(pl.col("price").str.extract(r"(\$[\d.,]+)")))
        .alias("price"),
        pl.when(store_rating.is_between(0, 5)).then(store_rating).alias("store_rating"),
        pl.col("num_reviews").str.replace_all(",", "").cast(pl.Int64, strict=False).alias("store_reviews"),
    )


MOBILEREC = Domain(
    name="mobilerec",
    title="MobileRec: reviews of Google Play apps",
    publisher=PUBLISHER,
    licence="none stated by the publisher; please cite Maqbool et al. (SIGIR 2023)",
    redistribute_text=False,
    raw_files=FILES,
    read=read,
    event="reviewed",
    choice_rules={
        "any": lambda _: pl.lit(True),
        "min_rating": lambda value: (pl.col("rating") >= value).fill_null(False),
    },
    clock_ms=86_400_000,
    fields={
        "app_name": "static",
        "app_category": "static",
        "developer_name": "static",
        "content_rating": "static",
        "description": "static",
        "price": "snapshot",
        "store_rating": "snapshot",
        "store_reviews": "snapshot",
        "rating": "static",
        "review": "static",
        "average_rating": "as_of",
        "reviews": "as_of",
    },
    item=(
        "{app_name}< | {app_category}>< | by {developer_name}>< | {content_rating}>< | {price}>"
        "< | {store_rating:.1f}/5 in the store>< | {store_reviews:,} reviews in the store>< | {description}>"
    ),
    option="{item}< | rated {average_rating:.1f}/5>< | {reviews:,.0f} reviews>",
    history="{event} {time_diff}: {item}< | rating: {rating:g}/5>< | review: {review}>",
    as_of={"average_rating": "mean:rating", "reviews": "count"},
)
