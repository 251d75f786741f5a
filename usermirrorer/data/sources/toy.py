"""A synthetic domain with known choice probabilities: users with one latent taste choose from lists, with noise.

Every item is a thing with a taste ("sweet cake"). A list holds `LIST_LENGTH` items of different tastes, drawn within a
taste by a Zipf law, so some items are shown far more often than others. The choice is a softmax of `STRENGTH` times
"this item has my taste". What is shown does not depend on the user, and popularity plays no part in the choice. So the
best possible prediction from earlier choices has a closed form: `best_possible` for real impressions,
`best_possible_in_group` for matched groups. No honest model that sees the same choices can do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from usermirrorer.data.sources.domain import Domain, RawTables
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import SceneText, history_entries, without_evidence
from usermirrorer.steps import BUILT_EXPOSURES


TASTES = ("sweet", "salty", "sour", "bitter", "spicy", "smoky")
THINGS = ("cake", "soup", "tea", "pie", "bread", "rice", "salad", "sauce", "snack", "drink", "stew", "curry")
VERB = "chose"
LIST_LENGTH = 5
STRENGTH = 4.0
ZIPF = 1.0
USERS = 1000
OCCASIONS = (10, 18)
"""Fewest and most occasions per user."""

_START = 1704067200000
"""1 January 2024, UTC, in ms."""
_DAY = 86_400_000
_ENTRY_DAYS = 150
_STAY_DAYS = 40


def _normalised(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(weights, dtype=float) / np.sum(weights)


def best_given_taste(taste: str, option_tastes: Sequence[str]) -> np.ndarray:
    """Probability of every option for a user with this taste, `(options,)`, as the choices are drawn."""
    return _normalised([np.exp(STRENGTH) if option == taste else 1.0 for option in option_tastes])


def taste_likelihoods() -> tuple[float, float]:
    """Probability that a choice has the user's taste, and that it has any given other taste.

    The list behind a choice is summed out: a user's taste is on a list with probability n/K and is then chosen by the
    softmax; otherwise every other taste is equally likely.
    """
    tastes = len(TASTES)
    own = LIST_LENGTH / tastes * np.exp(STRENGTH) / (np.exp(STRENGTH) + LIST_LENGTH - 1)
    return own, (1 - own) / (tastes - 1)


def taste_posterior(history_tastes: Sequence[str]) -> np.ndarray:
    """Probability of every taste of `TASTES` given the tastes of the items chosen before, `(tastes,)`.

    The lists behind those choices are not shown. Tastes are uniform in the population.
    """
    own, other = taste_likelihoods()
    counts = np.array([sum(taste == shown for shown in history_tastes) for taste in TASTES])
    log_likelihood = counts * np.log(own) + (len(history_tastes) - counts) * np.log(other)
    return _normalised(np.exp(log_likelihood - log_likelihood.max()))


def best_possible(history_tastes: Sequence[str], option_tastes: Sequence[str]) -> np.ndarray:
    """Probability of every option of a real impression given the choices before it, `(options,)`."""
    given_taste = np.stack([best_given_taste(taste, option_tastes) for taste in TASTES])
    return taste_posterior(history_tastes) @ given_taste


def best_possible_in_group(history_tastes: Sequence[str], option_tastes: Sequence[str]) -> np.ndarray:
    """Probability of every option of a matched group given the user's earlier choices, `(options,)`.

    The options are what n people chose, and this user is one of them. That the user chose option k, and n − 1 people
    of unknown taste the others, has probability ∝ P(user chooses k) / P(anybody chooses k), as the product of the
    latter over all options is the same for every k. Within a taste, things are drawn without regard to who chooses, so
    the thing cancels; and since tastes are uniform, anybody's choice has each taste with probability 1/K. What is left
    is Σ_taste P(taste | history) · P(a choice has the option's taste | taste), normalised over the options.
    """
    own, other = taste_likelihoods()
    given_taste = np.where(np.array(TASTES)[:, None] == np.array(option_tastes)[None, :], own, other)
    return _normalised(taste_posterior(history_tastes) @ given_taste)


def shown_tastes(text: SceneText) -> tuple[list[str], list[str]]:
    """Tastes of the history and of the options of a rendered scene (lines "chose sweet cake", options "sour tea").

    Raises UserError if a line is not of this domain.
    """
    history = [_taste_of(entry.removeprefix(VERB).strip()) for entry in history_entries(text["history"])]
    return history, [_taste_of(without_evidence(option)) for option in text["action_list"]]


def _taste_of(title: str) -> str:
    taste = title.split(" ", 1)[0]
    if taste not in TASTES:
        raise UserError(f'"{title}" is not an item of toy; only scenes of toy have a best possible prediction')
    return taste


def items() -> pl.DataFrame:
    """The catalogue: item_id, title, taste, thing."""
    rows = [(f"{taste}-{thing}", f"{taste} {thing}", taste, thing) for taste in TASTES for thing in THINGS]
    return pl.DataFrame(rows, schema=["item_id", "title", "taste", "thing"], orient="row")


def generate(seed: int) -> RawTables:
    """The whole log of about 14,000 occasions in order of time; the same seed gives the same rows.

    `users` has only ids: the latent tastes are in `latent_tastes`, out of reach of what renders a scene.
    """
    rng = np.random.default_rng([seed, 1])
    times, users = _occasions(rng)
    shown, chosen = _lists_and_choices(rng, latent_tastes(seed)[users])
    catalogue = items()
    item_ids = catalogue["item_id"].to_numpy()
    user_ids = np.array([f"u{number:04d}" for number in range(USERS)], dtype=object)
    impressions = pl.DataFrame(
        {
            "impression_id": [f"s{number:05d}" for number in range(len(times))],
            "user_id": user_ids[users],
            "timestamp": times,
            "items": item_ids[shown].tolist(),
            "clicked": item_ids[np.take_along_axis(shown, chosen[:, None], axis=1)].tolist(),
        }
    )
    return RawTables(
        users=pl.DataFrame({"user_id": user_ids}),
        items=catalogue,
        interactions=impressions.select("user_id", pl.col("clicked").list.first().alias("item_id"), "timestamp"),
        impressions=impressions,
    )


def latent_tastes(seed: int) -> np.ndarray:
    """Index into `TASTES` of every user of `generate(seed)`, in order of user id; only for tests and bounds."""
    return np.random.default_rng([seed, 0]).integers(len(TASTES), size=USERS)


def _occasions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times (ms, strictly increasing, so no two occasions share one) and users: each enters, stays, and leaves."""
    counts = rng.integers(OCCASIONS[0], OCCASIONS[1] + 1, size=USERS)
    users = np.repeat(np.arange(USERS), counts)
    entry = rng.uniform(0, _ENTRY_DAYS, size=USERS)[users]
    days = entry + rng.uniform(0, _STAY_DAYS, size=len(users))
    order = np.argsort(days, kind="stable")
    return (_START + days[order] * _DAY).astype(np.int64) + np.arange(len(order)), users[order]


def _lists_and_choices(rng: np.random.Generator, tastes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the catalogue shown, `(occasions, LIST_LENGTH)`, and positions chosen, `(occasions,)`."""
    occasions = len(tastes)
    exposure = _normalised(1.0 / np.arange(1, len(THINGS) + 1) ** ZIPF)
    things_by_rank = np.stack([rng.permutation(len(THINGS)) for _ in TASTES])
    shown_tastes = rng.permuted(np.tile(np.arange(len(TASTES)), (occasions, 1)), axis=1)[:, :LIST_LENGTH]
    ranks = rng.choice(len(THINGS), size=shown_tastes.shape, p=exposure)
    shown = shown_tastes * len(THINGS) + things_by_rank[shown_tastes, ranks]
    # Gumbel noise on the log weights samples from the softmax, all rows at once.
    utility = STRENGTH * (shown_tastes == tastes[:, None]) + rng.gumbel(size=shown.shape)
    return shown, utility.argmax(axis=1)


TOY = Domain(
    name="toy",
    title="Toy: a synthetic log with real impressions and a known best possible prediction",
    publisher="embedded",
    licence="MIT",
    redistribute_text=True,
    raw_files={},
    read=lambda raw, seed: generate(seed),
    event=VERB,
    clock_ms=1,
    item="{title}",
    history="{event} {item}",
    repeats=True,
    exposures=("logged",),
)

TOY_LOG = replace(
    TOY,
    name="toy-log",
    title="Toy without its impressions: exposures have to be constructed",
    read=lambda raw, seed: replace(generate(seed), impressions=None),
    exposures=BUILT_EXPOSURES,
)
