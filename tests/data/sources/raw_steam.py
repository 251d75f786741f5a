"""Raw files of Steam as distributed: gzip, one printed Python 2 dictionary a line. All names are made up."""

from __future__ import annotations

import gzip
from datetime import date, timedelta
from pathlib import Path

from made_up import ITEMS, events


FIRST_DAY = date(2015, 3, 1)
GENRES = ("Action", "Indie", "RPG", "Strategy", "Design & Illustration")
SAYINGS = ("Runs well.", "The music is lovely.", "The last level\nis too hard.", "My friends play it too.")
ODD_GAMES = [
    {"publisher": "Nobody", "genres": ["Action"], "title": "Game without an id", "price": 1.99, "early_access": False},
    {"app_name": "Number 3 again", "id": "3", "price": 0.99},
    {"id": "nameless", "price": 0.99},
]
ODD_REVIEWS = [
    {
        "username": "player 1",
        "hours": 2.5,
        "product_id": "999999",
        "date": "2015-06-01",
        "text": "a game nobody lists",
    },
    {"hours": 2.5, "product_id": "3", "date": "2015-06-01", "text": "nobody wrote this"},
    {"username": "player 1", "product_id": "3", "date": "yesterday", "text": "no day"},
]


def write(directory: Path) -> None:
    """`steam_games.json.gz` and `steam_reviews.json.gz`: 40 people, 60 games, 600 reviews and the odd cases."""
    games = [game(number) for number in range(ITEMS)]
    reviews = [review(user, item, day) for user, item, day in events()]
    again = {**reviews[40], "date": "2015-12-24", "text": "still good"}
    write_lines(directory / "steam_games.json.gz", [*games[:30], *ODD_GAMES, *games[30:]])
    write_lines(directory / "steam_reviews.json.gz", [*reviews[300:], *ODD_REVIEWS, *reviews[:300], reviews[7], again])


def game(number: int) -> dict:
    """The odd ones: 1 is free, 2 has no price, 4 is not dated, 5 comes later than its first reviews, 6 is "soon"."""
    values = {
        "publisher": f"House {number % 7}",
        "genres": [GENRES[number % 5].replace("&", "&amp;"), "Casual"],
        "app_name": f'Böse {number}: it\'s "Game" \u2122' if number % 10 == 3 else f"Game {number}",
        "title": f"Game {number}",
        "sentiment": "Mostly Positive",
        "release_date": str(date(2012, 1, 1) + timedelta(days=20 * number)),
        "tags": ["Puzzle", "2D"],
        "specs": ["Single-player", "Steam Cloud"],
        "price": 4.99 + number,
        "early_access": number % 2 == 0,
        "id": str(number),
        "developer": f"Studio {number % 9}",
    }
    odd: dict[int, dict] = {
        1: {"price": "Free to Play", "developer": None},
        4: {"release_date": "Coming Soon", "app_name": None},
        5: {"release_date": "2015-09-30"},
        6: {"release_date": "2016"},
    }
    values |= odd.get(number, {})
    if number == 2:
        del values["price"], values["genres"], values["tags"], values["specs"]
    return values


def review(user: int, item: int, day: int) -> dict:
    """One in seven without hours, one in five without text, one person's with an emoji."""
    values = {
        "username": f"player {user}" if user else 'O\'Player "0"',
        "hours": round(0.3 * ((user * 7 + item * 13) % 900), 1),
        "products": 10 + user,
        "product_id": str(item),
        "page_order": day % 10,
        "date": str(FIRST_DAY + timedelta(days=day)),
        "text": " ".join(SAYINGS[: (user + item) % 5]) + (' it\'s "fine" \U0001f600' if user == 5 else ""),
        "early_access": False,
        "page": 1,
    }
    if (user + item) % 7 == 0:
        del values["hours"]
    return values


def write_lines(path: Path, values: list[dict]) -> None:
    path.write_bytes(gzip.compress("".join(printed(value) + "\n" for value in values).encode("ascii"), mtime=0))


def printed(value: object) -> str:
    """A value as Python 2 printed it: ASCII, `u` before every string."""
    if isinstance(value, str):
        return "u" + repr(value).encode("ascii", "backslashreplace").decode()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{printed(key)}: {printed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(printed, value)) + "]"
    return repr(value)
