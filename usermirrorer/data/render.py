"""Scenes as text: profile, history and options, from the templates of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from usermirrorer.data.log import ragged_ranges
from usermirrorer.data.prompts import SceneText, join_history
from usermirrorer.data.tables import Tables


HISTORY_MIN, HISTORY_MAX = 2, 10
"""Shown history entries are drawn uniformly from this range (paper, section 3)."""

NEW_RELEASE_DAYS = 365
DAY_MS = 86_400_000
_UNITS = ((365 * DAY_MS, "year"), (30 * DAY_MS, "month"), (DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"))


def time_difference(milliseconds: int) -> str:
    """The largest whole unit, as in `3 days ago`; under a minute is `just now`."""
    for length, unit in _UNITS:
        if milliseconds >= length:
            count = milliseconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def render(
    tables: Tables, user: np.ndarray, time: np.ndarray, options: Sequence[np.ndarray], history_len: np.ndarray
) -> list[SceneText]:
    """Texts of scenes: users (rows), times, the option items of each scene in order, and how much history to show."""
    domain = tables.domain
    items = tables.items["text"].to_list()
    available = tables.items["available_from"].to_numpy()
    profiles = [_profile(domain.profile, row) for row in tables.users[np.unique(user)].iter_rows(named=True)]
    profile_of = dict(zip(np.unique(user).tolist(), profiles, strict=True))
    histories = _histories(tables, user, time, history_len, items)
    texts: list[SceneText] = []
    for scene, (person, now, shown) in enumerate(zip(user.tolist(), time.tolist(), options, strict=True)):
        lines = [
            domain.option.format_map({"item": items[item], "new_release": _new_release(now - available[item])})
            for item in shown.tolist()
        ]
        texts.append({"profile": profile_of[person], "history": histories[scene], "action_list": lines})
    return texts


def _histories(
    tables: Tables, user: np.ndarray, time: np.ndarray, history_len: np.ndarray, items: list[str]
) -> list[str]:
    """The last `history_len` events of each user before each time, oldest first."""
    log, template = tables.log, tables.domain.history
    before = log.by_user.count(user, log.position(time))
    length = np.minimum(history_len, before)
    scene, index = ragged_ranges(log.by_user.start[user] + before - length, length)
    rows = log.by_user.events[index]
    behaviour = tables.behaviour[rows].to_dicts() if tables.behaviour.width else [{}] * len(rows)
    entries: list[list[str]] = [[] for _ in range(len(user))]
    ages = (time[scene] - log.time[rows]).tolist()
    for at, item, age, values in zip(scene.tolist(), log.item[rows].tolist(), ages, behaviour, strict=True):
        shown: dict[str, Any] = {
            "event": tables.domain.event,
            "item": items[item],
            "time_diff": time_difference(age),
            **values,
        }
        entries[at].append(template.format_map(shown))
    return [join_history(lines) for lines in entries]


def _profile(template: str, row: Mapping[str, Any]) -> str:
    """The profile, without the lines whose value is not known."""
    lines = []
    for line in template.splitlines():
        names = [part.partition("}")[0] for part in line.split("{")[1:]]
        if all(row[name] is not None for name in names):
            lines.append(line.format_map(row))
    return "\n".join(lines)


def _new_release(age_ms: int) -> str:
    """Marks items that came to exist within the last `NEW_RELEASE_DAYS`."""
    return "[New Release] " if age_ms <= NEW_RELEASE_DAYS * DAY_MS else ""
