"""MobileRec: 19.3 million reviews of 10,173 apps of the Google Play store by 700,000 people, until April 2022.

Raw files as distributed: `interactions/mobilerec_final.csv` and `app_meta/app_meta.csv`, CSV with line breaks in
quoted fields. The day of a review is its formated_date (2018-10-21); unix_timestamp is that day's midnight in the
collectors' zone and is not read. Price is the caption of the store's button: "Install" if the app is free.

A review is an event; every review is a choice unless `min_rating=N` says otherwise. Dropped and counted are a second
review of an app by the same person, reviews without an id or a day, and apps without a name. An app exists from its
first review. Average rating and number of reviews are computed from the log as of the scene; the store's own, and the
price, date from the crawl. All rows are read; the published system reads the first 100,000.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown, first_reviews, keep_first, users_of
from usermirrorer.data.sources.domain import EVERY_EVENT, MIN_RATING, Domain, RawTables
from usermirrorer.data.sources.readers.csv_files import read_records
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.data.sources.readers.text import day_ms, dollars, first_words, one_line


PUBLISHER = "https://huggingface.co/datasets/recmeapp/mobilerec"
INTERACTIONS, META = "interactions/mobilerec_final.csv", "app_meta/app_meta.csv"
APP_COLUMNS = (
    "app_package app_name developer_name app_category description content_rating num_reviews price avg_rating"
).split()
FILES = {INTERACTIONS: "app_package, review, rating, uid, formated_date", META: ", ".join(APP_COLUMNS)}

REVIEW_WORDS, DESCRIPTION_WORDS = 30, 20


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first record that is not CSV."""
    raw = require_files(raw, tuple(FILES), "mobilerec", PUBLISHER)
    dropped: dict[str, int] = {}
    reviews = _reviews(raw / INTERACTIONS, dropped)
    items = _apps(raw / META, dropped)
    files = {"items": META, "interactions": INTERACTIONS}
    return RawTables(users=users_of(reviews), items=items, interactions=reviews, dropped=dropped, files=files)


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    rating = pl.col("rating").str.strip_chars().cast(pl.Float64, strict=False)
    chunks = (
        chunk.select(
            one_line(pl.col("uid")).alias("user_id"),
            one_line(pl.col("app_package")).alias("item_id"),
            day_ms(pl.col("formated_date").str.strip_chars()).alias("timestamp"),
            pl.when(rating.is_between(1, 5)).then(rating).alias("rating"),
            first_words(pl.col("review"), REVIEW_WORDS).alias("review"),
        )
        for chunk in read_records(path, ("uid", "app_package", "formated_date", "rating", "review"))
    )
    return first_reviews(path, chunks, dropped, "day")


def _apps(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    apps = pl.concat(read_records(path, APP_COLUMNS)).with_columns(one_line(pl.col(APP_COLUMNS)))
    named = drop_unknown(apps, ["app_package", "app_name"], dropped, "app_without_name")
    items = keep_first(named, ["app_package"], dropped, "repeated_app")
    developer = pl.col("developer_name")
    store_rating = pl.col("avg_rating").cast(pl.Float64, strict=False)
    store_price = dollars(pl.col("price").str.extract(r"(\$[\d.,]+)"))
    return items.select(
        pl.col("app_package").alias("item_id"),
        "app_name",
        "app_category",
        pl.when(developer != "None").then(developer).alias("developer_name"),
        "content_rating",
        first_words(pl.col("description"), DESCRIPTION_WORDS).alias("description"),
        pl.when(pl.col("price") == "Install").then(pl.lit("Free")).otherwise(store_price).alias("price"),
        pl.when(store_rating.is_between(0, 5)).then(store_rating).alias("store_rating"),
        pl.col("num_reviews").str.replace_all(",", "").cast(pl.Int64, strict=False).alias("store_reviews"),
    )


MOBILEREC = Domain(
    name="mobilerec",
    title="MobileRec: reviews of Google Play apps",
    publisher=PUBLISHER,
    licence="none stated by the publisher; please cite Maqbool et al. (SIGIR 2023)",
    raw_files=FILES,
    read=read,
    event="reviewed",
    choice_rules={**EVERY_EVENT, **MIN_RATING},
    clock_ms=86_400_000,
    item=(
        "{app_name}< | {app_category}>< | by {developer_name}>< | {content_rating}>< | {price}>"
        "< | {store_rating:.1f}/5 in the store>< | {store_reviews:,|review|reviews} in the store>< | {description}>"
    ),
    option="{item}< | rated {average_rating:.1f}/5>< | {reviews:,.0f|review|reviews}>",
    history="{event} {time_diff}: {item}< | rating: {rating:g}/5>< | review: {review}>",
    as_of={"average_rating": "mean:rating", "reviews": "count"},
    snapshots=("price", "store_rating", "store_reviews"),
)
