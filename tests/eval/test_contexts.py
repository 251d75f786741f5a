"""What each context shows and hides."""

from __future__ import annotations

import polars as pl
import pytest
from handmade import frame, scene

from usermirrorer.errors import UserError
from usermirrorer.eval.contexts import anonymise_items, with_context
from usermirrorer.llm.prompts import has_evidence


def test_contexts_hide_what_they_say_and_nothing_else(scenes):
    assert with_context(scenes, "full").equals(scenes)
    hides = {"no-history": {"history"}, "no-profile": {"profile"}, "no-user": {"history", "profile"}}
    for context, hidden in hides.items():
        shown = with_context(scenes, context)
        for before, after in zip(scenes["text"], shown["text"], strict=True):
            assert all(after[name] == ("" if name in hidden else before[name]) for name in before)
        assert shown.drop("text").equals(scenes.drop("text"))
    with pytest.raises(UserError, match="context 'half'"):
        with_context(scenes, "half")


def test_a_swapped_history_is_another_users_of_the_same_dataset(scenes):
    marked = scenes.with_columns(
        text=pl.struct(
            pl.col("text").struct.field("profile"),
            pl.format("{} {}", "dataset", "user_id").alias("history"),
            pl.col("text").struct.field("action_list"),
        )
    )
    swapped = with_context(marked, "swapped-history", seed=1)
    donors = set()
    for before, after in zip(marked.iter_rows(named=True), swapped.iter_rows(named=True), strict=True):
        dataset, user = after["text"]["history"].split()
        assert dataset == before["dataset"] and user != before["user_id"]
        assert after["text"]["profile"] == before["text"]["profile"]
        donors.add(user)
    assert len(donors) > 15
    assert swapped.equals(with_context(marked, "swapped-history", seed=1))
    assert not swapped.equals(with_context(marked, "swapped-history", seed=2))


def test_evidence_is_hidden_with_the_history_it_speaks_of(scenes):
    words = [f"{option} (chosen often after these)" for option in ("tea", "cake")]
    told = frame(
        [scene(str(user), str(user), 0, options=2, text={**MOVIES, "action_list": words}) for user in range(2)]
    )
    assert [has_evidence(text) for text in told["text"]] == [True, True]
    for context in ("full", "no-profile"):
        assert with_context(told, context)["text"][0]["action_list"] == words
    for context in ("no-history", "no-user", "swapped-history"):
        assert with_context(told, context)["text"][0]["action_list"] == ["tea", "cake"]
    films = [f"{option} (chosen rarely after these)" for option in MOVIES["action_list"]]
    [text] = anonymise_items(
        frame([scene("1", "1", 0, options=3, dataset="ml-100k", text={**MOVIES, "action_list": films})])
    )["text"]
    assert text["action_list"][0] == "Item 1 (1995) - Action|Crime (chosen rarely after these)"


def test_a_lone_user_has_nobody_to_swap_with():
    with pytest.raises(UserError, match="no second user"):
        with_context(frame([scene("1", "1", 0), scene("1", "2", 0)]), "swapped-history")


MOVIES = {
    "profile": "Age: 20",
    "history": "rated Heat (1995) - Action|Crime, 2 days ago: 5/5\nrated Wars - Part, Two (1980) - War, just now: 3/5",
    "action_list": ["Heat (1995) - Action|Crime", "[New Release] Big, The - Comedy", "Solaris (1972) - Drama"],
}


def test_titles_become_the_same_neutral_name_in_history_and_options():
    rows = [scene("1", "1", 0, options=3, dataset=dataset, text=MOVIES) for dataset in ("ml-100k", "ml-1m")]
    for text in anonymise_items(frame(rows))["text"]:
        assert text == {
            "profile": "Age: 20",
            "history": "rated Item 1 (1995) - Action|Crime, 2 days ago: 5/5\nrated Item 2 (1980) - War, just now: 3/5",
            "action_list": ["Item 1 (1995) - Action|Crime", "[New Release] Item 3 - Comedy", "Item 4 (1972) - Drama"],
        }  # fmt: skip


def test_titles_that_cannot_be_recognised_are_refused():
    for dataset in ("shop", "toy"):
        with pytest.raises(UserError, match=f"titles of {dataset} can't be recognised"):
            anonymise_items(frame([scene("1", "1", 0, dataset=dataset)]))
    with pytest.raises(UserError, match="no title is recognised in"):
        anonymise_items(frame([scene("1", "1", 0, dataset="ml-100k")]))
