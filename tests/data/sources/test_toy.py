"""Toy: the closed form is what the simulation does, and only the history reveals a taste."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.sources import toy
from usermirrorer.data.sources.toy import TASTES, best_given_taste, best_possible, generate, shown_tastes
from usermirrorer.errors import UserError


SEED = 3
tastes = st.sampled_from(TASTES)


@pytest.fixture(scope="module")
def tables():
    return generate(SEED)


@pytest.fixture(scope="module")
def scenes(tables):
    """(history tastes, option tastes, position chosen, own taste) of every occasion with 3 to 8 earlier ones."""
    taste_of = dict(zip(tables.items["item_id"], tables.items["taste"], strict=True))
    own = dict(zip(tables.users["user_id"], toy.latent_tastes(SEED), strict=True))
    rows = []
    for (user_id,), log in tables.impressions.sort("timestamp").group_by("user_id", maintain_order=True):
        chosen = [taste_of[clicked[0]] for clicked in log["clicked"]]
        for occasion in range(3, min(9, len(log))):
            shown = log["items"][occasion].to_list()
            position = shown.index(log["clicked"][occasion][0])
            rows.append((chosen[:occasion], [taste_of[item] for item in shown], position, TASTES[own[user_id]]))
    return rows


def test_posterior_given_history_is_calibrated_and_as_accurate_as_it_says(scenes):
    probs = np.stack([best_possible(history, options) for history, options, _, _ in scenes])
    chosen = np.array([position for _, _, position, _ in scenes])
    hit = probs[np.arange(len(chosen)), chosen]
    # If the closed form is the true law, E[p(chosen)] = E[sum p^2], and hits of the arg-max occur as often as it says.
    assert hit.mean() == pytest.approx((probs**2).sum(axis=1).mean(), abs=0.012)
    top = probs.max(axis=1)
    for low, high in [(0.0, 0.5), (0.5, 0.85), (0.85, 1.0)]:
        inside = (top > low) & (top <= high)
        error = 3 * np.sqrt(0.25 / inside.sum())
        assert (probs.argmax(axis=1) == chosen)[inside].mean() == pytest.approx(top[inside].mean(), abs=error)
    assert 0.65 < hit.mean() < 0.8


def test_choice_given_taste_follows_the_law(scenes):
    own = np.array([own in options for _, options, _, own in scenes])
    hit = np.array([options[position] == own for _, options, position, own in scenes])
    law = best_given_taste(TASTES[0], TASTES[: toy.LIST_LENGTH])[0]
    assert hit[own].mean() == pytest.approx(law, abs=0.015)
    assert own.mean() == pytest.approx(toy.LIST_LENGTH / len(TASTES), abs=0.015)


@given(st.lists(tastes, max_size=12), st.lists(tastes, min_size=2, max_size=12), st.randoms())
def test_best_possible_is_a_law_and_ignores_the_order_of_the_history(history, options, random):
    probs = best_possible(history, options)
    assert probs.sum() == pytest.approx(1.0) and (probs > 0).all()
    shuffled = random.sample(history, len(history))
    np.testing.assert_allclose(best_possible(shuffled, options), probs)


def test_same_seed_same_tables_other_seed_others(tables):
    again, other = generate(SEED), generate(SEED + 1)
    for name in ("users", "items", "interactions", "impressions"):
        assert getattr(tables, name).equals(getattr(again, name))
    assert not tables.interactions.equals(other.interactions)


def test_tables_hold_what_a_log_holds(tables):
    log = tables.impressions
    assert tables.interactions.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    assert tables.interactions["timestamp"].is_unique().all()
    taste_of = dict(zip(tables.items["item_id"], tables.items["taste"], strict=True))
    for shown, clicked, item_id in zip(
        log["items"].to_list(), log["clicked"].to_list(), tables.interactions["item_id"], strict=True
    ):
        assert clicked == [item_id] and item_id in shown
        assert len({taste_of[item] for item in shown}) == len(shown) == toy.LIST_LENGTH


def test_enough_scenes_after_the_time_split(tables):
    log = tables.interactions.sort("timestamp").with_columns(
        earlier=pl.int_range(pl.len()).over("user_id"), share=pl.int_range(pl.len()) / pl.len()
    )
    usable = log.filter(pl.col("earlier") >= 3)
    assert usable.filter(pl.col("share").is_between(0.2, 0.9)).height >= 4000
    assert usable.filter(pl.col("share") > 0.9).height >= 500


def test_popularity_is_skewed_but_tells_nothing_about_the_choice_within_a_list(tables):
    shown = tables.impressions.explode("items")
    counts = shown["items"].value_counts()["count"].sort(descending=True)
    assert counts[:12].sum() > 2 * counts[-36:].sum()
    popularity = dict(shown["items"].value_counts().iter_rows())
    best = [max(items, key=popularity.__getitem__) for items in tables.impressions["items"].to_list()]
    hits = np.mean([item == clicked[0] for item, clicked in zip(best, tables.impressions["clicked"], strict=True)])
    assert hits == pytest.approx(1 / toy.LIST_LENGTH, abs=0.02)


@given(st.lists(tastes, max_size=8), st.lists(tastes, min_size=2, max_size=8))
def test_posterior_reads_back_the_rendered_text(history, options):
    text = {
        "profile": "",
        "history": "\n".join(f"chose {taste} {toy.THINGS[i]}" for i, taste in enumerate(history)),
        "action_list": [f"{taste} {toy.THINGS[-i]}" for i, taste in enumerate(options)],
    }
    assert shown_tastes(text) == (list(history), list(options))


def test_posterior_refuses_text_of_another_domain():
    with pytest.raises(UserError, match="Casablanca"):
        shown_tastes({"profile": "", "history": "", "action_list": ["Casablanca (1942)", "sour tea"]})
