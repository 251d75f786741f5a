"""Two recommenders, compared on simulated users before anybody real sees them.

    .venv/bin/python examples/simulate_lists.py [MODEL]

Each user is shown one list, three items from each recommender in turn, and picks. What counts is whose item it was, as
in an interleaving test online. The log is `toy`, which is prepared in `runs/lists` first; take your own instead
(docs/your_own_log.md). MODEL is `tiny-base`, which runs on any CPU but knows nobody's taste, so expect a draw; give
the directory of a model that you trained (README) for an answer that means something.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import polars as pl

from usermirrorer import Request, Simulator
from usermirrorer.data.log.prepare import prepare


WORK, USERS = Path("runs/lists"), 12


def popular(history: list[str], log: pl.DataFrame) -> list[str]:
    """What everybody chose most, without what is in the user's history."""
    ranked = log["item_id"].value_counts(sort=True)["item_id"].to_list()
    return [item for item in ranked if item not in history]


def similar(history: list[str], log: pl.DataFrame) -> list[str]:
    """The items that share most words with the history, the more popular first among equals."""
    words = Counter(word for item in history for word in item.split("-"))
    return sorted(popular(history, log), key=lambda item: -sum(words[word] for word in item.split("-")))


def interleaved(first: list[str], second: list[str], each: int) -> dict[str, str]:
    """Item -> recommender: `each` items of both in turn, every item once."""
    shown: dict[str, str] = {}
    for _ in range(each):
        for name, ranked in (("popular", first), ("similar", second)):
            item = next(item for item in ranked if item not in shown)
            shown[item] = name
    return shown


def main(model: str) -> None:
    prepare("toy", None, WORK)
    log = pl.read_parquet(WORK / "tables" / "toy" / "interactions.parquet")
    lists = {}
    for user in log["user_id"].unique(maintain_order=True)[:USERS]:
        history = log.filter(user_id=user)["item_id"].to_list()
        lists[user] = interleaved(popular(history, log), similar(history, log), 3)

    prompt = "plain" if model == "tiny-base" else None  # None: the instruction that the model was trained with
    users = Simulator.open(model, WORK, "toy", prompt=prompt, samples=4, max_tokens=48)
    choices = users.choose_all(Request(user, list(shown)) for user, shown in lists.items())

    wins: Counter[str] = Counter()
    for (user, shown), choice in zip(lists.items(), choices, strict=True):
        print(f"{user} picks {choice.item} ({shown[choice.item]}): {choice.rationale}")
        for item, probability in zip(choice.items, choice.probs.tolist(), strict=True):
            wins[shown[item]] += probability
    for name, mass in sorted(wins.items()):
        print(f"{name}: {mass / len(lists):.2f} of the choices expected")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tiny-base")
