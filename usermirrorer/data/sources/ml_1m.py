"""MovieLens 1M: 1,000,209 ratings of 3,883 films by 6,040 people, April 2000 to February 2003.

Raw files as distributed: `ratings.dat`, `users.dat`, `movies.dat` (`::`, Latin-1); a copy saved as UTF-8 is read
too. A table of places may lie beside them (`readers/places.py`). A film exists from the first day of the year in its
title. Every rating is a choice unless `min_rating=N` says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.domain import RawTables
from usermirrorer.data.sources.ml_100k import ML_100K, UTF_8_OR_LATIN_1, read_ratings, read_users
from usermirrorer.data.sources.readers.checks import as_integers, one_of, unique_ids
from usermirrorer.data.sources.readers.delimited import read_fields
from usermirrorer.data.sources.readers.files import require_files
from usermirrorer.data.sources.readers.places import CONTENT, TABLE


AGES = {
    "1": "Under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+",
}  # fmt: skip

OCCUPATIONS = (
    "other or not specified", "academic or educator", "artist", "clerical or admin", "college or grad student",
    "customer service", "doctor or health care", "executive or managerial", "farmer", "homemaker", "K-12 student",
    "lawyer", "programmer", "retired", "sales or marketing", "scientist", "self-employed", "technician or engineer",
    "tradesman or craftsman", "unemployed", "writer",
)  # fmt: skip

PUBLISHER = "https://grouplens.org/datasets/movielens/1m/"
FILES = {
    "ratings.dat": "UserID::MovieID::Rating::Timestamp (seconds)",
    "users.dat": "UserID::Gender::Age::Occupation::Zip-code",
    "movies.dat": "MovieID::Title::Genres (Latin-1)",
}


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse the three files. Raises UserError with file:line at the first malformed line."""
    raw = require_files(raw, tuple(FILES), "ml-1m", PUBLISHER)
    movies = read_fields(raw / "movies.dat", "::", ("item_id", "title", "genres"), *UTF_8_OR_LATIN_1)
    movies = unique_ids(movies, "item_id", raw / "movies.dat")
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32)
    items = movies.select(
        "item_id",
        "title",
        "genres",
        year.alias("year"),
        pl.datetime(year, 1, 1, time_unit="ms").dt.epoch("ms").alias("available_from"),
    )

    users = read_users(raw / "users.dat", "::", ("user_id", "gender", "age", "occupation", "zip"))
    users = one_of(users, "age", raw / "users.dat", tuple(AGES))
    users = as_integers(users, "occupation", raw / "users.dat", 0, len(OCCUPATIONS) - 1)
    users = users.select(
        "user_id",
        "gender",
        pl.col("age").replace_strict(AGES),
        pl.col("occupation").replace_strict(dict(enumerate(OCCUPATIONS))),
        "location",
    )
    return RawTables(
        users=users,
        items=items,
        interactions=read_ratings(raw / "ratings.dat", "::"),
        files={"users": "users.dat", "items": "movies.dat", "interactions": "ratings.dat"},
    )


# Users, films and ratings have the same columns as in the smaller release; only the files and their layout differ.
ML_1M = replace(
    ML_100K, name="ml-1m", title="MovieLens 1M", publisher=PUBLISHER, raw_files={**FILES, TABLE: CONTENT}, read=read
)
