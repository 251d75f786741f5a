"""A made-up log in the raw format of MovieLens 1M: Latin-1, titles with and without a year, an unheard-of film."""

from __future__ import annotations

from pathlib import Path

from made_up import ITEMS, USERS, events


START = 956_703_600
"""26 April 2000, in seconds."""

AGES = (1, 18, 25, 35, 45, 50, 56)


def write(directory: Path) -> None:
    """Write ratings.dat, users.dat and movies.dat."""
    ratings = [
        f"{user + 1}::{item + 1}::{1 + (user + item) % 5}::{START + day * 86_400 + user * 60}"
        for user, item, day in events()
    ]
    odd = [ratings[0], "1::9999::4::956703700"]  # twice the same, and no such film
    write_lines(directory / "ratings.dat", [*ratings, *odd])
    write_lines(directory / "movies.dat", [film(number) for number in range(ITEMS)])
    people = [f"{u + 1}::{'MF'[u % 2]}::{AGES[u % 7]}::{u % 21}::{90_000 + u}-1234" for u in range(USERS)]
    write_lines(directory / "users.dat", people)


def film(number: int) -> str:
    # 7 has no year, 9 comes out in the middle of the log
    year = {7: "", 9: " (2001)"}.get(number, f" ({1950 + number % 50})")
    title = {3: "Enfants du café, Les", 5: 'Story, "A"'}.get(number, f"Film {number}")
    return f"{number + 1}::{title}{year}::{'Comedy|Drama' if number % 2 else 'Film-Noir'}"


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))
