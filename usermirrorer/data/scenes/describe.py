"""Describes every option of every scene in numbers, as of its time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from usermirrorer.data.items.recency import LATEST
from usermirrorer.data.log.events import ragged_ranges
from usermirrorer.data.scenes.as_of import DAY_MS, user_free_numbers
from usermirrorer.data.scenes.draw import Drawn
from usermirrorer.data.scenes.features import Features
from usermirrorer.data.scenes.window import Window


SIMILARITY_LISTS = 256
"""Lists whose options' vectors are in memory at a time."""

CHOICE_WINDOWS = (100, 1000, 5000)
DAY_WINDOWS = (1, 7, 30)
"""Counts of an item are taken over so many of the latest choices, and over so many days."""


def describe_options(window: Window, drawn: Drawn, scores: Mapping[str, np.ndarray]) -> Features:
    """Features of drawn scenes; `scores` are those of the models over items, `(scenes, options)` each."""
    first, list_row = drawn.lists
    lists = drawn.take(first)
    shown = lists.options >= 0
    # Rows of the lists' options that make up the scenes' options.
    start = np.cumsum(lists.count) - lists.count
    scene, option = ragged_ranges(start[list_row], drawn.count)
    width = drawn.options >= 0
    user_free = {name: values[option] for name, values in _user_free(window, lists, shown).items()}
    item = drawn.options[width].astype(np.int64)
    return Features(
        scene_id=drawn.choices.scene_id,
        user=drawn.choices.user.astype(np.int64),
        count=drawn.count,
        choice=drawn.position,
        group=drawn.group,
        item=item,
        user_free=user_free,
        scene_time=_scene_time(window, drawn, scene),
        of_user=_of_user(window, drawn, user_free, scene),
        scores={name: values[width] for name, values in scores.items()},
    )


def _user_free(window: Window, lists: Drawn, shown: np.ndarray) -> dict[str, np.ndarray]:
    """What a list's options say to somebody who sees nothing of the user: float32 `(options of all lists,)` each."""
    tables, pool = window.tables, window.pool
    item, row = lists.options[shown], np.nonzero(shown)[0]
    padded = np.maximum(lists.options, 0)
    time = lists.group_time
    position = pool.position(time)
    before = pool.by_item.count(item, position[row])
    since = {f"chosen_in_{n}": position - n for n in CHOICE_WINDOWS}
    since |= {f"chosen_in_{n}_days": pool.position(time - n * DAY_MS) for n in DAY_WINDOWS}
    columns = {
        name: np.log1p(before - pool.by_item.count(item, np.maximum(low, 0)[row])) for name, low in since.items()
    }
    seen = tables.log.by_item.count(item, tables.log.position(time)[row])
    columns |= {"chosen_ever": np.log1p(before), "seen_ever": np.log1p(seen)}
    age = (time[row] - tables.available_from[item]) / DAY_MS
    columns["age_days"] = np.where(age >= 0, age, np.nan)
    columns |= {name: values[item] for name, values in window.text_statistics.items()}
    for name in ("content", "collaborative"):
        columns[f"{name}_similarity"] = _mutual_similarity(window.unit_vectors(name), padded, shown)[shown]
    columns["position"] = np.nonzero(shown)[1]
    columns["options"] = lists.count[row]
    for name in tables.domain.numbers:
        columns[f"shown_{name}"] = tables.items[name].cast(float).to_numpy()[item]
    values = user_free_numbers(tables, lists.choices.user[row], item, time[row])
    columns |= {f"shown_{name}": shown_values for name, shown_values in values.items()}
    return {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}


def _scene_time(window: Window, drawn: Drawn, row: np.ndarray) -> dict[str, np.ndarray]:
    """When the user chose, as a hint at what was chosen: float32 `(options,)` each. `row` is each option's scene."""
    time = drawn.choices.time
    columns = {
        "since_group": np.log1p((time - drawn.group_time) / DAY_MS)[row],
        "hour": (time % DAY_MS / 3_600_000)[row],
        "weekday": (time // DAY_MS % 7)[row],
        "day": ((time - window.start) / DAY_MS)[row],
    }
    return {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}


def _of_user(
    window: Window, drawn: Drawn, user_free: Mapping[str, np.ndarray], row: np.ndarray
) -> dict[str, np.ndarray]:
    """How far each option is from the items that the user chose last, in popularity, age and length of the text.

    float32 `(options,)` each; `row` is each option's scene.
    """
    pool, tables, choices = window.pool, window.tables, drawn.choices
    earlier = pool.by_user.count(choices.user, pool.position(choices.time))
    length = np.minimum(earlier, LATEST)
    scene, event = pool.by_user.between(choices.user, earlier - length, earlier)
    item = pool.item[event]
    age = (choices.time[scene] - tables.available_from[item]) / DAY_MS
    length_of = window.text_statistics["text_length"]
    # Name → what it is of each option, and of each earlier choice.
    typical = {
        "popularity": (window.popularity[drawn.options[drawn.options >= 0]], window.popularity[item]),
        "age_days": (user_free["age_days"], age),
        "text_length": (user_free["text_length"], length_of[item]),
    }
    columns = {"history": np.log1p(earlier)[row]}
    for name, (of_option, values) in typical.items():
        mean = np.bincount(scene, weights=values, minlength=len(drawn)) / np.maximum(length, 1)
        columns[f"{name}_apart"] = of_option - np.where(length > 0, mean, np.nan)[row]
    return {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}


def _mutual_similarity(unit: np.ndarray, item: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean cosine of each option with the others of its list: `(lists, options)`. `unit` is `(items, width)`."""
    similarity = np.zeros(item.shape, dtype=np.float32)
    for begin in range(0, len(item), SIMILARITY_LISTS):
        rows = slice(begin, begin + SIMILARITY_LISTS)
        vectors = unit[item[rows]]
        cosines = vectors @ vectors.transpose(0, 2, 1)
        others = width[rows, None, :] & ~np.eye(item.shape[1], dtype=bool)
        similarity[rows] = np.where(others, cosines, 0).sum(axis=2)
    return similarity / np.maximum(width.sum(axis=1, keepdims=True) - 1, 1)
