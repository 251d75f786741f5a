"""A generated log in the raw format of MovieLens 1M: users join over time and choose by taste and popularity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl


START = 956_700_000
"""Seconds; April 2000, when the real log begins."""

DAYS = 1000
GROUPS = 20
WORDS = 2000


def write_log(directory: Path, users: int, items: int, interactions: int, seed: int = 0) -> None:
    """Write ratings.dat, users.dat and movies.dat. No user rates a film twice; a session has four ratings on average.

    Popularity is skewed. Films and users belong to one of `GROUPS` groups; two thirds of a user's ratings stay in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    group_of = rng.integers(GROUPS, size=items)
    by_group = np.argsort(group_of, kind="stable")
    begin = np.searchsorted(group_of[by_group], np.arange(GROUPS + 1))
    # The number of ratings per user is log-normal and at least 20, as in the real log.
    share = rng.lognormal(0, 1.1, size=users)
    wanted = np.minimum(20 + share / share.sum() * max(interactions - 20 * users, 0), items / 3)
    tastes = rng.integers(GROUPS, size=users)
    pair = np.zeros(0, dtype=np.int64)
    while len(pair) < interactions:
        user = np.repeat(np.arange(users), rng.poisson(wanted / 2))
        own = rng.random(len(user)) < 2 / 3
        low = np.where(own, begin[tastes[user]], 0)
        high = np.where(own, begin[tastes[user] + 1], items)
        rank = ((high - low) * rng.random(len(user)) ** 2).astype(np.int64)
        pair = np.unique(np.concatenate([pair, user.astype(np.int64) * items + by_group[low + rank]]))
    pair = np.sort(rng.permutation(pair)[:interactions])
    user, item = pair // items, pair % items
    shuffled = np.lexsort((rng.random(len(user)), user))
    item = item[shuffled]
    session = np.cumsum(rng.random(len(user)) < 1 / 4)
    entry = rng.random(users) * DAYS * 0.9
    day = entry[user] + (rng.random(session[-1] + 1) ** 3 * DAYS / 10)[session]
    time = START + (day * 86_400).astype(np.int64)
    rows = {"user": user + 1, "item": item + 1, "rating": rng.integers(1, 6, size=len(user)), "time": time}
    ratings = pl.DataFrame(rows).select(pl.format("{}::{}::{}::{}", "user", "item", "rating", "time"))
    ratings.write_csv(directory / "ratings.dat", include_header=False, quote_style="never")
    people = [f"{u + 1}::{'FM'[u % 2]}::{(18, 25, 35, 45)[u % 4]}::{u % 21}::94703" for u in range(users)]
    (directory / "users.dat").write_text("\n".join(people) + "\n")
    words = rng.integers(WORDS, size=(items, 4))
    years = rng.integers(1930, 2000, size=items)
    films = [
        f"{i + 1}::{' '.join(f'Word{w}' for w in words[i])} ({years[i]})::Group{group_of[i]}" for i in range(items)
    ]
    (directory / "movies.dat").write_text("\n".join(films) + "\n", encoding="latin-1")
