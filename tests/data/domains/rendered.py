"""One scene of a prepared domain as text, its options chosen by the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usermirrorer.data.prepare import prepare
from usermirrorer.data.render import render
from usermirrorer.data.tables import load_tables


def rendered(
    name: str, raw: Path, work: Path, user_id: str, time: int, options: Sequence[str], history: int,
    snapshot: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """{profile, history, action_list} of a user at a time (UTC ms) with these options; `name` is as in `prepare`."""
    name = prepare(name, raw, work, snapshot=snapshot)["recipe"]["domain"]
    tables = load_tables(work, name)
    users, items = tables.users["user_id"].to_list(), tables.items["item_id"].to_list()
    texts = render(
        tables, np.array([users.index(user_id)]), np.array([time]), np.array([items.index(item) for item in options]),
        np.array([len(options)]), np.array([history]),
    )  # fmt: skip
    return texts.to_pylist()[0]


def lines(text: dict[str, Any]) -> str:
    """A scene as one text: profile, history and options, parted by blank lines."""
    return "\n\n".join(part for part in (text["profile"], text["history"], "\n".join(text["action_list"])) if part)
