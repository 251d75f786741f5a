"""Two recommenders, compared on simulated users before anybody real sees them.

    .venv/bin/python examples/simulate_lists.py [MODEL]

Each user is shown one list, three items from each recommender in turn, and picks. What counts is whose item it was, as
in an interleaving test online. MODEL is `tiny-base`, which runs on any CPU but knows nobody's taste, so expect a draw;
give the directory of a model that you trained (README) for an answer that means something. For users and items of a
prepared log, `usermirrorer simulate` renders the scenes for you (docs/your_own_log.md).
"""

from __future__ import annotations

import sys
from collections import Counter

from usermirrorer import Simulator
from usermirrorer.steps import Sampling


TASTES = ("sweet", "sour", "salty", "bitter", "spicy")
DISHES = ("cake", "tea", "soup", "pie", "bread", "jam", "noodles", "salad")
CATALOGUE = [f"{taste} {dish}" for taste in TASTES for dish in DISHES]
HISTORIES = {
    "anna": ["sweet cake", "sweet tea", "sour soup", "sweet jam"],
    "ben": ["spicy noodles", "salty bread", "spicy soup"],
    "cleo": ["bitter tea", "bitter salad", "sweet pie", "bitter jam"],
}


def popular(user: str, count: int) -> list[str]:
    """What everybody else chose most; dishes nobody chose yet follow in the order of the catalogue."""
    chosen = Counter(dish for other, dishes in HISTORIES.items() if other != user for dish in dishes)
    new = [dish for dish in CATALOGUE if dish not in HISTORIES[user]]
    return sorted(new, key=lambda dish: -chosen[dish])[:count]


def similar(user: str, count: int) -> list[str]:
    """New dishes that share most words with the user's own history."""
    words = Counter(word for dish in HISTORIES[user] for word in dish.split())
    new = [dish for dish in CATALOGUE if dish not in HISTORIES[user]]
    return sorted(new, key=lambda dish: -sum(words[word] for word in dish.split()))[:count]


def interleaved(first: list[str], second: list[str], each: int) -> dict[str, str]:
    """Item -> recommender: `each` items of both in turn, every item once."""
    shown: dict[str, str] = {}
    for _ in range(each):
        for name, ranked in (("popular", first), ("similar", second)):
            item = next(item for item in ranked if item not in shown)
            shown[item] = name
    return shown


def main(model: str) -> None:
    lists = {user: interleaved(popular(user, 20), similar(user, 20), 3) for user in HISTORIES}
    scenes = [
        {"profile": "", "history": "\n".join(f"chose {dish}" for dish in HISTORIES[user]), "action_list": list(shown)}
        for user, shown in lists.items()
    ]
    prompt = "plain" if model == "tiny-base" else None  # None: the instruction that the model was trained with
    answers = Simulator(model, prompt, samples=4).simulate(scenes, Sampling(max_tokens=48))

    wins: Counter[str] = Counter()
    for (user, shown), answer in zip(lists.items(), answers, strict=True):
        print(f"{user} picks {answer.option} ({shown[answer.option]}), after thoughts such as:")
        print(f"    {answer.rationales[0].text}")
        for name, probability in zip(shown.values(), answer.probs.tolist(), strict=True):
            wins[name] += probability
    for name, mass in sorted(wins.items()):
        print(f"{name}: {mass / len(lists):.2f} of the choices expected")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tiny-base")
