"""Raw files of MobileRec as distributed: CSV with quoted fields that hold line breaks. All names are made up."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from pathlib import Path

from made_up import ITEMS, events

from usermirrorer.data.sources.mobilerec import INTERACTIONS, META


FIRST_DAY = date(2019, 2, 1)
COLUMNS = (
    "app_package",
    "review",
    "rating",
    "votes",
    "date",
    "uid",
    "formated_date",
    "unix_timestamp",
    "app_category",
)
APP_COLUMNS = (
    "app_package", "app_name", "developer_name", "app_category", "description", "content_rating", "num_reviews",
    "price", "avg_rating",
)  # fmt: skip


def write(directory: Path) -> None:
    """Both files: 40 people, 60 apps, 600 reviews and the odd cases."""
    rows = [review(user, item, day) for user, item, day in events()]
    odd = [
        {**rows[0], "app_package": "com.unlisted"},
        {**rows[0], "uid": ""},
        {**rows[1], "formated_date": "", "uid": "undated"},
        {**rows[2], "formated_date": "2021-12-24", "review": "once more"},
        rows[5],
    ]
    odd_apps = [{**app(3), "app_name": "Number 3 again"}, {**app(0), "app_package": "com.nameless", "app_name": ""}]
    write_records(directory / INTERACTIONS, COLUMNS, [*rows[300:], *odd, *rows[:300]])
    write_records(directory / META, APP_COLUMNS, [*map(app, range(ITEMS)), *odd_apps])


def review(user: int, item: int, day: int) -> dict:
    """One in five with a line break and quotes inside, one in seven without text."""
    on = FIRST_DAY + timedelta(days=day)
    text = (
        f'Not bad, says "{user}".\nThe  second line, with a comma'
        if user % 5 == 0
        else f"Äpp {item} works, but it could be faster."
    )
    return {
        "app_package": f"com.made.up{item}",
        "review": "" if (user + item) % 7 == 0 else text,
        "rating": str(1 + (user + item) % 5),
        "votes": "0",
        "date": f"{on:%m} {on.day}, {on.year}",
        "uid": f"u{user:015d}",
        "formated_date": str(on),
        "unix_timestamp": "1540094400.0",
        "app_category": "Puzzle",
    }


def app(number: int) -> dict:
    """The odd ones: 1 has no developer, 2 a price, 4 no description, 5 no rating in the store."""
    values = {
        "app_package": f"com.made.up{number}",
        "app_name": f"Äpp {number}",
        "developer_name": f"Studio {number % 6}, Inc.",
        "app_category": ("Puzzle", "Tools", "Health & Fitness")[number % 3],
        "description": f"Äpp {number} counts your steps.\n\n"
        + "It counts them every day, at home and on the way. " * 3,
        "content_rating": "Everyone",
        "num_reviews": "1,234,567",
        "price": "Install",
        "avg_rating": "4.3",
    }
    odd: dict[int, dict] = {
        1: {"developer_name": "None"}, 2: {"price": "$3.99 Buy"}, 4: {"description": ""},
        5: {"avg_rating": "None", "num_reviews": "None"},
    }  # fmt: skip
    return values | odd.get(number, {})


def write_records(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
