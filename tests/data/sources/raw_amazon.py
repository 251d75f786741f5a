"""Raw files of Amazon reviews in the layouts of 2023, 2018 and 2014. All names are made up."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from made_up import ITEMS, events


CATEGORY = "Tea_Pots"
START = 1_420_070_400_000
"""1 January 2015, UTC, in ms."""
DAY = 86_400_000


def write(directory: Path) -> None:
    """The layout of 2023: 40 people, 60 items, 600 reviews and the odd cases."""
    reviews = [review(user, item, day) for user, item, day in events()]
    odd = [
        {**reviews[0], "parent_asin": "B0UNLISTED"},
        {**reviews[0], "user_id": None},
        {**reviews[0], "timestamp": None, "user_id": "AE0TIMELESS"},
        {**reviews[3], "timestamp": START + 300 * DAY, "text": "again"},
        reviews[5],
    ]
    odd_items = [
        {**item(3), "title": "Item 3 again"},
        {**item(0), "parent_asin": "B0NEVER", "title": "Never reviewed"},
    ]
    write_lines(directory / f"{CATEGORY}.jsonl.gz", [*reviews[300:], *odd, *reviews[:300]], json.dumps)
    write_lines(directory / f"meta_{CATEGORY}.jsonl.gz", [*map(item, range(ITEMS)), *odd_items], json.dumps)


def review(user: int, number: int, day: int) -> dict:
    """Reviews of 2023, with the page's line breaks and character references."""
    return {
        "rating": float(1 + (user + number) % 5),
        "title": "Five &#34;Stars&#34;" if number % 4 else "",
        "text": f"Pot {number} pours<br />well, it&#39;s\nfine. " + "More of the same. " * (number % 13),
        "images": [],
        "asin": f"B0CHILD{number:03d}",
        "parent_asin": f"B0{number:08d}",
        "user_id": f"AE{user:026d}",
        "timestamp": START + day * DAY + (user * 7919 + number) * 1000 + 123,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def item(number: int) -> dict:
    """Items of 2023: 1 has no price, 2 no categories, 4 a lowest price, 5 no title."""
    values = {
        "main_category": "Office Products",
        "title": f"Köln Pot {number}, 1 Litre, Glass &amp; Steel, with Lid and a Very Long Name That Goes On",
        "average_rating": 4.9,
        "rating_number": 12345,
        "features": ["pours"],
        "description": [],
        "price": 9.5 + number,
        "images": [],
        "videos": [],
        "store": f"Potters {number % 5}",
        "categories": ["Kitchen", "Tea", f"Pots {number % 3}"],
        "details": {"Brand": "Potters"},
        "parent_asin": f"B0{number:08d}",
        "bought_together": None,
    }
    odd: dict[int, dict] = {1: {"price": None}, 2: {"categories": []}, 4: {"price": "from 14.99"}, 5: {"title": ""}}
    return values | odd.get(number, {})


def review_2018(user: int, number: int, day: int) -> dict:
    """A review of 2018 or 2014."""
    return {
        "overall": 4.0,
        "verified": True,
        "reviewTime": "01 2, 2015",
        "reviewerID": f"A{user}",
        "asin": f"{number:010d}",
        "reviewerName": "Somebody",
        "reviewText": 'Pours "well".',
        "summary": "Good",
        "unixReviewTime": (START + day * DAY) // 1000,
    }


def item_2018(number: int) -> dict:
    return {
        "category": ["Kitchen", "Tea", "</span></span></span>", "Pots &amp; Pans"],
        "description": ["A pot"],
        "title": f"Pot {number}",
        "brand": "Potters",
        "rank": ["1,000 in Kitchen", "2 in Tea"],
        "main_cat": "<img src=\"https://example.org/x.png\" class=\"nav\" alt=\"Fine Kitchen\" />",
        "price": "$12.50",
        "asin": f"{number:010d}",
        "details": None,
    }  # fmt: skip


def item_2014(number: int) -> dict:
    return {
        "asin": f"{number:010d}",
        "title": f'Pot {number}: the potter\'s "best"',
        "price": 7.0,
        "salesRank": {"Kitchen": 17},
        "related": {"also_bought": ["0000000002"]},
        "categories": [["Kitchen", "Tea"], ["Gifts"]],
        "description": "A pot",
    }


def write_lines(path: Path, values: list[dict], written: Callable[[dict], str]) -> None:
    text = "".join(written(value) + "\n" for value in values).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
