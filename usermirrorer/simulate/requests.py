"""A recommender's lists: requests in, rendered as scenes, and choices out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usermirrorer.data.artefacts.store import write_bytes
from usermirrorer.data.log.tables import Tables
from usermirrorer.data.scenes.render import HISTORY_MAX, option_texts, render
from usermirrorer.errors import UserError
from usermirrorer.llm.prompts import LABELS, SceneText
from usermirrorer.simulate.simulator import Answer


@dataclass(frozen=True)
class Request:
    """One list shown to one user."""

    user_id: str
    items: list[str]
    timestamp: int
    text: SceneText


def read_requests(path: Path, tables: Tables) -> list[Request]:
    """Requests of a JSONL file: {user_id, items[, timestamp]}, in UTC milliseconds, by default after the whole log.

    The history shown is the user's events before that time. Raises UserError with file:line.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give JSONL with lines {{user_id, items[, timestamp]}}")
    users = {user: row for row, user in enumerate(tables.users["user_id"].to_list())}
    items = {item: row for row, item in enumerate(tables.items["item_id"].to_list())}
    latest = int(tables.log.time[-1]) + 1
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    rows = [_request(line, f"{path}:{number}", users, items, latest) for number, line in lines if line.strip()]
    user = np.array([users[user] for user, _, _ in rows], dtype=np.int64)
    times = np.array([time for _, _, time in rows], dtype=np.int64)
    item = np.array([items[item] for _, shown, _ in rows for item in shown], dtype=np.int64)
    count = np.array([len(shown) for _, shown, _ in rows], dtype=np.int64)
    options = option_texts(tables, item, count, times, user)
    texts = render(tables, user, times, np.full(len(rows), HISTORY_MAX), options).to_pylist()
    return [Request(user, shown, time, text) for (user, shown, time), text in zip(rows, texts, strict=True)]


def write_choices(path: Path, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
    """Write one JSON line per request: item chosen, probability of every item, decision processes, unfinished ones."""
    lines = [
        {
            "user_id": request.user_id,
            "timestamp": request.timestamp,
            "items": request.items,
            "choice": request.items[answer.picked],
            "probs": [round(p, 6) for p in answer.probs.tolist()],
            "rationales": [process.text for process in answer.rationales],
            "unfinished": answer.unfinished,
        }
        for request, answer in zip(requests, answers, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def _request(
    line: str, where: str, users: dict[str, int], items: dict[str, int], latest: int
) -> tuple[str, list[str], int]:
    try:
        row: dict[str, Any] = json.loads(line)
        user, shown = str(row["user_id"]), [str(item) for item in row["items"]]
        time = int(row.get("timestamp", latest))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{where}: not a request ({error}); write {{"user_id": …, "items": […]}}') from None
    if user not in users:
        raise UserError(f"{where}: user {user!r} is not in the tables; leave it out or prepare a newer log")
    unknown = [item for item in shown if item not in items]
    if unknown:
        raise UserError(f"{where}: item {unknown[0]!r} is not in the tables; leave it out or prepare a newer log")
    if not 2 <= len(shown) <= len(LABELS) or len(set(shown)) < len(shown):
        raise UserError(f"{where}: {len(shown)} items; give 2 to {len(LABELS)} different ones")
    return user, shown, time
