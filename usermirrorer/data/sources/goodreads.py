"""Goodreads, comics and graphic novels: 7.3 million books on the shelves of 340,000 people, until November 2017.

Raw files as distributed (UCSD Book Graph), one JSON object a line, numbers written as strings, times as in "Thu Aug 17
15:15:28 -0700 2017". A rating of 0 is none; a book's authors are [{author_id, role}], its genres {name: votes}.

A row is the last state of a book on a shelf. A book that was not read is an event ("shelved") at the time when it was
added. Reading, rating and reviewing may be years later: this event ("read") has the time of the last update, when all
of it was known. By default the choices are books that were read; `any` includes shelved books, `min_rating=N` means
books rated N or more. Averages and counts are computed from the log as of the scene, never the crawl's. A book exists
from its first event, because dates of editions are unreliable. Impossible years and numbers of pages count as unknown.
Rows without an id, or without a time within the life of the site, are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from usermirrorer.data.sources.cleaning import drop_unknown, keep_first, users_of
from usermirrorer.data.sources.domain import EVERY_EVENT, MIN_RATING, Domain, RawTables
from usermirrorer.data.sources.readers.files import ColumnType, require_files
from usermirrorer.data.sources.readers.json_lines import read_json_lines
from usermirrorer.data.sources.readers.text import first_words, one_line, stripped


PUBLISHER = "https://cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html"
INTERACTIONS = "goodreads_interactions_comics_graphic.json.gz"
BOOKS = "goodreads_books_comics_graphic.json.gz"
GENRES = "goodreads_book_genres_initial.json.gz"
REVIEWS = "goodreads_reviews_comics_graphic.json.gz"
AUTHORS = "goodreads_book_authors.json.gz"
FILES = {
    INTERACTIONS: "user_id, book_id, review_id, is_read, rating, date_added, date_updated",
    BOOKS: "book_id, title, description, authors, publisher, publication_year, num_pages",
    GENRES: "book_id, genres {name: votes}",
    REVIEWS: "review_id, review_text",
    AUTHORS: "author_id, name",
}

REVIEW_WORDS, DESCRIPTION_WORDS = 50, 20
TIME = "%a %b %d %H:%M:%S %z %Y"
FIRST_DAY, LAST_DAY = 1_136_073_600_000, 1_514_764_800_000
"""1 January 2006 and 2018, UTC: before the site opened and after the crawl."""

_INTERACTION: Mapping[str, ColumnType] = {
    **dict.fromkeys(("user_id", "book_id", "review_id", "date_added", "date_updated"), pl.String),
    "is_read": pl.Boolean, "rating": pl.Int64,
}  # fmt: skip
_BOOK: Mapping[str, ColumnType] = {
    **dict.fromkeys("book_id title description publisher publication_year num_pages".split(), pl.String),
    "authors": pl.List(pl.Struct({"author_id": pl.String, "role": pl.String})),
}


def read(raw: Path | None, seed: int) -> RawTables:
    """Parse the five files. Raises UserError with file:line at the first line that is not an object."""
    raw = require_files(raw, tuple(FILES), "goodreads", PUBLISHER)
    dropped: dict[str, int] = {}
    interactions = _interactions(raw, dropped)
    return RawTables(
        users=users_of(interactions),
        items=_books(raw, dropped),
        interactions=interactions,
        dropped=dropped,
        files={"items": BOOKS, "interactions": INTERACTIONS},
    )


def _interactions(raw: Path, dropped: dict[str, int]) -> pl.DataFrame:
    texts = (
        chunk.select("review_id", first_words(pl.col("review_text"), REVIEW_WORDS).alias("review"))
        for chunk in read_json_lines(raw / REVIEWS, {"review_id": pl.String, "review_text": pl.String})
    )
    reviews = pl.concat(texts).drop_nulls().unique("review_id", keep="first", maintain_order=True)
    added, updated = (_milliseconds(name) for name in ("date_added", "date_updated"))
    was_read = pl.col("is_read").fill_null(False)
    rows = (
        chunk.join(reviews, on="review_id", how="left", maintain_order="left").select(
            stripped(pl.col("user_id")),
            stripped(pl.col("book_id")).alias("item_id"),
            pl.when(was_read).then(pl.max_horizontal(added, updated)).otherwise(added).alias("timestamp"),
            pl.when(was_read).then(pl.lit("read")).otherwise(pl.lit("shelved")).alias("action"),
            pl.when(was_read & pl.col("rating").is_between(1, 5)).then("rating").alias("rating"),
            pl.when(was_read).then("review").alias("review"),
        )
        for chunk in read_json_lines(raw / INTERACTIONS, _INTERACTION)
    )
    interactions = drop_unknown(pl.concat(rows), ["user_id", "item_id"], dropped, "row_without_id")
    return drop_unknown(interactions, ["timestamp"], dropped, "row_without_time")


def _milliseconds(column: str) -> pl.Expr:
    """UTC milliseconds of times written with an offset; null if that is not a time or an impossible one."""
    time = pl.col(column).str.to_datetime(TIME, time_unit="ms", strict=False).dt.epoch("ms")
    return pl.when(time.is_between(FIRST_DAY, LAST_DAY)).then(time)


def _books(raw: Path, dropped: dict[str, int]) -> pl.DataFrame:
    """Books, their authors and genres on one line each; books without an id or a title are dropped."""
    books = pl.concat(read_json_lines(raw / BOOKS, _BOOK))
    books = books.with_columns(stripped(pl.col("book_id")), one_line(pl.col("title")))
    titled = drop_unknown(books, ["book_id", "title"], dropped, "book_without_title")
    first = keep_first(titled, ["book_id"], dropped, "repeated_book")
    year = pl.col("publication_year").str.strip_chars().cast(pl.Int64, strict=False)
    pages = pl.col("num_pages").str.strip_chars().cast(pl.Int64, strict=False)
    items = first.select(
        pl.col("book_id").alias("item_id"),
        "title",
        one_line(pl.col("publisher")).alias("publisher"),
        pl.when(year.is_between(1400, 2020)).then(year).alias("publication_year"),
        pl.when(pages.is_between(1, 20_000)).then(pages).alias("num_pages"),
        first_words(pl.col("description"), DESCRIPTION_WORDS).alias("description"),
    )
    items = items.join(_author_names(raw, first), on="item_id", how="left", maintain_order="left")
    return items.join(_genres(raw, first), on="item_id", how="left", maintain_order="left")


def _author_names(raw: Path, books: pl.DataFrame) -> pl.DataFrame:
    """item_id and authors, as in "Ann Author, Bob Brush (Illustrator)"."""
    roles = books.select("book_id", "authors").explode("authors").drop_nulls().unnest("authors")
    wanted = roles.select("author_id").unique()
    chunks = (
        chunk.select("author_id", one_line(pl.col("name")))
        .join(wanted, on="author_id", how="semi", maintain_order="left")
        .drop_nulls()
        for chunk in read_json_lines(raw / AUTHORS, {"author_id": pl.String, "name": pl.String})
    )
    names = pl.concat(chunks).unique("author_id", keep="first", maintain_order=True)
    role = one_line(pl.col("role"))
    shown = pl.when(role.is_null()).then("name").otherwise(pl.format("{} ({})", "name", role))
    named = roles.join(names, on="author_id", how="inner", maintain_order="left")
    grouped = named.group_by(pl.col("book_id").alias("item_id"), maintain_order=True)
    return grouped.agg(shown.alias("authors")).with_columns(pl.col("authors").list.join(", "))


def _genres(raw: Path, books: pl.DataFrame) -> pl.DataFrame:
    """item_id and genres, as in "comics, graphic / fiction": the names themselves hold commas."""
    # The object is JSON text: its keys are in quotes before a colon.
    names = pl.col("genres").str.extract_all(r'"[^"]+"\s*:').list.eval(pl.element().str.strip_chars('": '))
    chunks = (
        chunk.join(books.select("book_id"), on="book_id", how="semi", maintain_order="left").select(
            pl.col("book_id").alias("item_id"), names.list.join(" / ").alias("genres")
        )
        for chunk in read_json_lines(raw / GENRES, {"book_id": pl.String, "genres": pl.String})
    )
    genres = pl.concat(chunks).unique("item_id", keep="first", maintain_order=True)
    return genres.with_columns(pl.col("genres").replace("", None))


GOODREADS = Domain(
    name="goodreads",
    title="Goodreads: comics and graphic novels",
    publisher=PUBLISHER,
    licence="UCSD Book Graph: academic use only, no redistribution, no commercial use",
    raw_files=FILES,
    read=read,
    event="read",
    choice_rules={"read": lambda _: pl.col("action") == "read", **EVERY_EVENT, **MIN_RATING},
    clock_ms=1000,
    item=(
        "{title}< by {authors}>< | {genres}>< | published {publication_year}>< | {publisher}>"
        "< | {num_pages:|page|pages}>< | {description}>"
    ),
    option="{item}< | rated {average_rating:.2f}/5>< | on {shelves:,.0f|shelf|shelves}>",
    history="{action} {time_diff}: {item}< | rating: {rating}/5>< | review: {review}>",
    as_of={"average_rating": "mean:rating", "shelves": "count"},
    numbers=("publication_year", "num_pages"),
)
