"""One scene of a prepared domain as text, with options chosen by the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import load_tables
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.data.scenes.render import option_texts, render
from usermirrorer.steps import SceneSettings


def rendered(
    name: str, raw: Path, work: Path, user_id: str, time: int, options: Sequence[str], history: int,
    snapshot: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """{profile, history, action_list} of a user at a time (UTC ms) with these options; `name` is as in `prepare`."""
    name = prepare(name, raw, work, snapshot=snapshot)["recipe"]["domain"]
    tables = load_tables(work, name)
    users, items = tables.users["user_id"].to_list(), tables.items["item_id"].to_list()
    user, now, count = np.array([users.index(user_id)]), np.array([time]), np.array([len(options)])
    listed = option_texts(tables, np.array([items.index(item) for item in options]), count, now, user)
    return render(tables, user, now, np.array([history]), listed).to_pylist()[0]


def scene_rows(name: str, raw: Path, work: Path) -> dict[str, int]:
    """Scenes of five options, at most 20, that each split of a raw data set gives under the domain's defaults."""
    prepare(name, raw, work)
    embed_items(name, work)
    settings = [SceneSettings(split, 20, min_exposure=5, max_exposure=5) for split in ("train", "test")]
    return {one.split: make_scenes(name, work, one)["rows"] for one in settings}


def lines(text: dict[str, Any]) -> str:
    """A scene as one text: profile, history and options, separated by blank lines."""
    return "\n\n".join(part for part in (text["profile"], text["history"], "\n".join(text["action_list"])) if part)
