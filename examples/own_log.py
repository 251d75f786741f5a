"""From a CSV of your own to scenes: what a model would be shown, and what the lists give away by themselves.

    .venv/bin/python examples/own_log.py [DIRECTORY]

Makes a log of 60 readers of a small library, has `init` draft the YAML that describes it, and runs `prepare`, `scenes`
and `show`: half a minute on a CPU, no model. Put your own CSV in place of `loans.csv`; docs/your_own_log.md goes on
from here. People share lists, so even on a small log what the baselines find above chance is about the reader.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path


SHELVES = ("crime", "poetry", "travel", "cooking")


def make_csv(path: Path) -> None:
    """Loans of 60 readers over a year; each has a favourite shelf."""
    random.seed(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["reader", "book", "title", "shelf", "borrowed_at", "stars"])
        for reader in range(60):
            liked = range(reader % 4, 200, 4)
            for book in {*random.sample(liked, 25), *random.sample(range(200), 15)}:
                time = datetime(2025, 1, 1) + timedelta(minutes=random.randrange(360 * 1440))
                stars = random.choice(["", "3", "4", "5"])
                table.writerow([f"r{reader}", f"b{book}", f"Volume {book}", SHELVES[book % 4], time, stars])


def usermirrorer(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "usermirrorer", *map(str, arguments)], check=True)


def main(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    make_csv(place / "loans.csv")
    yaml = place / "library.yaml"
    yaml.unlink(missing_ok=True)
    usermirrorer("init", place / "loans.csv", "--name", "library", "--out", yaml)
    usermirrorer("prepare", yaml, "--work", place)
    for split, count in (("train", 400), ("test", 200)):
        usermirrorer("scenes", "library", "--work", place, "--split", split, "--num", str(count))
    usermirrorer("show", place / "scenes/library/test", "--num", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own_log"))
