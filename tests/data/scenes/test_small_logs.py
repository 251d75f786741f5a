"""Logs that are too small, too short or too narrow: correct scenes, or one sentence that says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usermirrorer.data.audit.validate import validate
from usermirrorer.data.items.embeddings import embed_items
from usermirrorer.data.log.prepare import prepare
from usermirrorer.data.scenes.make import make_scenes
from usermirrorer.errors import StepFailed
from usermirrorer.steps import SceneSettings


YAML = """name: shop
format: recbole
columns: {user_id: user, item_id: item, timestamp: time}
event: bought
item: "{title}"
option: "{item}< | {sold:.0f} sold>"
as_of: {sold: count}
timestamps: s
"""

DAY = 86_400


def write(raw: Path, users: int, items: int, events: int, days: float, repeats: bool = True) -> Path:
    rng = np.random.default_rng(0)
    rows = sorted(
        zip(
            (1_700_000_000 + rng.random(events) * days * DAY).astype(int).tolist(),
            rng.integers(users, size=events).tolist(),
            rng.integers(items, size=events).tolist(),
            strict=True,
        )
    )
    lines = [f"u{user}\ti{item}\t{time}" for time, user, item in rows]
    (raw / "shop.inter").write_text("\n".join(["user:token\titem:token\ttime:float", *lines]) + "\n")
    titles = [f"i{item}\tThing {item}" for item in range(items)]
    (raw / "shop.item").write_text("\n".join(["item:token\ttitle:token_seq", *titles]) + "\n")
    (raw / "shop.yaml").write_text(YAML + f"repeats: {str(repeats).lower()}\n")
    return raw / "shop.yaml"


@pytest.mark.parametrize("exposure", ["matched", "hard", "published"])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((20, 40, 300, 90), id="300 events"),
        pytest.param((60, 50, 2000, 1), id="one day"),
        pytest.param((2, 50, 400, 90), id="two users"),
        pytest.param((80, 10, 1500, 90), id="ten items"),
        pytest.param((300, 200, 1500, 90), id="few events a user"),
    ],
)
@pytest.mark.parametrize("repeats", [True, False])
def test_a_small_log(tmp_path: Path, shape: tuple[int, int, int, float], exposure: str, repeats: bool) -> None:
    content = prepare(str(write(tmp_path, *shape, repeats)), tmp_path, tmp_path / "work")
    embed_items("shop", tmp_path / "work")
    for split in ("train", "test"):
        two_options = min(shape[0], 5) if exposure != "published" else 5
        settings = SceneSettings(split, 400, exposure, "", 2, two_options)
        try:
            made = make_scenes("shop", tmp_path / "work", settings)
        except StepFailed as failed:
            message = str(failed)
            assert message.startswith(f"shop {split}: no choice") and "\n" not in message and ";" in message
            # Fewer than two people, or the same item for all, can't share a list.
            assert content["choices"][split]["qualifying"] < 12
        else:
            assert 0 < made["rows"] <= 400
            assert sum(made["lengths"].values()) == made["rows"]
            if exposure != "published":
                assert made["probe"]["exact"]
                value, chance = made["probe"]["accuracy"]["value"], made["probe"]["chance"]
                assert value == pytest.approx(chance, abs=1e-9)
    failed = [check for check in validate(tmp_path / "work") if check.result == "failed"]
    assert [check for check in failed if check.name != "finished"] == []


def test_prepare_says_what_a_log_can_give(tmp_path: Path) -> None:
    content = prepare(str(write(tmp_path, 20, 40, 300, 90)), tmp_path, tmp_path / "work")
    embed_items("shop", tmp_path / "work")
    made = make_scenes("shop", tmp_path / "work", SceneSettings("train", 400))
    promised = content["choices"]["train"]
    assert promised.items() <= made["counts"].items()
    assert promised["qualifying"] == made["counts"]["kept"] + made["counts"]["left_over"]
    lost = sum(count for reason, count in promised.items() if reason not in ("choices_in_window", "qualifying"))
    assert promised["choices_in_window"] - lost == promised["qualifying"] > 100
