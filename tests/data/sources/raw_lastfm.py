"""A made-up log in the raw format of Last.fm HetRec 2011, odd cases included."""

from __future__ import annotations

from pathlib import Path

import numpy as np


USERS, ARTISTS, MONTHS = 40, 60, 24
TAGS = ("metal", "chillout", "trip-hop", "80's", "españa", "rock & roll", 'so "lovely"', "düster")


def write(directory: Path) -> None:
    """Write the five files: about 600 taggings on the first days of 24 months, and taggings of impossible days."""
    rng = np.random.default_rng(0)
    artists = [f"{a}\tBand {a}\thttp://www.last.fm/music/Band+{a}\thttp://x/{a}.jpg" for a in range(1, ARTISTS + 1)]
    artists[6] = "7\tÅrhus & the Öresund\thttp://www.last.fm/music/%C3%85rhus\t"  # no picture
    artists[7] = "8\t \thttp://www.last.fm/music/+noredirect/\t"  # no name
    write_lines(directory / "artists.dat", "id\tname\turl\tpictureURL", artists)
    tags = [f"{tag}\t{text}" for tag, text in enumerate(TAGS, start=1)]
    write_lines(directory / "tags.dat", "tagID\ttagValue", [*tags, "9\t "], "latin-1")

    law = 1 / np.arange(1, ARTISTS + 1)
    rows = []
    for user in range(2, USERS + 2):
        for artist in rng.choice(ARTISTS, size=15, replace=False, p=law / law.sum()) + 1:
            month = int(rng.integers(0, MONTHS))
            for tag in rng.choice(len(TAGS), size=int(rng.integers(1, 4)), replace=False) + 1:
                rows.append((user, artist, tag, 1, month % 12 + 1, 2009 + month // 12))
    rows += [
        (2, 1, 1, 1, 9, 1956),  # before there was a Last.fm
        (3, 1, 1, 31, 2, 2010),  # no such day
        (3, 2, 1, 1, 1, 2030),  # after the crawl
        (4, 1, 9, 1, 1, 2010),  # a tag without text
        (4, 1, 77, 1, 1, 2010),  # a tag that tags.dat lacks
        (4, 999, 1, 1, 1, 2010),  # an artist that artists.dat lacks
        rows[0],  # twice the same
        (5, 1, 4, 9, 5, 2011),  # a day in the middle of a month
    ]
    lines = ["\t".join(map(str, row)) for row in rows]
    write_lines(directory / "user_taggedartists.dat", "userID\tartistID\ttagID\tday\tmonth\tyear", lines)
    pairs = {tuple(sorted(rng.choice(USERS, size=2, replace=False) + 2)) for _ in range(80)}
    both = sorted(pairs) + sorted((b, a) for a, b in pairs)
    write_lines(directory / "user_friends.dat", "userID\tfriendID", [f"{a}\t{b}" for a, b in both])
    write_lines(directory / "user_artists.dat", "userID\tartistID\tweight", ["2\t1\t13883"])


def write_lines(path: Path, header: str, lines: list[str], encoding: str = "utf-8") -> None:
    path.write_bytes("".join(f"{line}\n" for line in [header, *lines]).encode(encoding))
