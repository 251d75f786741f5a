"""Generated logs of three kinds on which sampled exposures failed: a shop, sparse reviews, and news of one day.

Each is written as RecBole atomic files with a YAML, ready for `prepare`. Users have one of twelve tastes and mostly
choose items of it; popularity within a taste is skewed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl


TASTES = 12
OWN_TASTE = 0.6
"""Share of a user's choices that are of the user's taste."""

START = 1_700_000_000
DAY = 86_400

YAML = """name: {name}
format: recbole
columns: {{user_id: user, item_id: item, timestamp: time{listed}}}
event: {event}
item: "{{title}}"
option: "{{item}}< | {{count:.0f}} so far>"
as_of: {{count: count}}
timestamps: s
clock: {clock}
{choices}"""


def write_shop(raw: Path, listed: bool, seed: int = 0) -> str:
    """5,000 people, 800 items by Zipf's law, 60,000 events of which 7,000 are purchases, the only choices."""
    rng = np.random.default_rng(seed)
    people, items, events = 5000, 800, 60_000
    born = np.sort(rng.random(items)) ** 2 * 300 if listed else np.zeros(items)
    user = np.sort(rng.integers(people, size=events))
    day = rng.random(events) * 365
    item = _chosen(rng, user, day, born, np.full(items, np.inf), skew=1.0)
    bought = np.zeros(events)
    bought[rng.permutation(events)[:7000]] = 1
    choices = "choices: {bought: bought >= 1}\n"
    name = "shop-listed" if listed else "shop"
    return _write(raw, name, "took", user, item, day, born if listed else None, "1s", choices, bought)


def write_reviews(raw: Path, seed: int = 0) -> str:
    """9,000 people with 5 to 12 reviews, 3,000 items; several reviews are written in one sitting, and dated by day."""
    rng = np.random.default_rng(seed)
    items, count = 3000, rng.integers(5, 13, size=9000)
    user = np.repeat(np.arange(len(count)), count)
    entry = rng.random(len(count))[user] * 700
    sitting = np.cumsum(rng.random(len(user)) < 0.7)
    day = entry + (rng.random(sitting[-1] + 1) * 300)[sitting]
    item = _chosen(rng, user, day, np.zeros(items), np.full(items, np.inf), skew=0.7)
    return _write(raw, "reviews", "reviewed", user, item, day, None, "1d", "", None)


def write_news(raw: Path, seed: int = 0) -> str:
    """4,000 people over 30 days, 120 new articles a day, each read for a day."""
    rng = np.random.default_rng(seed)
    days, events = 30, 80_000
    born = np.sort(rng.random(days * 120) * days)
    user = np.sort(rng.integers(4000, size=events))
    day = 1 + rng.random(events) * (days - 1)
    item = _chosen(rng, user, day, born, born + 1, skew=0.8)
    return _write(raw, "news", "read", user, item, day, born, "1s", "", None)


def _chosen(
    rng: np.random.Generator, user: np.ndarray, day: np.ndarray, born: np.ndarray, gone: np.ndarray, skew: float
) -> np.ndarray:
    """The item of each event: one that exists then, mostly of the user's taste, by rank to the power of -`skew`."""
    items, people = len(born), int(user.max()) + 1
    taste_of, taste = rng.integers(TASTES, size=items), rng.integers(TASTES, size=people)
    weight = (1 + rng.permutation(items)) ** -skew
    item = np.empty(len(user), dtype=np.int64)
    own = rng.random(len(user)) < OWN_TASTE
    for begin in range(0, len(user), 2000):
        rows = slice(begin, begin + 2000)
        odds = weight * ((born <= day[rows, None]) & (gone > day[rows, None]))
        mine = odds * (taste_of == taste[user[rows]][:, None])
        odds = np.where((own[rows] & (mine.sum(axis=1) > 0))[:, None], mine, odds)
        line = np.cumsum(odds, axis=1)
        item[rows] = (line < rng.random(len(line))[:, None] * line[:, -1:]).sum(axis=1)
    return item


def _write(
    raw: Path, name: str, event: str, user: np.ndarray, item: np.ndarray, day: np.ndarray, born: np.ndarray | None,
    clock: str, choices: str, bought: np.ndarray | None,
) -> str:  # fmt: skip
    """Write the files, each (user, item) once; returns the path of the YAML."""
    raw.mkdir(parents=True, exist_ok=True)
    columns = {"user:token": user, "item:token": item, "time:float": START + (day * DAY).astype(np.int64)}
    if bought is not None:
        columns["bought:float"] = bought
    rows = pl.DataFrame(columns).sort("time:float").unique(["user:token", "item:token"], keep="first")
    rows.sort("time:float", "user:token").write_csv(raw / f"{name}.inter", separator="\t")
    items = np.unique(item)
    described: dict[str, object] = {"item:token": items, "title:token_seq": [f"Thing {number}" for number in items]}
    if born is not None:
        described["listed:float"] = START + (born[items] * DAY).astype(np.int64)
    pl.DataFrame(described).write_csv(raw / f"{name}.item", separator="\t")
    listed = ", available_from: listed" if born is not None else ""
    path = raw / f"{name}.yaml"
    path.write_text(YAML.format(name=name, listed=listed, event=event, clock=clock, choices=choices))
    return str(path)
