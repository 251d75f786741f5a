"""MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, September 1997 to April 1998.

Raw files as distributed: `u.data` (tab), `u.item` (`|`, Latin-1), `u.user` (`|`); a copy saved as UTF-8 is read too.
A table of places may lie beside them (`readers/places.py`). A film exists from its release date, the one without a
date from its first rating. Every rating is a choice unless `min_rating=N` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import EVERY_EVENT, MIN_RATING, Domain, RawTables
from usermirrorer.data.sources.readers.checks import as_integers, one_of, refuse, unique_ids
from usermirrorer.data.sources.readers.delimited import read_fields
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.data.sources.readers.places import CONTENT, TABLE, with_places


GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
).split()

UTF_8_OR_LATIN_1 = ("utf-8-sig", "latin-1")
"""Films are published as Latin-1; read as that, a copy saved as UTF-8 would say "CitÃ©" for "Cité". A text of Latin-1
with a letter beyond ASCII is hardly ever valid UTF-8."""

PUBLISHER = "https://grouplens.org/datasets/movielens/100k/"
FILES = {
    "u.data": "user id, item id, rating 1-5, unix time in seconds (tab)",
    "u.item": "item id, title, release date, video date, URL, 19 genre flags (|, Latin-1)",
    "u.user": "user id, age, gender, occupation, ZIP code (|)",
}


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse the three files. Raises UserError with file:line at the first malformed line."""
    raw = require_files(raw, tuple(FILES), "ml-100k", PUBLISHER)
    item_columns = ("item_id", "title", "release_date", "video_date", "url", *GENRES)
    items = unique_ids(read_fields(raw / "u.item", "|", item_columns, *UTF_8_OR_LATIN_1), "item_id", raw / "u.item")
    for genre in GENRES:
        one_of(items, genre, raw / "u.item", ("0", "1"))
    genres = pl.concat_list(
        pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES if genre != "unknown"
    ).list.drop_nulls()
    released = pl.col("release_date").str.to_date("%d-%b-%Y", strict=False)
    malformed = released.is_null() & (pl.col("release_date").str.strip_chars() != "")
    refuse(items, malformed, "release_date", "a date like 01-Jan-1995", raw / "u.item", "repair or empty it")
    items = items.select(
        "item_id",
        pl.col("title").str.strip_chars(),
        genres.list.join("|").replace("", "no genres listed").alias("genres"),
        released.dt.year().alias("year"),
        released.cast(pl.Datetime("ms")).dt.epoch("ms").alias("available_from"),
    )

    users = read_users(raw / "u.user", "|", ("user_id", "age", "gender", "occupation", "zip"))
    users = as_integers(users, "age", raw / "u.user", 0, 130)
    return RawTables(
        users=users.select("user_id", "gender", "age", "occupation", "location"),
        items=items,
        interactions=read_ratings(raw / "u.data", "\t"),
        files={"users": "u.user", "items": "u.item", "interactions": "u.data"},
    )


def read_ratings(path: Path, separator: str) -> pl.DataFrame:
    """user_id, item_id, timestamp (ms) and rating (1 to 5). Raises UserError with file:line."""
    ratings = read_fields(path, separator, ("user_id", "item_id", "rating", "timestamp"))
    ratings = as_integers(ratings, "rating", path, 1, 5)
    ratings = as_integers(ratings, "timestamp", path, 0, 2**33)
    return ratings.select("user_id", "item_id", pl.col("timestamp") * 1000, "rating")


def read_users(path: Path, separator: str, columns: Sequence[str]) -> pl.DataFrame:
    """`line`, the columns, gender in words, and `location`. Raises UserError with file:line."""
    users = unique_ids(read_fields(path, separator, columns), "user_id", path)
    users = one_of(users, "gender", path, ("F", "M"))
    users = users.with_columns(gender=pl.col("gender").replace({"F": "female", "M": "male"}))
    return with_places(users, path.parent)


ML_100K = Domain(
    name="ml-100k",
    title="MovieLens 100K",
    publisher=PUBLISHER,
    licence="GroupLens: research use, no redistribution without permission",
    raw_files={**FILES, TABLE: CONTENT},
    optional=(TABLE,),
    read=read,
    event="rated",
    choice_rules={**EVERY_EVENT, **MIN_RATING},
    clock_ms=1000,
    item="{title} - {genres}",
    option="<[{new_release}] >{item}",
    history="{event} {item}, {time_diff}: {rating}/5",
    profile="Gender: {gender}\nAge: {age}\nOccupation: {occupation}\nLocation: {location}",
    as_of={"new_release": "new_release"},
    numbers=("year",),
)
