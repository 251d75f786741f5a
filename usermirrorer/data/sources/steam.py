"""Steam: 7.8 million reviews of 15,000 games by 2.6 million people, October 2010 to January 2018.

Raw files as distributed: `steam_games.json.gz` and `steam_reviews.json.gz`, one printed Python dictionary a line
(`{u'id': u'10', u'price': 9.99, …}`); copies turned into JSON, unpacked or named .jsonl, are read as well. A game has
id, app_name (else title), genres, tags, specs, developer, publisher, sentiment, price (a number or words such as "Free
To Play"), release_date (mostly YYYY-MM-DD); a review has username, product_id, date (a day), hours, products, text.

A review is an event and every event is a choice. Reviews of a game that the same name reviewed before are dropped, as
are games and reviews without an id, a name or a date; all are counted. A game exists from its release date; where
that is no day ("Coming Soon"), from its first review. Tags, player reviews and prices, the hours played and the games
owned are those of the day of the crawl. The published system kept users of 5 to 20 reviews only: no such cap here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.data.sources.readers.json_lines import ColumnType, find_file
from usermirrorer.data.sources.readers.markup import without_markup
from usermirrorer.data.sources.readers.prices import dollars
from usermirrorer.data.sources.readers.python_lines import read_python_lines
from usermirrorer.data.sources.readers.text import first_words


PUBLISHER = "https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data"
ENDINGS = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
CONTENT = {
    "steam_games": "games: id, app_name, genres, tags, specs, developer, publisher, sentiment, price, release_date",
    "steam_reviews": "reviews: username, product_id, date, hours, products, text",
}
FILES = {f"{stem}{ending}": content for stem, content in CONTENT.items() for ending in ENDINGS}

REVIEW_WORDS = 50

_GAME: Mapping[str, ColumnType] = {
    name: pl.String for name in ("id app_name title developer publisher sentiment price release_date").split()
} | {name: pl.List(pl.String) for name in ("genres", "tags", "specs")}
_REVIEW: Mapping[str, ColumnType] = {
    "username": pl.String, "product_id": pl.String, "date": pl.String, "hours": pl.Float64, "products": pl.Int64,
    "text": pl.String,
}  # fmt: skip


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse both files. Raises UserError with file:line at the first line that is no object."""
    games_file, reviews_file = (
        find_file(raw, [f"{stem}{ending}" for ending in ENDINGS], "steam", PUBLISHER) for stem in CONTENT
    )
    dropped: dict[str, int] = {}
    items = _games(games_file, dropped)
    reviews = _reviews(reviews_file, dropped)
    users = reviews.group_by("user_id", maintain_order=True).agg(products=pl.col("products").max())
    return RawTables(users=users, items=items, interactions=reviews.drop("products"), dropped=dropped)


def _games(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    games = pl.concat([pl.DataFrame(schema={**_GAME, "line": pl.Int64}), *read_python_lines(path, _GAME)])
    games = games.with_columns(without_markup(pl.col(name)) for name, dtype in _GAME.items() if dtype == pl.String)
    for name in ("genres", "tags", "specs"):
        joined = pl.col(name).list.eval(pl.element().drop_nulls()).list.join(", ")
        games = games.with_columns(without_markup(joined).alias(name))
    known = games.drop_nulls("id")
    named = known.with_columns(app_name=pl.coalesce("app_name", "title")).drop_nulls("app_name")
    items = named.unique("id", keep="first", maintain_order=True)
    dropped["game_without_id"] = len(games) - len(known)
    dropped["game_without_name"] = len(known) - len(named)
    dropped["repeated_game"] = len(named) - len(items)
    released = pl.col("release_date").str.to_date("%Y-%m-%d", strict=False)
    return items.select(
        pl.col("id").alias("item_id"), "app_name", "genres", "developer", "publisher", "specs",
        released.dt.to_string("%Y-%m-%d").alias("release_date"),
        "tags", "sentiment",
        pl.coalesce(dollars(pl.col("price")), "price").alias("price"),
        released.cast(pl.Datetime("ms")).dt.epoch("ms").alias("available_from"),
    )  # fmt: skip


def _reviews(path: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """The reviews that can be used, each person's first of a game, in order of day; the counts go to `dropped`."""
    empty = pl.DataFrame(schema={
        "user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "hours": pl.Float64, "review": pl.String,
        "products": pl.Int64,
    })  # fmt: skip
    parts, lines, whole = [empty], 0, 0
    for chunk in read_python_lines(path, _REVIEW):
        day = pl.col("date").str.to_date("%Y-%m-%d", strict=False)
        part = chunk.select(
            pl.col("username").str.strip_chars().replace("", None).alias("user_id"),
            pl.col("product_id").str.strip_chars().replace("", None).alias("item_id"),
            day.cast(pl.Datetime("ms")).dt.epoch("ms").alias("timestamp"),
            "hours",
            first_words(pl.col("text"), REVIEW_WORDS).alias("review"),
            "products",
        )
        named = part.drop_nulls(["user_id", "item_id"])
        parts.append(named.drop_nulls("timestamp"))
        lines, whole = lines + len(part), whole + len(named)
    reviews = pl.concat(parts)
    dropped["review_without_id"] = lines - whole
    dropped["review_without_date"] = whole - len(reviews)
    first = reviews.sort("timestamp", maintain_order=True)
    first = first.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    dropped["repeated_review"] = len(reviews) - len(first)
    return first


STEAM = Domain(
    name="steam",
    title="Steam reviews",
    publisher=PUBLISHER,
    licence="none stated by the publisher; research use, please cite Kang and McAuley (ICDM 2018)",
    redistribute_text=False,
    raw_files=FILES,
    read=read,
    event="reviewed",
    choice_rules={"any": lambda _: pl.lit(True)},
    clock_ms=86_400_000,
    fields={
        "app_name": "static",
        "genres": "static",
        "developer": "static",
        "publisher": "static",
        "specs": "static",
        "release_date": "static",
        "tags": "snapshot",
        "sentiment": "snapshot",
        "price": "snapshot",
        "products": "snapshot",
        "hours": "snapshot",
        "review": "static",
        "new_release": "as_of",
    },
    item=(
        "{app_name}< [{genres}]>< | by {developer}>< | published by {publisher}>< | released {release_date}>"
        "< | {specs}>< | tags: {tags}>< | player reviews: {sentiment}>< | {price}>"
    ),
    option="<[{new_release}] >{item}",
    history="{event} {time_diff}: {item}< | played {hours:g} hours>< | review: {review}>",
    profile="Games owned: {products}",
    as_of={"new_release": "new_release"},
)
