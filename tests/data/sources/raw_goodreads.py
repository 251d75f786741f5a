"""Raw files of Goodreads' comics as distributed: gzip, one JSON object a line. All names are made up."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from made_up import ITEMS, events

from usermirrorer.data.sources.goodreads import AUTHORS, BOOKS, GENRES, INTERACTIONS, REVIEWS


START = datetime(2014, 1, 1, tzinfo=UTC)
PACIFIC = timezone(timedelta(hours=-8))
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def write(directory: Path) -> None:
    """The five files: 40 people, 60 books, 600 rows, a quarter of them only shelved, and the odd cases."""
    rows = [interaction(user, item, day) for user, item, day in events()]
    odd = [
        {**rows[0], "book_id": "999"},
        {**rows[0], "user_id": ""},
        {**rows[1], "date_added": "", "date_updated": ""},
        {**rows[2], "date_added": "Thu Jan 01 00:00:00 -0800 1970", "date_updated": ""},
        rows[5],
    ]
    odd_books = [{**book(3), "title": "Number 3 again"}, {**book(0), "book_id": "998", "title": " "}]
    reviews = [review(row) for row in rows if row["is_read"] and int(row["book_id"]) % 3 == 0]
    write_lines(directory / INTERACTIONS, [*rows[300:], *odd, *rows[:300]])
    write_lines(directory / BOOKS, [*map(book, range(ITEMS)), *odd_books])
    write_lines(directory / GENRES, [genres(number) for number in range(ITEMS)])
    write_lines(directory / REVIEWS, reviews)
    write_lines(directory / AUTHORS, [{"author_id": str(n), "name": f"Ánn  Author{n}"} for n in range(7)])


def moment(day: float) -> str:
    """A time `day` days after the start, written as the site writes it, in its own zone."""
    time = (START + timedelta(days=day)).astimezone(PACIFIC)
    clock = f"{time.hour:02d}:{time.minute:02d}:{time.second:02d}"
    return f"{DAYS[time.weekday()]} {MONTHS[time.month - 1]} {time.day:02d} {clock} -0800 {time.year}"


def interaction(user: int, item: int, day: int) -> dict:
    """Books whose sum with the user is a multiple of four are only shelved; the others were added 5 days earlier."""
    was_read = (user + item) % 4 != 0
    return {
        "user_id": f"{user:032x}",
        "book_id": str(item),
        "review_id": f"{user * 100 + item:032x}",
        "is_read": was_read,
        "rating": (user + item) % 6 if was_read else 0,
        "review_text_incomplete": "",
        "date_added": moment(day - 5 if was_read else day),
        "date_updated": moment(day + user / 100),
        "read_at": "",
        "started_at": "",
    }


def review(row: dict) -> dict:
    text = f'I read it twice. \n I liked "it" {"a lot " * (int(row["book_id"]) % 40)}'
    return {"review_id": row["review_id"], "user_id": row["user_id"], "rating": row["rating"], "review_text": text}


def book(number: int) -> dict:
    """The odd ones: 1 has no year, 2 one in the future, 4 no pages and no publisher, 5 no authors."""
    values = {
        "isbn": "",
        "text_reviews_count": "4",
        "series": [],
        "popular_shelves": [{"count": "2", "name": "to-read"}],
        "is_ebook": "false",
        "average_rating": "4.29",
        "description": f"The story of hero {number},\nwho wins.",
        "authors": [{"author_id": str(number % 7), "role": ""}, {"author_id": str(number % 5), "role": "Illustrator"}],
        "publisher": f"House {number % 4}",
        "num_pages": str(40 + number),
        "publication_year": str(1990 + number % 25),
        "book_id": str(number),
        "ratings_count": "7",
        "title": f"Hero {number}, Vol. {number % 3} (Hero, #{number % 3})",
    }
    odd: dict[int, dict] = {
        1: {"publication_year": ""}, 2: {"publication_year": "20104"}, 4: {"num_pages": "", "publisher": ""},
        5: {"authors": []}, 6: {"authors": [{"author_id": "unknown", "role": ""}]},
    }  # fmt: skip
    return values | odd.get(number, {})


def genres(number: int) -> dict:
    """Names hold commas; book 7 has none."""
    names = {"comics, graphic": 5 + number, "fantasy, paranormal": 2}
    return {"book_id": str(number), "genres": names if number != 7 else {}}


def write_lines(path: Path, values: list[dict]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(value) + "\n" for value in values).encode(), mtime=0))
