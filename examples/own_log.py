"""From a CSV of your own to scenes: what a model would be shown, and what the lists give away by themselves.

    .venv/bin/python examples/own_log.py [DIRECTORY]

Makes a log of 60 readers of a small library, describes it in a YAML of eight lines, and runs `prepare`, `scenes` and
`show` on it: half a minute on a CPU, no model. Put your own CSV in place of `loans.csv`; docs/your_own_log.md explains
every key. People share lists, so even on a small log what the baselines find above chance is about the reader.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path


YAML = """\
name: library
format: interchange
event: borrowed
item: "{title} ({shelf})"
option: "{item}<, borrowed {loans:.0f} times>"
history: "{event} {item}, {time_diff}<: {stars}/5>"
as_of: {loans: count}
choices: {any: any, liked: stars >= 4}
"""
SHELVES = ("crime", "poetry", "travel", "cooking")


def make_csv(path: Path) -> None:
    """Loans of 60 readers over a year; each has a favourite shelf."""
    random.seed(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["reader", "book", "title", "shelf", "time", "stars"])
        for reader in range(60):
            liked = range(reader % 4, 200, 4)
            for book in {*random.sample(liked, 25), *random.sample(range(200), 15)}:
                time = datetime(2025, 1, 1) + timedelta(minutes=random.randrange(360 * 1440))
                stars = random.choice(["", "3", "4", "5"])
                table.writerow([f"r{reader}", f"b{book}", f"Volume {book}", SHELVES[book % 4], time, stars])


def convert(source: Path, raw: Path) -> None:
    """The CSV as interchange files: one JSON object a line, for books and for loans."""
    raw.mkdir(parents=True, exist_ok=True)
    with open(source, newline="", encoding="utf-8") as file:
        loans = list(csv.DictReader(file))
    books = {row["book"]: {"title": row["title"], "shelf": row["shelf"]} for row in loans}
    items = [{"item_id": book, "item_description": shown, "item_features": {}} for book, shown in books.items()]
    events = [
        {"user_id": row["reader"], "item_id": row["book"], "timestamp": row["time"],
         "behavior_features": {"stars": int(row["stars"])} if row["stars"] else {}}
        for row in loans
    ]  # fmt: skip
    for name, rows in {"item_feature": items, "interaction": events}.items():
        (raw / f"library_{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def usermirrorer(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "usermirrorer", *map(str, arguments)], check=True)


def main(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    make_csv(place / "loans.csv")
    convert(place / "loans.csv", place / "raw")
    (place / "library.yaml").write_text(YAML, encoding="utf-8")
    usermirrorer("prepare", place / "library.yaml", "--raw", place / "raw", "--work", place)
    for split, count in (("train", 400), ("test", 200)):
        usermirrorer("scenes", "library", "--work", place, "--split", split, "--num", str(count))
    usermirrorer("show", place / "scenes/library/test", "--num", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own_log"))
