"""What a reader of a scene sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.log.tables import load_tables
from usermirrorer.data.scenes.render import option_texts, render, time_differences
from usermirrorer.llm.prompts import history_entries


MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "just now"), (MINUTE - 1, "just now"), (MINUTE, "1 minute ago"), (HOUR - 1, "59 minutes ago"),
        (HOUR, "1 hour ago"), (2 * HOUR, "2 hours ago"), (DAY - 1, "23 hours ago"), (DAY, "1 day ago"),
        (29 * DAY, "29 days ago"), (30 * DAY, "1 month ago"), (364 * DAY, "12 months ago"), (365 * DAY, "1 year ago"),
        (800 * DAY, "2 years ago"),
    ],
)  # fmt: skip
def test_time_difference(milliseconds: int, text: str) -> None:
    assert time_differences(np.array([5, milliseconds, 0])).to_list() == ["just now", text, "just now"]


def write_raw(raw: Path) -> None:
    flags = "|".join(["0"] * 5 + ["1"] + ["0"] * 13)
    (raw / "u.item").write_bytes(
        (
            f"1|Cité, La (1995)|01-Jan-1995||u|{flags}\n2|New One (1998)|01-Jan-1998||u|{flags}\n"
            f"3|Braces {{x}} (1990)|01-Jan-1990||u|{flags}\n"
        ).encode("latin-1")
    )
    (raw / "u.user").write_text("7|23|F|other|94703\n8|40|M|writer|1\n")
    # One event at 1998-04-01 12:00:00, one 2 hours before, one 3 days before; two at the time of the scene itself.
    now = 891432000
    rows = [("7", "3", 2, now - 3 * 86400), ("7", "1", 4, now - 7200), ("7", "2", 5, now), ("8", "3", 1, now - 9)]
    (raw / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def test_ml_100k_scene_is_golden(tmp_path: Path) -> None:
    write_raw(tmp_path)
    (tmp_path / "zip_places.csv").write_text("zip,city,state\n94703,Berkeley,CA\n")
    prepare("ml-100k", tmp_path, tmp_path / "work")
    tables = load_tables(tmp_path / "work", "ml-100k")
    item = {name: row for row, name in enumerate(tables.items["item_id"].to_list())}
    user, now = np.array([0]), np.array([891432000_000])
    options = option_texts(tables, np.array([item["2"], item["3"]]), np.array([2]), now, user)
    (text,) = render(tables, user, now, np.array([10]), options).to_pylist()
    assert text["profile"] == "Gender: female\nAge: 23\nOccupation: other\nLocation: Berkeley, CA"
    assert text["history"] == (
        "rated Braces {x} (1990) - Comedy, 3 days ago: 2/5\nrated Cité, La (1995) - Comedy, 2 hours ago: 4/5"
    )
    assert text["action_list"] == ["[New Release] New One (1998) - Comedy", "Braces {x} (1990) - Comedy"]


def test_history_is_cut_at_its_oldest_end_and_unknown_values_leave_no_line(tmp_path: Path) -> None:
    write_raw(tmp_path)
    prepare("ml-100k", tmp_path, tmp_path / "work")
    tables = load_tables(tmp_path / "work", "ml-100k")
    user, now = np.array([0]), np.array([891432000_000])
    options = option_texts(tables, np.array([0, 1]), np.array([2]), now, user)
    (text,) = render(tables, user, now, np.array([1]), options).to_pylist()
    assert text["profile"] == "Gender: female\nAge: 23\nOccupation: other"
    assert history_entries(text["history"]) == ["rated Cité, La (1995) - Comedy, 2 hours ago: 4/5"]


def test_toy_scene(toy) -> None:
    log, items = toy.tables.log, toy.tables.items["text"].to_list()
    user = 3
    events = log.by_user.events[log.by_user.start[user] : log.by_user.start[user + 1]]
    time = log.time[events[4:5]]
    options = option_texts(toy.tables, np.array([0, 1]), np.array([2]), time, np.array([user]))
    (text,) = render(toy.tables, np.array([user]), time, np.array([3]), options).to_pylist()
    assert text["profile"] == ""
    assert text["history"] == "\n".join(f"chose {items[item]}" for item in log.item[events[1:4]])
    assert text["action_list"] == items[:2]
