"""Steam: 7.8 million reviews of 15,000 games by 2.6 million people, October 2010 to January 2018.

Raw files as distributed: `steam_games.json.gz` and `steam_reviews.json.gz`, one printed Python dictionary a line
(`{u'id': u'10', u'price': 9.99, …}`); copies that are converted to JSON, unpacked or named .jsonl work too. A game is
named by app_name, else title; its price is a number or words such as "Free To Play", its release_date mostly
YYYY-MM-DD. The date of a review is a day.

A review is an event and every event is a choice. Dropped and counted are further reviews of a game by the same user
name, and games and reviews without an id, a name or a date. A game exists from its release date; if that is not a day
("Coming Soon"), from its first review. Games in early access are reviewed before their release, when nobody knew its
date: an option shows the date once it is past, a history never. Tags, player reviews, prices, hours played and games
owned date from the crawl.
The published system kept only users with 5 to 20 reviews; here nobody is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown, first_reviews, keep_first
from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.files import ColumnType, find_file
from usermirrorer.data.sources.readers.python_lines import read_python_lines
from usermirrorer.data.sources.readers.text import day_ms, dollars, first_words, stripped, without_markup


PUBLISHER = "https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data"
ENDINGS = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
CONTENT = {
    "steam_games": "games: id, app_name, genres, tags, specs, developer, publisher, sentiment, price, release_date",
    "steam_reviews": "reviews: username, product_id, date, hours, products, text",
}
FILES = {f"{stem}{ending}": content for stem, content in CONTENT.items() for ending in ENDINGS}

REVIEW_WORDS = 50

_LISTS = ("genres", "tags", "specs")
_GAME: Mapping[str, ColumnType] = {
    **dict.fromkeys("id app_name title developer publisher sentiment price release_date".split(), pl.String),
    **dict.fromkeys(_LISTS, pl.List(pl.String)),
}
_REVIEW: Mapping[str, ColumnType] = {
    **dict.fromkeys(("username", "product_id", "date", "text"), pl.String), "hours": pl.Float64, "products": pl.Int64,
}  # fmt: skip


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first line that is not an object."""
    games_file, reviews_file = (
        find_file(raw, [f"{stem}{ending}" for ending in ENDINGS], "steam", PUBLISHER) for stem in CONTENT
    )
    dropped: dict[str, int] = {}
    items = _games(games_file, dropped)
    reviews = _reviews(reviews_file, dropped)
    users = reviews.group_by("user_id", maintain_order=True).agg(products=pl.col("products").max())
    dates = items.select("item_id", timestamp="available_from", label="release_date").drop_nulls()
    return RawTables(
        users=users,
        items=items.drop("release_date"),
        interactions=reviews.drop("products"),
        item_labels=dates,
        dropped=dropped,
        files={"items": games_file.name, "interactions": reviews_file.name},
    )


def _games(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    games = pl.concat(read_python_lines(path, _GAME))
    games = games.with_columns(pl.col(_LISTS).list.eval(pl.element().drop_nulls()).list.join(", "))
    games = games.with_columns(without_markup(pl.col(pl.String)))
    games = games.with_columns(app_name=pl.coalesce("app_name", "title"))
    games = drop_unknown(games, ["id"], dropped, "game_without_id")
    games = drop_unknown(games, ["app_name"], dropped, "game_without_name")
    items = keep_first(games, ["id"], dropped, "repeated_game")
    released = day_ms(pl.col("release_date"))
    return items.select(
        pl.col("id").alias("item_id"), "app_name", "genres", "developer", "publisher", "specs",
        pl.from_epoch(released, "ms").dt.to_string("%Y-%m-%d").alias("release_date"),
        "tags", "sentiment",
        pl.coalesce(dollars(pl.col("price")), "price").alias("price"),
        released.alias("available_from"),
    )  # fmt: skip


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    chunks = (
        chunk.select(
            stripped(pl.col("username")).alias("user_id"),
            stripped(pl.col("product_id")).alias("item_id"),
            day_ms(pl.col("date")).alias("timestamp"),
            "hours",
            first_words(pl.col("text"), REVIEW_WORDS).alias("review"),
            "products",
        )
        for chunk in read_python_lines(path, _REVIEW)
    )
    return first_reviews(path, chunks, dropped, "date")


STEAM = Domain(
    name="steam",
    title="Steam reviews",
    publisher=PUBLISHER,
    licence="none stated by the publisher; research use, please cite Kang and McAuley (ICDM 2018)",
    raw_files=FILES,
    alternatives=tuple(tuple(f"{stem}{ending}" for ending in ENDINGS) for stem in CONTENT),
    read=read,
    event="reviewed",
    clock_ms=86_400_000,
    item=(
        "{app_name}< [{genres}]>< | by {developer}>< | published by {publisher}>< | {specs}>< | tags: {tags}>"
        "< | player reviews: {sentiment}>< | {price}>"
    ),
    option="<[{new_release}] >{item}< | released {release_date}>",
    history="{event} {time_diff}: {item}< | played {hours:g|hour|hours}>< | review: {review}>",
    profile="Games owned: {products}",
    as_of={"new_release": "new_release", "release_date": "labels:1"},
    snapshots=("tags", "sentiment", "price", "products", "hours"),
)
