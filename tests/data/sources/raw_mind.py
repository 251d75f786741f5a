"""A made-up log in the raw format of MIND, unzipped, odd cases included."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np


USERS, NEWS, DAYS, IMPRESSIONS = 40, 60, 6, 700
CATEGORIES = ("news", "sports", "finance", "weather")


def write(directory: Path, length: int = 5) -> None:
    """Write MINDsmall_train and MINDsmall_dev: five days and one, the rows in no order of time, as published.

    An impression has `length` news.
    """
    rng = np.random.default_rng(0)
    start = datetime(2019, 11, 9)
    news = [headline(n) for n in range(1, NEWS + 1)]
    law = 1 / np.arange(1, NEWS + 1)
    history = [" ".join(f"N{n + 1}" for n in rng.choice(20, size=int(rng.integers(0, 6)))) for _ in range(USERS)]
    history[0] = ""
    rows: dict[str, list[str]] = {"train": [], "dev": []}
    for _ in range(IMPRESSIONS):
        user = int(rng.integers(0, USERS))
        time = start + timedelta(seconds=int(rng.integers(0, DAYS * 86_400)))
        # News come day by day: the later half of the catalogue is not shown at once.
        known = NEWS // 2 + (time - start).days * NEWS // (2 * DAYS)
        shown = rng.choice(known, size=length, replace=False, p=law[:known] / law[:known].sum()) + 1
        clicked = int(rng.integers(0, length))
        if rng.random() < 0.05:
            clicked = -1 if rng.random() < 0.5 else clicked
        marks = " ".join(f"N{n}-{int(place == clicked)}" for place, n in enumerate(shown))
        split = "train" if (time - start).days < DAYS - 1 else "dev"
        rows[split].append(f"U{user}\t{us_time(time)}\t{history[user]}\t{marks}")
    rows["dev"] += rows["dev"][:3]  # appended to itself; the numbers go with the rows
    for split, lines in rows.items():
        folder = directory / f"MINDsmall_{split}"
        folder.mkdir(parents=True, exist_ok=True)
        first = {line: number for number, line in reversed(list(enumerate(lines, start=1)))}
        text = "".join(f"{first[line]}\t{line}\n" for line in lines)
        (folder / "behaviors.tsv").write_bytes(text.encode())
        some = news if split == "train" else news[NEWS // 3 :]
        (folder / "news.tsv").write_bytes("".join(some).encode())


def headline(number: int) -> str:
    title = {1: 'Mayor: "No comment', 2: "Café reopens", 3: 'She said "yes" and "no"'}.get(number, f"Story {number}")
    category = CATEGORIES[number % len(CATEGORIES)]
    return f"N{number}\t{category}\t{category}-local\t{title}\t\thttps://x/{number}\t[]\t[]\n"


def us_time(time: datetime) -> str:
    """As in `11/9/2019 8:05:22 PM`, whatever the locale."""
    half = "AM" if time.hour < 12 else "PM"
    return f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time.minute:02}:{time.second:02} {half}"
