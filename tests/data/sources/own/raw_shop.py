"""A made-up shop's own log, as RecBole atomic files and as interchange files, each with the YAML that reads it.

Odd cases: quotation marks, an event of an item that is not listed, a repeated event, unknown prices and
stars, ids with leading zeros, an undated event, an item from the future, an item of which nothing is known.
"""

from __future__ import annotations

import json
from pathlib import Path

from made_up import ITEMS, USERS, events


START = 1_700_006_400
"""15 November 2023, midnight UTC, in seconds."""

KINDS = ("tea", "coffee", "cups and pots")

TEMPLATES = """\
event: bought
item: '{title} - {kind}<, {price:.2f} EUR>'
option: '<[{new}] >{item}<, {sold:.0f} sold so far><, {stars:.1f} stars on average>'
history: '{event} {item}, {time_diff}<: {rating}/5>'
profile: |
  Town: {town}
  Customer for: {years} years
as_of: {new: new_release, sold: count, stars: 'mean:rating'}
choices: {any: any, min_rating: rating >= value, liked: rating >= 4}
licence: made up
"""

RECBOLE = "name: shop\nformat: recbole\n" + TEMPLATES
INTERCHANGE = "name: market\nformat: interchange\n" + TEMPLATES


def item_id(item: int) -> str:
    return f"{item:04d}"


def title(item: int) -> str:
    return f'The "No. {item}" house blend' if item % 7 == 0 else f"Number {item}, finest quality"


def rows() -> list[tuple[str, str, int | None, int | None]]:
    """(user, item, rating, seconds) of every event."""
    log: list[tuple[str, str, int | None, int | None]] = []
    for user, item, day in events():
        rating = 1 + (user * 3 + item) % 5 if (user + item) % 6 else None
        log.append((f"u{user}", item_id(item), rating, START + day * 86_400 + 3600 * (user % 20)))
    log.append(log[-1])
    log.append(("u1", "9999", 3, START + 86_400))
    log.insert(0, ("u3", item_id(59), 5, None))
    return log


def released(item: int) -> int | None:
    """Seconds; every fifth item has no date, and one comes out long after the log."""
    if item == 58:
        return START + 4000 * 86_400
    return START - 1000 * 86_400 + item * 86_400 if item % 5 else None


def write_recbole(directory: Path) -> None:
    """shop.inter, shop.item, shop.user and shop.yaml."""

    def write(suffix: str, header: str, lines: list[tuple]) -> None:
        text = "\n".join("\t".join("" if cell is None else str(cell) for cell in line) for line in lines)
        (directory / f"shop.{suffix}").write_text(header.replace(" ", "\t") + "\n" + text + "\n", encoding="utf-8")

    log = [(user, item, rating and float(rating), seconds) for user, item, rating, seconds in rows()]
    write("inter", "user_id:token item_id:token rating:float timestamp:float", log)
    items = [(item_id(i), title(i), KINDS[i % 3], 2 + i / 4 if i % 9 else None, released(i)) for i in range(ITEMS)]
    write(
        "item", "item_id:token title:token_seq kind:token_seq price:float available_from:float",
        [*items, ("0099", None, None, None, START)],
    )  # fmt: skip
    people = [(f"u{u}", "Sankt-Märgen" if u % 4 else None, u % 9) for u in range(USERS)]
    write("user", "user_id:token town:token years:float", people)
    (directory / "shop.yaml").write_text(RECBOLE, encoding="utf-8")


def write_interchange(directory: Path) -> None:
    """market_*.jsonl and market.yaml; release times in milliseconds, events in seconds."""

    def write(table: str, lines: list[dict]) -> None:
        text = "\n".join(json.dumps(line, ensure_ascii=table == "item_feature") for line in lines)
        (directory / f"market_{table}.jsonl").write_text(text + "\n", encoding="utf-8")

    write(
        "interaction",
        [
            {
                "user_id": user, "item_id": item, "timestamp": seconds,
                "behavior_features": {"rating": rating, "basket": ["a", "b"]},
            }
            for user, item, rating, seconds in rows()
        ],
    )  # fmt: skip
    items = [
        {
            "item_id": item_id(i),
            "item_description": {"title": title(i), "kind": KINDS[i % 3], "price": 2 + i / 4 if i % 9 else None},
            "item_features": {"available_from": seconds and seconds * 1000} if (seconds := released(i)) else {},
        }
        for i in range(ITEMS)
    ]
    write("item_feature", [*items, {"item_id": "0099"}])
    towns = [{"town": "Sankt-Märgen"} if user % 4 else {} for user in range(USERS)]
    people = [
        {"user_id": f"u{user}", "user_description": town, "user_features": {"years": user % 9}}
        for user, town in enumerate(towns)
    ]
    write("user_feature", people)
    (directory / "market.yaml").write_text(INTERCHANGE, encoding="utf-8")


def write_lists(directory: Path) -> None:
    """The market under the name of lists, with what it showed at each purchase: in every list the item to come."""
    write_interchange(directory)
    for path in directory.glob("market_*"):
        path.rename(path.with_name(path.name.replace("market", "lists")))
    lists = []
    for number, (user, item, _, seconds) in enumerate(rows()[1:]):
        shown = [item, item_id(58), *(item_id((number * step + 7) % ITEMS) for step in (3, 5, 11))]
        lists.append(
            {
                "impression_id": str(number), "user_id": user, "timestamp": seconds,
                "items": sorted({*shown}), "clicked": [item],
            }
        )  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lists)
    (directory / "lists_impression.jsonl").write_text(text, encoding="utf-8")
    yaml = INTERCHANGE.replace("name: market", "name: lists") + "exposures: [logged, matched, hard, published]\n"
    (directory / "lists.yaml").write_text(yaml, encoding="utf-8")
    (directory / "market.yaml").unlink()
